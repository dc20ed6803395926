"""Environments of models that are code: what they ask for, and building it from a folder of wheels."""

import subprocess
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from majlis.cli import app
from majlis.errors import NotFound, Tampered, Unavailable
from majlis.serving.environments import WORKER_NEEDS, build, differences, interpreter, wanted
from tests.service.gateways import World


def model(folder: Path, *requirements: str, python: str | None = None) -> Path:
    """What MLflow writes beside a model."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "requirements.txt").write_text("\n".join(requirements))
    if python:
        (folder / "python_env.yaml").write_text(f"python: {python}\n")
    return folder


def written(folder: Path, *requirements: str) -> None:
    """The folder of an MLflow model, as far as a release needs it."""
    model(folder, *requirements)
    (folder / "MLmodel").write_text("flavors: {}\n")


def wheel(folder: Path, name: str, version: str) -> None:
    """A package with one module that knows its version."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        for path, content in files.items():
            file.writestr(path, content)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only source of packages; what the worker needs lies there as well."""
    folder = tmp_path / "wheels"
    for name in WORKER_NEEDS:
        wheel(folder, name, metadata.version(name))
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    return folder


def test_what_is_asked_and_what_differs(tmp_path: Path) -> None:
    installed = metadata.version("numpy")
    asked = wanted(
        model(tmp_path / "m", f"numpy=={installed}", "scipy==0.1", "unheard-of", 'x==1; python_version < "3"')
    )
    assert [package.name for package in asked.packages] == ["numpy", "scipy", "unheard-of"]
    assert differences(asked) == [
        f"scipy {metadata.version('scipy')} instead of ==0.1",
        "unheard-of is missing",
    ]
    assert differences(wanted(model(tmp_path / "old", python="2.7.18")))[0].endswith("instead of 2.7")


def test_models_that_ask_for_the_same_share_one(tmp_path: Path) -> None:
    one, two = wanted(model(tmp_path / "1", "a==1", "b==2")), wanted(model(tmp_path / "2", "b==2", "a==1"))
    assert one.name == two.name != wanted(model(tmp_path / "3", "a==1", "b==3")).name


def test_an_environment_is_built_from_wheels_and_once(tmp_path: Path, wheels: Path) -> None:
    wheel(wheels, "tinydep", "1.0")
    wheel(wheels, "tinydep", "2.0")
    asked, environments = wanted(model(tmp_path / "m", "tinydep==1.0")), tmp_path / "environments"
    assert interpreter(environments, asked) is None
    python = build(environments, asked)
    assert interpreter(environments, asked) == python == build(environments, asked)
    says = subprocess.check_output(
        [python, "-I", "-c", "import tinydep, msgspec; print(tinydep.__version__)"]
    )
    assert says == b"1.0\n"


def test_the_command_builds_it_for_a_release_that_verifies(
    tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(wheels, "tinydep", "1.0")
    monkeypatch.setenv("MAJLIS_GATEWAY_ENVIRONMENTS", str(tmp_path / "environments"))
    world = World(tmp_path / "home")
    folder = world.release("says-1", native=lambda folder: written(folder, "tinydep==1.0"))
    command = ["release", "environment", str(folder), "--public-key", str(world.public)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert interpreter(tmp_path / "environments", wanted(folder / "model"))
    (folder / "model" / "requirements.txt").write_text("tinydep==2.0")
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code and isinstance(refused.exception, Tampered)


def test_what_cannot_be_installed_is_told_and_leaves_nothing_usable(tmp_path: Path, wheels: Path) -> None:
    asked, environments = wanted(model(tmp_path / "m", "tinydep==3.0")), tmp_path / "environments"
    with pytest.raises(Unavailable, match="tinydep"):
        build(environments, asked)
    assert interpreter(environments, asked) is None
    wheel(wheels, "tinydep", "3.0")
    assert build(environments, asked).exists()


def test_a_python_that_is_not_there_is_not_fetched(tmp_path: Path, wheels: Path) -> None:
    with pytest.raises(NotFound, match=r"no Python 3\.99"):
        build(tmp_path / "environments", wanted(model(tmp_path / "m", python="3.99.1")))
