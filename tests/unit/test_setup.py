"""The set-up script's bookkeeping: what is due, what is not, and what an interruption leaves."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/setup.py, with a folder of its own for a project."""
    spec = importlib.util.spec_from_file_location("majlis_setup", ROOT / "tools" / "setup.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "majlis_setup", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "STAMPS", tmp_path / "stamps.json")
    (tmp_path / "lock").write_text("a==1")
    return module


def steps(setup: ModuleType, folder: Path) -> list[object]:
    """Two steps, the second needing the first."""
    made = [folder / "made-venv", folder / "made-packages", folder / "made-proxy"]
    return [
        setup.Step("venv", "", (), made[0], made[0].touch),
        setup.Step("packages", "", (folder / "lock",), made[1], made[1].touch),
        setup.Step("proxy", "", (folder / "lock",), made[2], made[2].touch),
    ]


def names(found: object) -> list[str]:
    """The names of steps."""
    return [step.name for step in found]  # type: ignore[attr-defined]


def finish(setup: ModuleType, step: object) -> None:
    """Do a step, and stamp it."""
    step.run()  # type: ignore[attr-defined]
    setup.stamp(step)


def test_everything_is_due_once(setup: ModuleType, tmp_path: Path) -> None:
    listed = steps(setup, tmp_path)
    assert names(setup.overdue(listed, setup.stamps())) == ["venv", "packages", "proxy"]
    for step in listed:
        finish(setup, step)
    assert names(setup.overdue(listed, setup.stamps())) == []


def test_an_interrupted_set_up_goes_on_where_it_stopped(setup: ModuleType, tmp_path: Path) -> None:
    listed = steps(setup, tmp_path)
    finish(setup, listed[0])
    (tmp_path / "made-packages").touch()  # begun, never finished: it has no stamp
    assert names(setup.overdue(listed, setup.stamps())) == ["packages", "proxy"]


def test_a_changed_lock_repeats_what_depends_on_it(setup: ModuleType, tmp_path: Path) -> None:
    listed = steps(setup, tmp_path)
    for step in listed:
        finish(setup, step)
    (tmp_path / "lock").write_text("a==2")
    assert names(setup.overdue(listed, setup.stamps())) == ["packages", "proxy"]


def test_a_lost_product_is_made_again(setup: ModuleType, tmp_path: Path) -> None:
    listed = steps(setup, tmp_path)
    for step in listed:
        finish(setup, step)
    (tmp_path / "made-proxy").unlink()
    assert names(setup.overdue(listed, setup.stamps())) == ["proxy"]


def test_stamps_that_cannot_be_read_mean_nothing_is_done(setup: ModuleType, tmp_path: Path) -> None:
    setup.STAMPS.write_text("{half")
    assert setup.stamps() == {}


def test_a_full_disk_is_told_before_anything_begins(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "NEEDED_GIB", 10**9)
    with pytest.raises(setup.SetupError, match="GiB are needed"):
        setup.check_disk()


def test_uv_is_told_what_pip_was_told(setup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/somewhere")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    found = setup.environment()
    assert found["UV_FIND_LINKS"] == "/somewhere"
    assert "PYTHONDONTWRITEBYTECODE" not in found


def test_a_failed_command_is_named(setup: ModuleType) -> None:
    with pytest.raises(setup.SetupError, match="failed \\(3\\)"):
        setup.call(sys.executable, "-c", "raise SystemExit(3)")
