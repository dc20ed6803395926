"""Hostile models: what they try when they are loaded, and that nothing comes of it."""

import os
import pickle
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from majlis.control.checking import Job, run, suspect
from majlis.control.containment import Contained, Limits, ModelProcess
from majlis.errors import MajlisError
from majlis.governance.checks import Limits as Thresholds

SMALL = Limits(timeout_seconds=60, cpu_seconds=20, memory_gib=1.5, processes=64, file_gib=0.01)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a process a user of its own")


class Attack:
    """Runs its source when it is unpickled, as any pickle can."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.source,)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can enter: what protects a file in it is not the way there."""
    made = Path(tempfile.mkdtemp(prefix="majlis-hostile-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def folder(place: Path) -> Path:
    made = place / "model"
    made.mkdir()
    return made


def hostile(folder: Path, source: str) -> Path:
    """An MLflow model that runs `source` when it is loaded."""
    (folder / "MLmodel").write_text(
        "flavors:\n"
        "  python_function: {loader_module: mlflow.sklearn, model_path: model.pkl, python_version: 3.11.0}\n"
        "  sklearn: {pickled_model: model.pkl, serialization_format: pickle, sklearn_version: 1.0}\n"
    )
    (folder / "model.pkl").write_bytes(pickle.dumps(Attack(source)))
    return folder


def attempt(folder: Path, source: str, limits: Limits = SMALL, hidden: tuple[Path, ...] = ()) -> str:
    """Load a hostile model in a model process, past every scan; what came back is what it told."""
    with ModelProcess(limits, hidden) as process:
        try:
            process.load(hostile(folder, source))
        except MajlisError as error:
            return error.message
    return "loaded"


TELL = "raise RuntimeError('told: ' + {})"


def test_environment_holds_no_secret(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "hub-token")
    monkeypatch.setenv("MAJLIS_STORE_URL", "postgresql://majlis:hunter2@db/x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-secret")
    told = attempt(folder, "import os; " + TELL.format("repr(dict(os.environ))"))
    assert "told: " in told
    assert not any(secret in told for secret in ("hub-token", "hunter2", "aws-secret", "TOKEN"))


def test_signing_key_cannot_be_read(folder: Path, place: Path) -> None:
    control = place / "control"
    control.mkdir(mode=0o700)
    key = control / "signing.pem"
    key.write_text("-----BEGIN PRIVATE KEY-----")
    key.chmod(0o600)
    told = attempt(folder, TELL.format(f"open({str(key)!r}).read()"), hidden=(control,))
    assert "BEGIN PRIVATE KEY" not in told and "Error" in told


@root_only
def test_signing_key_cannot_be_read_by_its_own_user_either(folder: Path, place: Path) -> None:
    """Even where the folder is not hidden, the model process is somebody else."""
    key = place / "signing.pem"
    key.write_text("-----BEGIN PRIVATE KEY-----")
    key.chmod(0o600)
    told = attempt(folder, TELL.format(f"open({str(key)!r}).read()"))
    assert "PermissionError" in told
    assert str(SMALL.user) in attempt(folder, "import os; " + TELL.format("str(os.getuid())"))
    assert "Error" in attempt(folder, "import os; os.setuid(0); " + TELL.format("'root'"))


@root_only
def test_other_processes_cannot_be_looked_into(folder: Path) -> None:
    reading = f"open('/proc/{os.getpid()}/environ').read()"
    assert "Error" in attempt(folder, TELL.format(reading))
    assert "Error" in attempt(folder, f"import os; os.kill({os.getpid()}, 0); " + TELL.format("'killed'"))


@root_only
def test_nobody_can_be_phoned(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard: list[Any] = []
        server.settimeout(0.5)
        port = server.getsockname()[1]
        listening = threading.Thread(target=lambda: heard.append(accepted(server)))
        source = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5); " + TELL.format(
            "'called'"
        )
        told = attempt(folder, source)
        listening.start()
        listening.join()
    assert "told" not in told and "OSError" in told or "Refused" in told
    assert heard == [None]


def accepted(server: socket.socket) -> Any:
    try:
        return server.accept()
    except TimeoutError:
        return None


def test_memory_is_limited(folder: Path) -> None:
    told = attempt(folder, "kept = [bytearray(2**26) for _ in range(2000)]")
    assert "MemoryError" in told or "ended" in told


def test_disk_is_limited(folder: Path) -> None:
    told = attempt(
        folder,
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with open('big', 'wb') as f:\n    for _ in range(1000): f.write(bytes(2**20))",
    )
    assert "OSError" in told or "ended" in told


def test_processor_time_is_limited(folder: Path) -> None:
    told = attempt(folder, "while True: pass", Limits(timeout_seconds=60, cpu_seconds=8, memory_gib=4))
    assert "processor time" in told or "killed" in told


def test_waiting_is_limited(folder: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(Contained, match="no answer within"):
        process = ModelProcess(SMALL)
        with process:
            process.limits = Limits(timeout_seconds=5)
            process.load(hostile(folder, "import time; time.sleep(1000)"))
    assert time.monotonic() - begun < 50


@root_only
def test_a_fork_bomb_ends_with_its_process(folder: Path) -> None:
    told = attempt(
        folder,
        "import os, time\n"
        "while True:\n"
        "    try:\n"
        "        if os.fork() == 0:\n"
        "            os.setsid()\n"
        "            time.sleep(1000)\n"
        "    except OSError as error:\n"
        "        raise RuntimeError(f'told: {error}')",
    )
    assert "told: " in told
    deadline = time.monotonic() + 20
    while owned(SMALL.user) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert owned(SMALL.user) == []


def owned(user: int) -> list[str]:
    """Processes of a user."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if place.stat().st_uid == user:
                found.append(place.name)
        except FileNotFoundError:
            continue
    return found


def test_answers_are_never_unpickled(folder: Path, place: Path) -> None:
    """A model process that writes what it likes on the pipe gets an error, not an execution."""
    place.chmod(0o777)
    owned_file = place / "owned"
    payload = pickle.dumps(Attack(f"open({str(owned_file)!r}, 'w')"))
    source = (
        "import os, struct\n"
        f"payload = {payload!r}\n"
        "head = b'{\"ok\": true}'\n"
        "for fd in range(3, 20):\n"
        "    try: os.write(fd, struct.pack('!II', len(head), len(payload)) + head + payload)\n"
        "    except OSError: pass"
    )
    with ModelProcess(SMALL) as process:
        try:
            answers = process.load(hostile(folder, source))(pd.DataFrame({"x": [1.0]}))
            assert isinstance(answers, np.ndarray)
        except (MajlisError, ValueError):
            pass
    assert not owned_file.exists()


def test_a_hostile_version_is_failed_before_anything_is_loaded(folder: Path, place: Path) -> None:
    touched = place / "touched"
    place.chmod(0o777)
    hostile(folder, f"open({str(touched)!r}, 'w').close()")
    rows = place / "rows.parquet"
    pd.DataFrame({"x": [0.0, 1.0], "late": [0, 1]}).to_parquet(rows)
    job = Job(
        folder=str(folder),
        rows=str(rows),
        target="late",
        checks=("artifact_scan", "signature", "better_than_baseline"),
        limits=Thresholds(),
    )
    result = run(job)
    assert [check.verdict for check in result.checks] == ["failed", "error", "error"]
    assert "exec" in result.checks[0].reason and "not safe to load" in result.checks[1].reason
    assert not touched.exists()


ATTACKS = {
    "reads the key": "raise RuntimeError(open('{key}').read())",
    "phones home": "import socket; socket.create_connection(('127.0.0.1', {port}), 5); open('{mark}', 'w')",
    "fills memory": "kept = [bytearray(2**26) for _ in range(2000)]",
    "burns time": "while True: pass",
}


@root_only
@pytest.mark.parametrize("attack", ATTACKS)
def test_what_gets_past_the_scan_is_contained_and_fails(place: Path, folder: Path, attack: str) -> None:
    """Without a scan in between, nothing comes of it either, and no check passes."""
    control = place / "control"
    control.mkdir(mode=0o700)
    (control / "signing.pem").write_text("-----BEGIN PRIVATE KEY-----")
    place.chmod(0o777)
    rows = place / "rows.parquet"
    pd.DataFrame({"x": [0.0, 1.0], "late": [0, 1]}).to_parquet(rows)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        source = ATTACKS[attack].format(key=control / "signing.pem", port=port, mark=place / "called")
        job = Job(
            folder=str(hostile(folder, source)),
            rows=str(rows),
            target="late",
            checks=("signature", "better_than_baseline"),
            limits=Thresholds(),
            allowance=Limits(timeout_seconds=60, cpu_seconds=10, memory_gib=1.5),
            hidden=(str(control),),
        )
        result = run(job)
    assert [check.verdict for check in result.checks] == ["error", "error"]
    assert "PRIVATE KEY" not in str(result) and not (place / "called").exists()
    assert suspect(result) == (attack == "burns time")  # its process had to be stopped
