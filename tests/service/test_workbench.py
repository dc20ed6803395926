"""Starting, failing and ending: what the operator reads, and that nothing is left behind."""

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import open_folder
from tests.support.workbench import STOP_SECONDS, Workbench, free_ports

POLL_SECONDS = 0.2


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that users' servers can reach."""
    with open_folder() as place:
        yield place


def refused(bench: Workbench) -> str:
    """What a workbench says that does not start."""
    assert bench.begin().wait(STOP_SECONDS) == 1
    assert "Traceback" not in bench.said()
    return bench.said()


def gone(bench: Workbench, seconds: float = STOP_SECONDS) -> bool:
    """Are all its processes gone before the time is over?"""
    deadline = time.monotonic() + seconds
    while bench.processes():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def test_a_second_start_says_where_the_first_is(workbench: Workbench, tmp_path: Path) -> None:
    assert workbench.process is not None
    second = Workbench(tmp_path, {"MAJLIS_WORKBENCH_HOME": str(workbench.settings.home)})
    said = refused(second)
    assert f"already running, pid {workbench.process.pid}, at {workbench.url}" in said
    assert workbench.anonymous().get("/hub/health").status_code == 200


def test_a_taken_port_is_named_with_its_setting_and_its_taker(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taker:
        port = taker.getsockname()[1]
        said = refused(Workbench(tmp_path, {"MAJLIS_WORKBENCH_MLFLOW_PORT": str(port)}))
    assert f"[workbench] mlflow_port = {port} is taken by process {psutil.Process().pid}" in said
    assert "MAJLIS_WORKBENCH_MLFLOW_PORT=" in said


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("MAJLIS_WORKBENCH_PROT", "8000", "did you mean port?"),
        ("MAJLIS_WORKBENCH_PORT", "eighty", "MAJLIS_WORKBENCH_PORT = 'eighty'"),
        ("MAJLIS_GATEWAY_LOG_SAMPLE", "2", "at most 1"),
        ("MAJLIS_WORKBENCH_HOME", "/proc/nowhere", "[workbench] home = /proc/nowhere"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, variable: str, value: str, told: str) -> None:
    bench = Workbench(tmp_path)
    bench.environment |= {variable: value}
    assert told in refused(bench)


def test_ctrl_c_while_it_starts_leaves_nothing(folder: Path) -> None:
    bench = Workbench(folder)
    bench.begin()
    deadline = time.monotonic() + STOP_SECONDS
    while "proxy answers" not in bench.said():
        assert time.monotonic() < deadline, bench.said()
        time.sleep(POLL_SECONDS)
    assert bench.stop(signal.SIGINT) == 0
    assert gone(bench, seconds=1)
    assert "Traceback" not in bench.said()


def test_a_killed_supervisor_leaves_no_orphan_and_loses_nothing(folder: Path) -> None:
    bench = Workbench(folder).start()
    passwords = dict(bench.passwords)
    scientist = bench.person("scientist")
    scientist.run("import mlflow; mlflow.set_experiment('kept'); print('ok')")
    assert bench.stop(signal.SIGKILL) == -signal.SIGKILL
    assert gone(bench), [one.cmdline() for one in bench.processes()]

    again = Workbench(folder).start()
    try:
        assert again.passwords == passwords
        found = again.person("scientist").run(
            "import mlflow; print([one.name for one in mlflow.search_experiments()])"
        )
        assert "kept" in found
    finally:
        assert again.stop(signal.SIGTERM) == 0
    assert gone(again, seconds=1)


def test_a_component_that_cannot_start_is_told_with_its_last_words(folder: Path) -> None:
    (port,) = free_ports(1)
    bench = Workbench(folder, {"MAJLIS_TRACKING_URL": f"postgresql://nobody@127.0.0.1:{port}/nowhere"})
    bench.environment |= {"MAJLIS_WORKBENCH_START_TIMEOUT_SECONDS": "20"}
    said = refused(bench)
    assert "did not answer within 20 s" in said
    assert "hub.log" in said
    assert gone(bench, seconds=1)
