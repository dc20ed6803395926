"""What a notebook may declare, be given and hand on."""

import ast
import enum
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from papermill.translators import translate_parameters

from majlis.errors import Invalid
from majlis.pipelines.notebook import Parameter, declared, output_type, outputs, plain, resolve


def notebook(source: str, tags: list[str] | None = None) -> Any:
    cell = new_code_cell(source, metadata={"tags": ["parameters"] if tags is None else tags})
    return new_notebook(cells=[new_markdown_cell("# Title"), cell])


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (np.float32(0.5), 0.5),
        (np.float64(2.5), 2.5),
        (np.int8(3), 3),
        (np.bool_(True), True),
        (np.array(7), 7),
        (np.str_("x"), "x"),
        (Path("a/b"), "a/b"),
        (Colour.RED, "red"),
        ((1, [2, (3,)]), [1, [2, [3]]]),
        ({"a": {"b": np.int64(1)}}, {"a": {"b": 1}}),
    ],
)
def test_what_means_the_same_is_taken_as_plain(given: Any, kept: Any) -> None:
    found = plain(given, "x")
    assert found == kept
    assert type(found) is type(kept)
    json.dumps(found)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (float("nan"), "x is nan"),
        (float("inf"), "x is inf"),
        ({1: "a"}, "key 1"),
        ([{"deep": object()}], "x[0]['deep'] is a object"),
        ({1, 2}, "x is a set"),
        (b"bytes", "x is a bytes"),
        (np.array([1, 2]), "x is a ndarray"),
        (np.datetime64("2013-01-01"), "does not travel"),
    ],
)
def test_what_json_cannot_say_is_refused_and_named(value: Any, told: str) -> None:
    with pytest.raises(Invalid) as error:
        plain(value, "x")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("source", "name", "allowed", "default", "note"),
    [
        ("x = 1  # how many", "x", ("int",), 1, "how many"),
        ("x = -1.5", "x", ("float",), -1.5, ""),
        ("x = None", "x", (), None, ""),
        ("x: str | None = None  # a == b, c = d", "x", ("str", "None"), None, "a == b, c = d"),
        ("x: list[int] = [\n    1,  # one\n    2,\n]  # all", "x", ("list",), [1, 2], "all"),
        ("x = 'a # b'", "x", ("str",), "a # b", ""),
        ("x = {'a': [1, None]}", "x", ("dict",), {"a": [1, None]}, ""),
        ("x: float = 1", "x", ("float",), 1, ""),
        ("x = True", "x", ("bool",), True, ""),
        ("x = (1, 2)", "x", ("list",), [1, 2], ""),
    ],
)
def test_a_declaration_is_read(
    source: str, name: str, allowed: tuple[str, ...], default: Any, note: str
) -> None:
    found = declared(notebook(source))[name]
    assert (found.allowed, found.default, found.help) == (allowed, default, note)


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "x = os.getcwd()",
        "x = 1 + y",
        "x, y = 1, 2",
        "x = y = 1",
        "x: int",
        "x: Path = 'a'",
        "x: int = 'a'",
        "print(1)",
        "x += 1",
        "x = {1, 2}",
        "x = float('nan')",
        "x =",
        "def f(): pass",
    ],
)
def test_what_is_not_a_plain_declaration_is_refused(source: str) -> None:
    with pytest.raises(Invalid):
        declared(notebook(source))


def test_only_tagged_cells_declare() -> None:
    assert declared(notebook("import os\nx = 1", tags=[])) == {}


@pytest.mark.parametrize(
    "name", ["password", "db_passwd", "API_KEY", "apikey", "client_secret", "access_token"]
)
def test_secrets_are_not_parameters(name: str) -> None:
    with pytest.raises(Invalid, match="environment"):
        declared(notebook(f"{name} = ''"))


@pytest.mark.parametrize(
    ("allowed", "value", "accepted"),
    [
        (("int",), 1, True),
        (("int",), True, False),
        (("int",), 1.0, False),
        (("float",), 1, True),
        (("bool",), 1, False),
        (("str",), 1, False),
        (("str", "None"), None, True),
        (("str",), None, False),
        ((), {"anything": [None]}, True),
    ],
)
def test_types_decide_what_a_run_may_give(allowed: tuple[str, ...], value: Any, accepted: bool) -> None:
    parameter = Parameter("x", default=None, allowed=allowed)
    if accepted:
        assert parameter.check(value) == value
    else:
        with pytest.raises(Invalid, match="the parameter x is"):
            parameter.check(value)


@pytest.mark.parametrize(
    ("allowed", "text", "value"),
    [
        (("int",), "3", 3),
        (("str",), "3", "3"),
        (("str",), '"3"', "3"),
        (("str", "None"), "null", None),
        (("str",), "null", "null"),
        (("bool",), "True", True),
        (("bool",), "true", True),
        (("list",), "['a', 1]", ["a", 1]),
        (("list",), '["a", 1]', ["a", 1]),
        (("float",), "1e-3", 0.001),
        ((), "plain words", "plain words"),
        (("str",), "__import__('os')", "__import__('os')"),
    ],
)
def test_typed_text_becomes_a_value(allowed: tuple[str, ...], text: str, value: Any) -> None:
    assert Parameter("x", default=None, allowed=allowed).parse(text) == value


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(Invalid, match=r"no parameter 'mnths'[^?]*Did you mean months\?"):
        resolve({"months": Parameter("months", [1], ("list",))}, {"mnths": [1]}, "01_ingest.ipynb")


texts = st.text() | st.sampled_from(
    ['"', "'''", '\\"', "\\", "\n\r\x00\x85\u2028", "{x}", "%s", "# x", "\ud7ff"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(values)
def test_a_given_value_is_a_literal_and_nothing_else(value: Any) -> None:
    """What papermill writes into the notebook is one assignment whose value is the value."""
    code = translate_parameters("python3", "python", {"x": plain(value, "x")}, "Parameters")
    (statement,) = ast.parse(code).body
    assert isinstance(statement, ast.Assign)
    assert ast.literal_eval(statement.value) == value


def test_outputs_of_a_notebook_that_showed_other_things() -> None:
    cell = new_code_cell("...")
    cell.outputs = [
        {"output_type": "stream", "name": "stdout", "text": "hello"},
        {"output_type": "display_data", "data": {"text/plain": "3"}, "metadata": {}},
        {"output_type": "display_data", "data": {output_type: {"a": 1}}, "metadata": {}},
    ]
    assert outputs(new_notebook(cells=[new_markdown_cell("x"), cell])) == {"a": 1}
