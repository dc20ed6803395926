"""The record of a run, and what may be reused."""

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from majlis import clock
from majlis.errors import Conflict, Invalid, NotFound
from majlis.pipelines.cache import Cache, difference, key_of, no_longer
from majlis.pipelines.runs import (
    Process,
    Run,
    State,
    StepRun,
    Usage,
    create,
    held,
    history,
    load,
    new_id,
    read,
    write_whole,
)


def make(runs: Path, **changes: Any) -> Run:
    step = StepRun(name="a", notebook="a.ipynb", executed="01_a.ipynb")
    values = {
        "id": new_id(),
        "pipeline": "flights",
        "title": "",
        "source": ".",
        "parameters": {},
        "started_at": clock.now(),
        "steps": [step],
    }
    return create(runs, Run.model_validate(values | changes))


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path, texts, stop = (
        tmp_path / "run.json",
        [json.dumps(["x" * n]) for n in (10, 200_000)],
        threading.Event(),
    )
    write_whole(path, texts[0])

    def write() -> None:
        while not stop.is_set():
            for text in texts:
                write_whole(path, text)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(300):
            json.loads(path.read_text())
    finally:
        stop.set()
        writer.join()
    assert [found.name for found in tmp_path.iterdir()] == ["run.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["run.json"]


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    write_whole(tmp_path / "whole", "")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize(
    "id", ["", "..", "../../etc", "20260131-093000-xyz", "20260131-093000-a1b2c3/..", "a\0b"]
)
def test_only_ids_become_paths(tmp_path: Path, id: str) -> None:
    with pytest.raises(Invalid, match="is not the id of a run"):
        load(tmp_path, "flights", id)
    with pytest.raises(Invalid, match="is not the id of a run"):
        make(tmp_path, id=id)


def test_ids_do_not_meet(tmp_path: Path) -> None:
    run = make(tmp_path)
    with pytest.raises(Conflict, match="already"):
        make(tmp_path, id=run.id)
    assert len({new_id() for _ in range(1000)}) > 990


def test_a_run_whose_process_is_gone_reads_as_interrupted(tmp_path: Path) -> None:
    run = make(tmp_path, state=State.RUNNING, process=Process.current())
    with run.change():
        run.step("a").begin(State.RUNNING)
    assert read(run.folder).state is State.RUNNING
    for pid in (os.getpid(), 2**22 + 1):  # the number of another process, and of none
        with run.change():
            run.process = gone = Process(host=socket.gethostname(), pid=pid, started=0.0)
        found = read(run.folder)
        assert (found.state, found.step("a").state) == (State.INTERRUPTED, State.INTERRUPTED)
    with run.change():
        run.process = gone.model_copy(update={"host": "elsewhere"})
    assert read(run.folder).state is State.RUNNING


def test_history_leaves_out_what_it_cannot_read(tmp_path: Path) -> None:
    run = make(tmp_path)
    (tmp_path / "flights" / "20260131-093000-a1b2c3").mkdir()
    (tmp_path / "flights" / "20260131-093000-a1b2c3" / "run.json").write_text("{}")
    assert [found.id for found in history(tmp_path)] == [run.id]
    assert history(tmp_path, "other") == []
    with pytest.raises(NotFound):
        load(tmp_path, "flights", "20990131-093000-a1b2c3")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    run = make(tmp_path)
    with held(run), pytest.raises(Conflict), held(read(run.folder)):
        pass
    with held(run):
        pass


def test_usage_adds_up() -> None:
    one = Usage(seconds=1, cpu_seconds=2, memory_gib_seconds=3, peak_memory_gib=4)
    two = Usage(seconds=1, cpu_seconds=1, memory_gib_seconds=1, peak_memory_gib=1)
    assert one + two == Usage(seconds=2, cpu_seconds=3, memory_gib_seconds=4, peak_memory_gib=4)


def key(folder: Path, code: str = "x = 1", parameters: Any = None, place: Any = None) -> dict[str, str]:
    cells = [new_markdown_cell("# Title"), new_code_cell(code)]
    return key_of(new_notebook(cells=cells), folder, parameters or {}, place or {})


def test_each_part_of_the_key_matters_and_is_told(tmp_path: Path) -> None:
    before = key(tmp_path)
    assert difference(key(tmp_path), before) == "nothing changed"
    assert difference(key(tmp_path, code="x = 2"), before) == "the notebook's code changed"
    assert difference(key(tmp_path, parameters={"a": None}), before) == "a parameter changed"
    assert "lake" in difference(key(tmp_path, place={"lake": "s3://x"}), before)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "helper.py").write_text("x = 1")
    (tmp_path / "__pycache__").mkdir()
    after = key(tmp_path)
    assert difference(after, before) == "a Python file beside it changed"
    (tmp_path / "__pycache__" / "helper.py").touch()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / "helper.py").touch()
    assert key(tmp_path) == after
    (tmp_path / "lib" / "helper.py").rename(tmp_path / "lib" / "other.py")
    assert key(tmp_path) != after


@pytest.mark.parametrize("same", [({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({"a": [1, 2]}, {"a": [1, 2]})])
def test_parameters_compare_by_value(tmp_path: Path, same: tuple[Any, Any]) -> None:
    assert key(tmp_path, parameters=same[0]) == key(tmp_path, parameters=same[1])


def test_true_is_not_one(tmp_path: Path) -> None:
    assert key(tmp_path, parameters={"a": True}) != key(tmp_path, parameters={"a": 1})
    assert key(tmp_path, parameters={"a": 1.0}) != key(tmp_path, parameters={"a": 1})


def test_an_entry_counts_only_while_its_run_is_there(tmp_path: Path) -> None:
    run = make(tmp_path)
    (run.folder / "01_a.ipynb").touch()
    cache, digests = Cache(tmp_path), key(tmp_path)
    with run.change():
        run.step("a").key = digests
        run.step("a").end(State.DONE)
    cache.remember(run, run.step("a"))
    assert cache.find(digests) is not None
    assert cache.find({**digests, "code": "other"}) is None
    (run.folder / "01_a.ipynb").rename(run.folder / "gone")
    assert cache.find(digests) is None
    (run.folder / "gone").rename(run.folder / "01_a.ipynb")
    with run.change():
        run.step("a").end(State.FAILED)
    assert cache.find(digests) is None
    cache.entry(digests).write_text("{broken")
    assert cache.find(digests) is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return None", ""),
        ("return ''", ""),
        ("return outputs['why']", "because"),
        ("print('noise'); return None", ""),
        ("raise ValueError('no table')", "still:so failed: ValueError: no table"),
        ("import os; os._exit(3)", "still:so failed: exit status 3"),
        ("import time; time.sleep(60)", "still:so gave no answer in 2 seconds"),
    ],
)
def test_a_check_answers_or_counts_as_no(tmp_path: Path, body: str, told: str) -> None:
    (tmp_path / "still.py").write_text(f"def so(outputs):\n    {body}\n")
    assert no_longer(tmp_path, "still:so", {"why": "because"}, timeout_seconds=2) == told


def test_a_check_that_is_not_there_counts_as_no(tmp_path: Path) -> None:
    assert "No module named 'still'" in no_longer(tmp_path, "still:so", {})


def test_ids_sort_by_the_moment_they_were_made() -> None:
    made = []
    for _ in range(50):
        made.append(new_id())
        before = clock.now()
        while clock.now() == before:
            pass
    assert made == sorted(made)
