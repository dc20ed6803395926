"""Pipelines with real kernels: order, reuse, failure, interruption, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
import yaml
from nbformat.sign import NotebookNotary
from nbformat.v4 import new_code_cell, new_notebook

from majlis.errors import Conflict, Invalid, StepFailed
from majlis.pipelines.pipeline import run
from majlis.pipelines.runs import Run, State, StepRun, history, read
from tests.support import waiting

OUTPUT = "from majlis.pipelines.notebook import output\n"


class Pipeline:
    """A pipeline in a temporary folder."""

    def __init__(self, root: Path) -> None:
        self.folder, self.runs = root / "pipeline", root / "runs"
        self.folder.mkdir()
        self.steps: list[dict[str, Any]] = []

    def step(self, name: str, code: str, declared: str = "", **options: Any) -> "Pipeline":
        self.notebook(name, code, declared)
        self.steps.append({"name": name, "notebook": f"{name}.ipynb"} | options)
        return self.write()

    def notebook(self, name: str, code: str, declared: str = "") -> None:
        cells = [new_code_cell(declared, metadata={"tags": ["parameters"]}), new_code_cell(code)]
        nbformat.write(new_notebook(cells=cells), self.folder / f"{name}.ipynb")

    def write(self, **options: Any) -> "Pipeline":
        self.options = getattr(self, "options", {"name": "test"}) | options
        (self.folder / "pipeline.yaml").write_text(yaml.safe_dump(self.options | {"steps": self.steps}))
        return self

    def run(self, **options: Any) -> Run:
        return run(self.folder, options.pop("parameters", None), runs=self.runs, **options)

    def last(self) -> Run:
        return history(self.runs)[0]


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path)


def states(record: Run) -> dict[str, str]:
    return {step.name: str(step.state) for step in record.steps}


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `condition` gives, once it gives something; fails after a while."""
    return waiting.until(condition, seconds)


def test_outputs_go_to_the_steps_that_ask_for_them(pipeline: Pipeline) -> None:
    pipeline.step("c", OUTPUT + "output(z=y + 1)", "y = 0", parameters={"y": "${steps.b.outputs.y}"})
    pipeline.step("a", OUTPUT + "output(x=2)")
    pipeline.step("b", OUTPUT + "output(y=x * 10)", "x = 0", parameters={"x": "${steps.a.outputs.x}"})
    found = pipeline.run()
    assert found.step("c").outputs == {"z": 21}
    assert found.state is State.DONE
    assert found.step("a").usage.cpu_seconds > 0
    assert read(found.folder).model_dump() == found.model_dump()


def test_the_kernel_works_in_the_folder_and_may_keep_compiled_files(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    (pipeline.folder / "helper.py").write_text("x = 5")
    code = "import os, sys, helper\n" + OUTPUT
    code += "output(x=helper.x, here=os.getcwd(), off=sys.dont_write_bytecode, run=os.environ['MAJLIS_RUN'])"
    found = pipeline.step("a", code).run()
    assert found.step("a").outputs == {
        "x": 5,
        "here": str(pipeline.folder),
        "off": False,
        "run": f"test/{found.id}/a",
    }


def test_the_executed_notebook_is_trusted_by_whoever_ran_it(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    done = pipeline.step("a", "print('hello')").run()
    executed = nbformat.read(done.folder / done.step("a").executed, as_version=4)
    assert NotebookNotary(data_dir=str(tmp_path / "jupyter")).check_signature(executed)


def test_a_missing_output_names_what_there_is(pipeline: Pipeline) -> None:
    pipeline.step("a", OUTPUT + "output(version=1)")
    pipeline.step("b", "pass", "v = None", parameters={"v": "${steps.a.outputs.vresion}"})
    with pytest.raises(StepFailed, match="a handed on version"):
        pipeline.run()


def test_a_failing_cell_is_named_and_what_needs_it_is_skipped(pipeline: Pipeline) -> None:
    pipeline.step("a", "x = 1\nraise ValueError('no flights')")
    pipeline.step("b", "pass", after=["a"]).step("c", "pass", after=["b"])
    with pytest.raises(StepFailed) as error:
        pipeline.run()
    for part in (
        "step a",
        "cell 2/2",
        "ValueError: no flights",
        "raise ValueError",
        "01_a.ipynb",
        "--resume",
    ):
        assert part in str(error.value)
    found = pipeline.last()
    assert states(found) == {"a": "failed", "b": "skipped", "c": "skipped"}
    assert found.step("b").reason == "it needs a, which failed"
    failure = found.step("a").failure
    assert failure is not None
    assert (failure.error, failure.cell, failure.line) == ("ValueError", 2, "raise ValueError('no flights')")
    executed = nbformat.read(found.folder / "01_a.ipynb", as_version=4)
    assert any(output.output_type == "error" for cell in executed.cells for output in cell.get("outputs", []))


def test_retries_wait_longer_each_time_and_stop_when_it_works(pipeline: Pipeline) -> None:
    counter = pipeline.folder.parent / "count"
    code = (
        f"from pathlib import Path\np = Path({str(counter)!r})\nn = len(p.read_text()) if p.exists() else 0\n"
    )
    code += "p.write_text('x' * (n + 1))\nassert n == 2, 'not yet'"
    pauses = []

    def reporter(record: Run, step: StepRun | None) -> None:
        if step is not None and "the next begins in" in step.reason and step.reason not in pauses:
            pauses.append(step.reason)

    pipeline.step("a", code, retries=3, retry_wait_seconds=0.1)
    found = pipeline.run(reporter=reporter)
    assert found.step("a").attempts == 3
    assert [pause.rpartition(" in ")[2] for pause in pauses] == ["0.1 s", "0.2 s"]
    assert found.step("a").failure is None


def test_retries_end(pipeline: Pipeline) -> None:
    pipeline.step("a", "1 / 0", retries=1, retry_wait_seconds=0)
    with pytest.raises(StepFailed, match="ZeroDivisionError"):
        pipeline.run()
    assert pipeline.last().step("a").attempts == 2


def test_a_step_that_takes_too_long_is_stopped(pipeline: Pipeline) -> None:
    pipeline.step("a", "import time\ntime.sleep(60)", timeout_seconds=3)
    began = time.monotonic()
    with pytest.raises(StepFailed, match="timeout_seconds = 3"):
        pipeline.run()
    assert time.monotonic() - began < 20
    assert pipeline.last().step("a").failure.error == "Timeout"  # type: ignore[union-attr]


def test_a_kernel_that_dies_is_told(pipeline: Pipeline) -> None:
    pipeline.step("a", "import os\nos.kill(os.getpid(), 9)")
    with pytest.raises(StepFailed, match="its process ended"):
        pipeline.run()
    assert (pipeline.last().folder / "01_a.ipynb").exists()


def test_sys_exit_is_not_success(pipeline: Pipeline) -> None:
    pipeline.step("a", "import sys\nsys.exit('no data')")
    with pytest.raises(StepFailed, match="no data"):
        pipeline.run()


def test_independent_steps_run_at_the_same_time(pipeline: Pipeline) -> None:
    flags = pipeline.folder.parent

    def meet(mine: str, other: str) -> str:
        return (
            f"import time\nfrom pathlib import Path\nflags = Path({str(flags)!r})\n"
            f"(flags / {mine!r}).touch()\n"
            f"deadline = time.monotonic() + 30\nwhile not (flags / {other!r}).exists():\n"
            "    assert time.monotonic() < deadline\n    time.sleep(0.01)\n"
        )

    pipeline.step("a", meet("a", "b")).step("b", meet("b", "a")).write(max_parallel=2)
    assert states(pipeline.run()) == {"a": "done", "b": "done"}


def test_runs_at_the_same_time_keep_their_parameters(pipeline: Pipeline) -> None:
    pipeline.step("a", OUTPUT + "output(x=x)", "x = 0", parameters={"x": "${parameters.x}"})
    pipeline.write(parameters=[{"name": "x", "default": 0}])
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda x: pipeline.run(parameters={"x": x}), range(1, 4)))
    assert [record.step("a").outputs for record in found] == [{"x": 1}, {"x": 2}, {"x": 3}]
    assert len({record.folder for record in found}) == 3


def test_what_has_not_changed_is_reused_and_says_from_where(pipeline: Pipeline) -> None:
    pipeline.step("a", OUTPUT + "output(x=1)").step("b", OUTPUT + "output(y=x)", "x = 0", cache=False)
    first, second = pipeline.run(), pipeline.run()
    assert states(second) == {"a": "reused", "b": "done"}
    assert (second.step("a").reused_from, second.step("a").outputs) == (first.id, {"x": 1})
    assert second.step("b").reason == "it runs every time"
    assert (second.folder / "01_a.ipynb").read_text() == (first.folder / "01_a.ipynb").read_text()
    third = pipeline.run()
    assert third.step("a").reused_from == first.id
    assert states(pipeline.run(use_cache=False)) == {"a": "done", "b": "done"}
    assert "where it works" in pipeline.run(place={"lake": "elsewhere"}).step("a").reason


def test_a_step_whose_input_stays_the_same_is_reused_although_an_earlier_one_ran(pipeline: Pipeline) -> None:
    pipeline.step("a", OUTPUT + "output(x=1)")
    pipeline.step("b", OUTPUT + "output(y=x)", "x = 0", parameters={"x": "${steps.a.outputs.x}"})
    pipeline.run()
    pipeline.notebook("a", OUTPUT + "output(x=2 - 1)")
    assert states(pipeline.run()) == {"a": "done", "b": "reused"}


def test_a_failed_step_is_never_reused(pipeline: Pipeline) -> None:
    pipeline.step("a", "raise SystemError")
    for _ in range(2):
        with pytest.raises(StepFailed):
            pipeline.run()
    assert states(pipeline.last()) == {"a": "failed"}


def test_resuming_keeps_what_is_done_and_the_parameters(pipeline: Pipeline) -> None:
    stamp = pipeline.folder.parent / "ran"
    pipeline.step(
        "a",
        f"open({str(stamp)!r}, 'a').write('x')",
        "x = 0",
        cache=False,
        parameters={"x": "${parameters.x}"},
    )
    pipeline.step("b", "raise ValueError", after=["a"]).write(parameters=[{"name": "x", "default": 0}])
    with pytest.raises(StepFailed):
        pipeline.run(parameters={"x": 3})
    failed = pipeline.last()
    with pytest.raises(Invalid, match="resuming cannot change it"):
        pipeline.run(resume=failed.id, parameters={"x": 4})
    pipeline.notebook("b", "pass")
    found = pipeline.run(resume=failed.id)
    assert (found.id, states(found)) == (failed.id, {"a": "done", "b": "done"})
    assert found.parameters == {"x": 3}
    assert stamp.read_text() == "x"
    with pytest.raises(Conflict, match="is done"):
        pipeline.run(resume=failed.id)


def test_the_record_on_disk_is_never_behind_the_reporter(pipeline: Pipeline) -> None:
    seen = []

    def reporter(record: Run, step: StepRun | None) -> None:
        on_disk = json.loads((record.folder / "run.json").read_text())
        assert on_disk == json.loads(record.model_dump_json())
        if step is not None and step.state is State.RUNNING and step.cell:
            seen.append((step.cell, step.cells))

    pipeline.step("a", "pass", "x = 1").run(reporter=reporter)
    assert list(dict.fromkeys(seen)) == [(1, 2), (2, 2)]


# What happens to a process that runs a pipeline


@pytest.fixture
def started(pipeline: Pipeline) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `majlis run` on the pipeline; ends what is left."""
    processes = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "majlis.cli",
                "run",
                str(pipeline.folder),
                "--runs",
                str(pipeline.runs),
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def sleeper(pids: Path) -> str:
    """A cell that notes its kernel and a child of it, then sleeps."""
    return (
        "import os, subprocess, time\nfrom pathlib import Path\n"
        "child = subprocess.Popen(['sleep', '300'])\n"
        f"part = Path({str(pids)!r} + '.part'); part.write_text(f'{{os.getpid()}} {{child.pid}}')\n"
        f"part.rename({str(pids)!r})\ntime.sleep(300)"
    )


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_told_to_stop_ends_all_it_started(
    pipeline: Pipeline, started: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    pids = pipeline.folder.parent / "pids"
    pipeline.step("a", OUTPUT + "output(x=1)").step("b", sleeper(pids), after=["a"])
    process = started()
    kernel, child = map(int, until(lambda: pids.exists() and pids.read_text()).split())
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130, out
    assert "was interrupted" in out and "--resume" in out and "Traceback" not in out
    assert not alive(kernel) and not alive(child)
    found = pipeline.last()
    assert found.state is State.INTERRUPTED
    assert states(found) == {"a": "done", "b": "interrupted"}
    pipeline.notebook("b", "pass")
    resumed = started("--resume", "latest")
    out, _ = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, out
    assert states(pipeline.last()) == {"a": "done", "b": "done"}
    assert pipeline.last().id == found.id


def test_a_run_that_is_killed_leaves_no_kernel_and_can_be_resumed(
    pipeline: Pipeline, started: Callable[..., subprocess.Popen[str]]
) -> None:
    pids = pipeline.folder.parent / "pids"
    process = started() if pipeline.step("a", sleeper(pids)) else None
    assert process is not None
    kernel, child = map(int, until(lambda: pids.exists() and pids.read_text()).split())
    process.kill()
    process.wait()
    assert pipeline.last().state is State.INTERRUPTED
    try:
        until(lambda: not alive(kernel), 15)
    finally:
        if alive(child):
            os.kill(child, signal.SIGKILL)
    pipeline.notebook("a", "pass")
    assert pipeline.run(resume=pipeline.last().id).state is State.DONE


def test_a_run_in_progress_cannot_be_resumed(
    pipeline: Pipeline, started: Callable[..., subprocess.Popen[str]]
) -> None:
    pids = pipeline.folder.parent / "pids"
    pipeline.step("a", sleeper(pids))
    process = started()
    until(pids.exists)
    with pytest.raises(Conflict, match="is being executed already"):
        pipeline.run(resume=pipeline.last().id)
    assert pipeline.last().state is State.RUNNING
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def test_the_command_line_tells_what_happened_without_a_traceback(
    pipeline: Pipeline, started: Callable[..., subprocess.Popen[str]]
) -> None:
    pipeline.step("a", OUTPUT + "output(x=1)").step("b", "raise ValueError('no flights')")
    first = started()
    out, _ = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "a: there is no earlier result" in out
    assert "b: failed in cell 2\n" in out
    assert "Go on with: majlis run" in out and "Traceback" not in out
    pipeline.notebook("b", "pass")
    second = started()
    out, _ = second.communicate(timeout=60)
    assert second.returncode == 0, out
    assert f"a: reused from {history(pipeline.runs)[1].id}: nothing changed" in out
    for arguments, told in (
        (["-p", "x=1"], "no parameter 'x'"),
        (["--resume", "../x"], "is not the id of a run"),
    ):
        mistaken = started(*arguments)
        out, _ = mistaken.communicate(timeout=60)
        assert mistaken.returncode == 1
        assert told in out and "Traceback" not in out


def majlis(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "majlis.cli", *arguments], capture_output=True, text=True, timeout=120
    )


def test_a_run_is_reproduced_elsewhere_and_what_differs_is_told(pipeline: Pipeline) -> None:
    code = "import os, random\n" + OUTPUT + "output(number=random.Random({seed}).random(), home={home})"
    home = "os.environ['MAJLIS_WORKBENCH_HOME']"
    pipeline.step("a", code.format(seed=7, home=home), identities=["home"])
    pipeline.step("b", OUTPUT + "output(x=1)", after=["a"], reproduce=False).step("c", "pass", after=["b"])
    done = pipeline.run(environ={**os.environ, "MAJLIS_WORKBENCH_HOME": "here"})
    same = majlis("reproduce", done.id, "--runs", str(pipeline.runs))
    assert same.returncode == 0, same.stdout + same.stderr
    assert f"{done.id} was reproduced" in same.stdout and "left out: b, c" in same.stdout
    again = pipeline.last()
    assert states(again) == {"a": "done"}
    assert not Path(again.step("a").outputs["home"]).exists()
    pipeline.notebook("a", code.format(seed=8, home=home))
    other = majlis("reproduce", done.id, "--runs", str(pipeline.runs))
    assert other.returncode == 1
    assert (
        "a: different" in other.stdout
        and "the notebook's code" in other.stdout
        and "number was" in other.stdout
    )
    unknown = majlis("reproduce", "20260131-093000-a1b2c3", "--runs", str(pipeline.runs))
    assert unknown.returncode == 1 and "there is no run" in unknown.stderr


def test_a_schedule_starts_a_run_of_its_own(pipeline: Pipeline) -> None:
    pipeline.step("a", OUTPUT + "output(x=x)", "x = 0", parameters={"x": "${parameters.x}"})
    pipeline.write(parameters=[{"name": "x", "default": 0}])
    runs = ["--runs", str(pipeline.runs)]
    added = majlis(
        "schedule", "add", "often", str(pipeline.folder), "--cron", "* * * * *", "-p", "x=5", *runs
    )
    assert added.returncode == 0, added.stderr
    path = pipeline.runs / ".schedules" / "often.json"
    written = json.loads(path.read_text())
    path.write_text(json.dumps(written | {"settled": "2026-01-01T00:00:00Z"}))
    ticked = majlis("schedule", "tick", *runs)
    assert "often: started" in ticked.stdout, ticked.stderr
    found = until(lambda: next((run for run in history(pipeline.runs) if run.state is State.DONE), None), 60)
    assert found.step("a").outputs == {"x": 5}
    assert found.id in majlis("schedule", "list", *runs).stdout
    wrong = majlis("schedule", "add", "Not a name", str(pipeline.folder), "--cron", "* * * * *", *runs)
    assert wrong.returncode == 1 and "Traceback" not in wrong.stderr
