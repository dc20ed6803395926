"""The images' Dockerfile: what it copies exists, what it runs works here, and what it installs is pinned."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from majlis.settings import load
from tests.support.images import DOCKERFILE, Image, images, is_sent
from tests.support.kustomize import resolved
from tests.support.workbench import ROOT

IMAGES = images()
FINAL = {name: image for name, image in IMAGES.items() if name in ("workbench", "hub", "server")}
KUBERNETES = ROOT / "hub_config" / "kubernetes"
VALUES = yaml.safe_load((KUBERNETES / "values.yaml").read_text())
TRACKED = subprocess.run(
    ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split("\n")
SECONDS = 120


def tracked_below(path: str) -> list[str]:
    """The repository's files at a path."""
    return [name for name in TRACKED if name == path or name.startswith(f"{path}/")]


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_copied_is_in_the_repository_and_sent_to_the_builder(name: str) -> None:
    for copy in IMAGES[name].copies:
        if copy.source:
            assert copy.source in IMAGES
            continue
        for path in copy.paths:
            files = tracked_below(path)
            assert files, f"COPY {path}: there is no such file in the repository"
            assert any(is_sent(file) for file in files), f".dockerignore keeps {path} back"


@pytest.mark.parametrize(
    "path",
    ["var/control/signing.pem", ".git/config", ".venv/bin/python", "tests/conftest.py", "node_modules/x/y.js"]
    + ["accounts", "majlis/__pycache__/cli.pyc", "extensions/majlis-lab/node_modules/x.js", "secret.env"]
    + ["notebooks/flight_delay/reports/run.ipynb", "extensions/majlis-lab/majlis_lab/labextension/x.js"],
)
def test_state_secrets_and_what_was_built_here_stay_here(path: str) -> None:
    assert not is_sent(path)


def test_every_file_that_an_image_needs_is_sent() -> None:
    for folder in ("majlis", "spawner", "hub_config", "templates", "notebooks", "extensions/majlis-lab"):
        kept = [path for path in tracked_below(folder) if not is_sent(path)]
        assert kept == [], "tracked, and kept back by .dockerignore"


@pytest.mark.parametrize("name", FINAL)
def test_an_image_runs_as_nobody_of_power_and_holds_no_secret(name: str) -> None:
    image = FINAL[name]
    uid, _, gid = image.user.partition(":")
    assert int(uid) > 0 and int(gid) > 0, "numbers: a cluster cannot tell whether a name is root"
    words = DOCKERFILE.read_text()
    assert not re.search(r"(?i)(password|token|secret|private.key)\s*[=:]", words)
    assert not re.search(r"https?://|index-url|trusted-host", words), (
        "where packages come from is the builder's"
    )


def test_the_ids_are_those_that_pods_run_as() -> None:
    cluster, server = load(environ={}).kubernetes, FINAL["server"]
    assert server.user == f"{cluster.user_id}:{cluster.group_id}"
    assert server.folder == server.env["HOME"] == cluster.home
    for pod in workloads():
        context = pod["securityContext"]
        assert FINAL["workbench"].user == f"{context['runAsUser']}:{context['runAsGroup']}"
    (run,) = [each for each in FINAL["workbench"].runs if "useradd" in each]
    assert f"--uid {cluster.user_id} --gid {cluster.group_id} --create-home --home-dir {cluster.home}" in run


def workloads() -> list[dict[str, Any]]:
    """The pods of our own manifests."""
    return [
        doc["spec"]["template"]["spec"]
        for doc in resolved(KUBERNETES)
        if doc["kind"] in ("Deployment", "StatefulSet")
    ]


def test_the_manifests_and_the_charts_values_name_these_images() -> None:
    named = {container["image"] for pod in workloads() for container in pod["containers"]}
    named |= {
        f"{VALUES[part]['image']['name']}:{VALUES[part]['image']['tag']}" for part in ("hub", "singleuser")
    }
    assert {reference.rpartition("/")[2].partition(":")[0] for reference in named} == set(FINAL)
    readme = (KUBERNETES / "README.md").read_text()
    for reference in named:
        target = reference.rpartition("/")[2].partition(":")[0]
        assert f"--target {target} --tag {reference} ." in readme


def test_a_workload_finds_its_folder_its_settings_and_its_program_in_the_image() -> None:
    files = FINAL["workbench"].files
    for pod in workloads():
        (container,) = pod["containers"]
        assert container["workingDir"] == FINAL["workbench"].folder
        program, flag, module = container["command"]
        assert (program, flag) == ("python", "-m")
        package = files[f"{container['workingDir']}/majlis"]
        assert (package.parent / Path(*module.split("."))).with_suffix(".py").is_file()
    assert files[FINAL["workbench"].env["MAJLIS_SETTINGS"]] == ROOT / "settings.ini"
    assert files[VALUES["hub"]["extraEnv"]["PYTHONPATH"] + "/hub_config"] == ROOT / "hub_config"


@pytest.mark.parametrize("name", FINAL)
def test_what_an_image_starts_with_is_installed(name: str) -> None:
    init, dashes, *wrapped = FINAL[name].entrypoint
    assert (init, dashes) == ("tini", "--")
    assert re.search(rf"apt-get install [^&]*\b{init}\b", " ".join(FINAL["workbench"].runs))
    for script in wrapped:
        place = ROOT / script.removeprefix("/srv/majlis/")
        assert os.access(place, os.X_OK), f"{script} cannot be executed"
    program = FINAL[name].command[0]
    found = Path(sys.executable).parent / program
    arguments = ["--help"] if program != "python" else ["-c", f"import {FINAL[name].command[-1]}"]
    assert subprocess.run([found, *arguments], cwd=ROOT, capture_output=True, timeout=SECONDS).returncode == 0


def test_the_servers_first_script_fills_a_home_and_starts_the_server(tmp_path: Path) -> None:
    place = ROOT / "hub_config" / "images" / "server.sh"
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.txt").write_text("mine")
    environment = {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(
        [place, "sh", "-c", "echo started; exit 7"], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (7, "started\n"), done.stderr
    assert (home / "mine.txt").read_text() == "mine"
    assert list((home / "start").glob("*.ipynb"))
    assert (home / "notebooks" / "flight_delay").is_dir()


def test_the_modules_compile_in_a_folder_that_holds_what_the_image_does(tmp_path: Path) -> None:
    """The image's own RUN line, over copies of the image's own files."""
    image = FINAL["workbench"]
    for target, here in image.files.items():
        place = tmp_path / target.removeprefix(f"{image.folder}/")
        if here.is_dir():
            shutil.copytree(here, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(here, place)
    (run,) = [each for each in image.runs if "compileall" in each]
    path = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(run.split(), cwd=tmp_path, env=path, check=True, timeout=SECONDS)
    told = subprocess.run(
        ["python", "-m", "majlis.cli", "settings", "check"],
        cwd=tmp_path,
        env=path | {"HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert told.returncode == 0, told.stderr


def test_everything_that_the_image_installs_is_pinned() -> None:
    """`--constraint` pins what the lock names; what it does not name would come in any version."""
    (run,) = [each for each in IMAGES["packages"].runs if "pip install" in each]
    assert run == "pip install --constraint requirements.lock --editable ."
    lock = [line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()]
    pinned = {canonicalize_name(name) for name in lock}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    todo = [Requirement(line) for line in project["dependencies"]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        wanted = todo.pop()
        mark = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if mark in seen:
            continue
        seen.add(mark)
        assert mark[0] in pinned, f"{wanted.name} is in no line of requirements.lock"
        for line in requires(wanted.name) or []:
            needed = Requirement(line)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in (*wanted.extras, "")
            ):
                todo.append(needed)
    assert len(seen) > len(project["dependencies"])


def test_the_stage_that_builds_the_extension_has_what_its_build_asks_for() -> None:
    """Nothing else provides it: the build is not isolated."""
    install, build = IMAGES["lab"].runs
    assert "--no-build-isolation" in build
    given = {str(Requirement(word)) for word in shlex.split(install) if "=" in word}
    project = tomllib.loads((ROOT / "extensions" / "majlis-lab" / "pyproject.toml").read_text())
    assert set(project["build-system"]["requires"]) <= given
    node = re.search(r'NODE_WHEEL = "(.+)"', (ROOT / "tools" / "setup.py").read_text())
    assert node and node[1] in given, "the same Node as tools/setup.py brings"


def test_an_images_base_is_one_of_ours_or_the_one_argument() -> None:
    for image in IMAGES.values():
        base: Image | str = image.base
        assert isinstance(base, Image) or base == "${PYTHON}"
