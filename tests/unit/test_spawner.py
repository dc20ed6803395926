"""Profiles, seeding and isolation: pure rules, no server."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hub_config import roles
from majlis.access import KERNEL_SCOPES, Role, Scope
from majlis.errors import Forbidden, Invalid
from majlis.settings import Profile, load
from spawner import limits, profiles
from spawner.isolation import closed_to_others
from spawner.seed import NOTE, plant, seed

PROFILES = {
    "small": Profile(title="Small", groups=("scientist", "owner")),
    "gpu": Profile(title="GPU <b>", kind="gpu", gpu=1, groups=("engineer",)),
}


def test_people_see_the_profiles_of_their_groups_in_the_files_order() -> None:
    assert list(profiles.entitled(PROFILES, ["scientist"])) == ["small"]
    assert list(profiles.entitled(PROFILES, ["engineer", "owner"])) == ["small", "gpu"]
    assert profiles.entitled(PROFILES, []) == {}


@pytest.mark.parametrize(
    ("groups", "options", "chosen"),
    [
        (["scientist"], {}, "small"),
        (["engineer", "owner"], {"profile": "gpu"}, "gpu"),
        (["engineer"], {}, "gpu"),
    ],
)
def test_a_profile_is_chosen(groups: list[str], options: dict[str, str], chosen: str) -> None:
    assert profiles.choose(PROFILES, groups, options)[0] == chosen


@pytest.mark.parametrize(
    ("groups", "options", "error", "told"),
    [
        (["scientist"], {"profile": "gpu"}, Forbidden, "for the groups engineer"),
        (["scientist"], {"profile": "nope"}, Invalid, "Yours are: small"),
        (["scientist"], {"profile": ["small"]}, Invalid, "Yours are: small"),
        ([], {}, Forbidden, "you are in none"),
    ],
)
def test_what_is_not_open_is_refused(
    groups: list[str], options: dict[str, object], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        profiles.choose(PROFILES, groups, options)


def test_the_form_escapes_and_is_empty_without_a_choice() -> None:
    assert profiles.form(profiles.entitled(PROFILES, ["scientist"]), limits.unenforced) == ""
    form = profiles.form(PROFILES, lambda profile: ["no <i>GPU</i> is set aside"] if profile.gpu else [])
    assert "GPU &lt;b&gt;" in form
    assert form.count("Here: no &lt;i&gt;GPU&lt;/i&gt; is set aside.") == 1
    assert profiles.options_of({"profile": ["gpu"]}) == {"profile": "gpu"}
    assert profiles.options_of({}) == {}


@pytest.mark.parametrize("name", list(load().profiles))
def test_every_profile_of_ours_says_what_this_machine_does_not_enforce(name: str) -> None:
    profile = load().profiles[name]
    assert limits.usable_cores(profile)
    assert limits.unenforced(profile)
    assert int(limits.environment(profile)["OMP_NUM_THREADS"]) >= 1


def test_a_server_is_told_of_the_profiles_that_runs_of_its_person_may_have() -> None:
    settings = load().model_copy(update={"profiles": PROFILES})
    person = SimpleNamespace(user=SimpleNamespace(groups=[SimpleNamespace(name="scientist")]))
    shown = {"name": "small", "title": "Small", "size": "2 cores, 4 GiB", "description": ""}
    assert json.loads(profiles.offer(settings)(person)) == [shown]
    assert profiles.offer(settings, shared=False)(person) == "[]"
    none = settings.workbench.model_copy(update={"run_servers": 0})
    assert profiles.offer(settings.model_copy(update={"workbench": none}))(person) == "[]"


LIMITED = Profile(title="A", groups=("scientist",), cpu_limit=1, memory_limit_gib=0.25, cpu_guarantee=0,
                  memory_guarantee_gib=0)  # fmt: skip
TOO_MUCH = """
import os, resource
print(len(os.sched_getaffinity(0)), resource.getrlimit(resource.RLIMIT_CORE)[1])
bytearray(2**29)
"""


def test_a_process_cannot_have_more_than_its_profile_says() -> None:
    command = [sys.executable, "-S", "-c", TOO_MUCH]
    ended = subprocess.run(command, preexec_fn=limits.apply(LIMITED), capture_output=True, text=True)
    assert ended.stdout.split() == ["1", "0"], "cores, and the size of a core dump"
    assert ended.returncode != 0
    assert "MemoryError" in ended.stderr
    enough = LIMITED.model_copy(update={"memory_limit_gib": 2})
    assert subprocess.run(command, preexec_fn=limits.apply(enough), capture_output=True).returncode == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "the memory limit holds for each process"),
        ({"cpu_guarantee": 1}, "guarantees are not reserved"),
        ({"memory_guarantee_gib": 0.1}, "guarantees are not reserved"),
        ({"cpu_limit": 4096}, "cores, not 4096"),
        ({"kind": "gpu", "gpu": 1}, "no nvidia.com/gpu is set aside"),
        ({"kind": "restricted"}, "the way out to the network is not closed"),
    ],
)
def test_what_is_not_enforced_is_told_where_it_was_promised(change: dict[str, Any], told: str) -> None:
    promised = LIMITED.model_copy(update=change)
    assert any(told in fact for fact in limits.unenforced(promised))
    assert not change or not any(told in fact for fact in limits.unenforced(LIMITED))


def test_images_do_not_apply_on_this_machine() -> None:
    profile = Profile(title="A", groups=("scientist",), images=("registry.example.org/a:1",))
    assert any("no image is used" in fact for fact in limits.unenforced(profile))
    assert not any("image" in fact for fact in limits.unenforced(PROFILES["small"]))
    profiles.on_this_machine("a", {"profile": "a"})
    with pytest.raises(Invalid, match="image does not apply here"):
        profiles.on_this_machine("a", {"profile": "a", "image": "registry.example.org/a:1"})
    with pytest.raises(Invalid, match="Options are: profile"):
        profiles.on_this_machine("a", {"color": "red"})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A project's notebooks."""
    folder = tmp_path / "source"
    (folder / "pipeline").mkdir(parents=True)
    (folder / "pipeline" / "a.ipynb").write_text("one")
    (folder / "pipeline" / "b.ipynb").write_text("two")
    return folder


def test_a_new_home_gets_everything(source: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert seed(source, home) == ["pipeline/a.ipynb", "pipeline/b.ipynb"]
    assert seed(source, home) == []
    assert (home / "pipeline/a.ipynb").read_text() == "one"
    assert set(json.loads((home / NOTE).read_text())) == {"pipeline/a.ipynb", "pipeline/b.ipynb"}


def test_what_a_person_edited_or_deleted_stays_so(source: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    seed(source, home)
    (home / "pipeline/a.ipynb").write_text("mine")
    (home / "pipeline/b.ipynb").unlink()
    (source / "pipeline/a.ipynb").write_text("newer")
    assert seed(source, home) == []
    assert (home / "pipeline/a.ipynb").read_text() == "mine"
    assert not (home / "pipeline/b.ipynb").exists()


def test_what_a_person_left_alone_is_renewed(source: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    seed(source, home)
    (source / "pipeline/a.ipynb").write_text("newer")
    assert seed(source, home) == ["pipeline/a.ipynb"]
    assert (home / "pipeline/a.ipynb").read_text() == "newer"


def test_the_first_notebooks_lie_beside_the_pipelines(source: Path, tmp_path: Path) -> None:
    (source / "start").mkdir()
    (source / "start" / "first.ipynb").write_text("first")
    home = tmp_path / "home"
    written = ["notebooks/pipeline/a.ipynb", "notebooks/pipeline/b.ipynb", "start/first.ipynb"]
    assert plant(source, home) == written
    assert plant(source, home) == []
    assert all((home / name).is_file() for name in written)
    assert not (home / "notebooks" / "start").exists()
    (home / "start/first.ipynb").write_text("mine")
    (source / "start" / "first.ipynb").write_text("newer")
    assert plant(source, home) == []
    assert (home / "start/first.ipynb").read_text() == "mine"


def test_a_closed_folder_is_named(tmp_path: Path) -> None:
    place = tmp_path / "closed" / "inner"
    place.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    tmp_path.chmod(0o755)
    found = closed_to_others(place)
    assert found is not None
    assert found in place.parents


def test_no_kernel_and_no_plain_session_can_decide() -> None:
    deciding = {scope.value for scope in Scope} - {scope.value for scope in KERNEL_SCOPES}
    assert deciding.isdisjoint(roles.server_token_scopes())
    assert deciding.isdisjoint(roles.session_scopes(roles.CONTROL))
    assert deciding <= set(roles.session_scopes(roles.CONTROL, deciding=True))


def test_no_role_of_the_hub_enters_other_peoples_servers_or_makes_them_tokens() -> None:
    for role in Role:
        scopes = set(roles.role_of(role)["scopes"])
        assert scopes.isdisjoint(
            {"access:servers", "tokens", "admin:users", "admin:groups", "groups", "admin:auth_state"}
        )


def test_demo_rights_vanish_with_the_demo_accounts() -> None:
    scopes = {role["name"]: role["scopes"] for role in roles.service_roles(demo_accounts=False)}
    assert not [scope for scope in scopes["workbench-service"] if "scientist" in scope]
    assert all(group["users"] == [] for group in roles.groups(demo_accounts=False).values())
