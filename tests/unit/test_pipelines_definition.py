"""pipeline.yaml: what is refused, and what the message says."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from majlis.errors import Invalid, NotFound
from majlis.pipelines.definition import filled, find_cycle, read, references


def write_notebook(path: Path, declared: str = "", code: str = "pass") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [new_code_cell(declared, metadata={"tags": ["parameters"]}), new_code_cell(code)]
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_notebook(tmp_path / "a.ipynb", "months = [1]")
    write_notebook(tmp_path / "b.ipynb", "version: int | None = None")
    return tmp_path


def pipeline(**changes: Any) -> dict[str, Any]:
    return {
        "name": "flights",
        "parameters": [{"name": "months", "default": [1]}],
        "steps": [
            {"name": "a", "notebook": "a.ipynb", "parameters": {"months": "${parameters.months}"}},
            {"name": "b", "notebook": "b.ipynb", "parameters": {"version": "${steps.a.outputs.version}"}},
        ],
    } | changes


def step(**changes: Any) -> dict[str, Any]:
    return {"steps": [{"name": "a", "notebook": "a.ipynb"} | changes]}


def write(folder: Path, content: Any) -> None:
    (folder / "pipeline.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))


def test_steps_need_those_they_refer_to(folder: Path) -> None:
    write(folder, pipeline())
    assert [found.needs for found in read(folder).steps] == [[], ["a"]]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (pipeline(nme="x"), "nme: no such key. Did you mean name?"),
        (pipeline(**step(retry=1)), "steps.0.retry: no such key. Did you mean retries?"),
        (pipeline(parameters=[{"name": "x", "defualt": 1}]), "Did you mean default?"),
        (pipeline(name="Flights"), "name: "),
        (pipeline(name="../x"), "name: "),
        (pipeline(steps=[]), "steps: "),
        (pipeline(**step(retries="3")), "steps.0.retries: Input should be a valid integer (given: '3')"),
        (pipeline(**step(retries=-1)), "greater than or equal to 0"),
        (pipeline(**step(cache="no way")), "steps.0.cache"),
        (pipeline(**step(timeout_seconds=0)), "greater than 0"),
        (pipeline(**step(valid_if="os.system")), "steps.0.valid_if"),
        (pipeline(**step(notebook="../a.ipynb")), "inside the pipeline's folder"),
        (pipeline(**step(notebook="/etc/a.ipynb")), "inside the pipeline's folder"),
        (pipeline(**step(notebook="a.py")), "inside the pipeline's folder"),
        (pipeline(**step(after=["z"])), "needs 'z', which is no step"),
        (pipeline(**step(after=["a"])), "a → a"),
        (pipeline(**step(parameters={"month": [1]})), "a.ipynb has no parameter 'month'"),
        (pipeline(**step(parameters={"months": "x"})), "the parameter months is 'x' (str)"),
        (pipeline(**step(parameters={"months": "${parameters.mnths}"})), "Did you mean months?"),
        (pipeline(**step(parameters={"months": "${months}"})), "cannot be read"),
        (pipeline(parameters=[{"name": "x"}, {"name": "x"}]), "two parameters called 'x'"),
        (pipeline(parameters=[{"name": "x", "type": "int", "default": "1"}]), "the parameter x is '1'"),
        (pipeline(parameters=[{"name": "x", "type": "date"}]), "parameters.0.type"),
        (pipeline(parameters=[{"name": "token"}]), "looks like a secret"),
        (
            {"steps": [{"name": n, "notebook": "a.ipynb"} for n in ("a", "a")], "name": "x"},
            "two steps called 'a'",
        ),
        ("name: x\nname: y\n", "'name' is there twice"),
        ("name: [", "is not YAML"),
        ("- a", "the file: "),
        ("", "the file: "),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_what_could_not_run_is_refused_with_its_place(folder: Path, content: Any, told: str) -> None:
    write(folder, content)
    with pytest.raises(Invalid) as error:
        read(folder)
    assert told in str(error.value)


def test_a_missing_file_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Give the folder of a pipeline"):
        read(tmp_path)
    with pytest.raises(NotFound):
        read(tmp_path / "nowhere")


def test_a_missing_notebook_is_found_before_anything_runs(folder: Path) -> None:
    write(folder, pipeline())
    (folder / "b.ipynb").unlink()
    with pytest.raises(NotFound, match=r"b\.ipynb"):
        read(folder)


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"nbformat": 4}'])
def test_a_broken_notebook_is_named(folder: Path, content: str) -> None:
    write(folder, pipeline())
    (folder / "b.ipynb").write_text(content)
    with pytest.raises(Invalid, match=r"b\.ipynb"):
        read(folder)


def test_one_notebook_is_a_pipeline(tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "My Report (v2).ipynb", "rows = 3\nname: str | None = None")
    found = read(path)
    assert (found.name, found.title) == ("my_report_v2", "My Report (v2)")
    assert [parameter.declaration().allowed for parameter in found.parameters] == [("int",), ("str", "None")]


def test_references_keep_types_alone_and_become_text_inside() -> None:
    values = {"months": [1, 2], "year": 2013}
    given = {"x": "${parameters.months}", "y": ["of ${parameters.year}, ${parameters.year}"], "z": 3}
    found = filled(given, lambda match: values[match["parameter"]])
    assert found == {"x": [1, 2], "y": ["of 2013, 2013"], "z": 3}
    assert len(list(references(given))) == 3


@pytest.mark.parametrize(
    ("needs", "cycle"),
    [
        ({"a": [], "b": ["a"], "c": ["a", "b"]}, []),
        ({"a": ["c"], "b": ["a"], "c": ["b"]}, ["a", "c", "b", "a"]),
        ({"x": ["a"], "a": ["b"], "b": ["a"]}, ["a", "b", "a"]),
    ],
)
def test_cycles_are_named_without_what_only_leads_to_them(
    needs: dict[str, list[str]], cycle: list[str]
) -> None:
    assert find_cycle(needs) == cycle


PIPELINES = sorted(path.parent for path in Path("notebooks").glob("*/pipeline.yaml"))


@pytest.mark.parametrize("folder", PIPELINES, ids=lambda folder: folder.name)
def test_our_own_pipelines_could_run(folder: Path) -> None:
    found = read(folder)
    for step in found.steps:
        if step.valid_if:
            module, _, function = step.valid_if.partition(":")
            assert f"def {function}(" in (folder / f"{module}.py").read_text()
        for output in [
            match["output"]
            for match in references([s.parameters for s in found.steps])
            if match["step"] == step.name
        ]:
            assert f"{output}=" in (folder / step.notebook).read_text(), f"{step.name} hands on no {output}"
