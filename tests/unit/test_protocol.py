"""The signature's gate and both dialects, edge by edge."""

import math
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
import orjson
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from majlis.client_api import Api
from majlis.client_deployments import Deployment, tensors, values
from majlis.errors import Invalid, MajlisError, SchemaMismatch
from majlis.serving.invocations import invocation_request
from majlis.serving.protocol import DTYPES, Answer, infer_request
from majlis.serving.signature import KINDS, Batch, Signature, admit

MIXED = Signature.read(
    [
        {"name": "carrier", "type": "string"},
        {"name": "distance", "type": "double"},
        {"name": "seats", "type": "integer"},
        {"name": "night", "type": "boolean", "required": False},
    ]
)
FLOATS = Signature.read([{"name": f"x{i}", "type": "double"} for i in range(3)])
NARROW = Signature.read([{"name": "x", "type": "float"}, {"name": "y", "type": "float"}])
TENSOR = Signature.read([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2, 2]}}])


def tensor(name: str, datatype: str, data: Any, shape: list[int] | None = None) -> dict[str, Any]:
    """One tensor of a request."""
    return {"name": name, "datatype": datatype, "data": data, "shape": shape or [len(data)]}


def infer(signature: Signature, *tensors: Any) -> Batch:
    """The batch of a V2 request."""
    return infer_request(signature, orjson.dumps({"inputs": list(tensors)})).batch


GOOD = (
    tensor("carrier", "BYTES", ["UA"]),
    tensor("distance", "FP64", [1.5]),
    tensor("seats", "INT32", [149]),
)


def test_optional_columns_may_be_left_out_and_keep_their_place() -> None:
    assert infer(MIXED, *GOOD).records() == [["UA", 1.5, 149, None]]
    assert infer(MIXED, tensor("night", "BOOL", [True]), *reversed(GOOD)).records() == [
        ["UA", 1.5, 149, True]
    ]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (tensor("seats", "INT32", [1.0]), "'seats', row 0: number 1.0 came, expected INT32"),
        (tensor("seats", "INT32", [True]), "'seats', row 0: boolean true came, expected INT32"),
        (tensor("seats", "INT32", [None]), "'seats', row 0: null came, and INT32 has no null"),
        (tensor("seats", "INT32", [2**31]), "2147483648 came, and INT32 holds"),
        (tensor("seats", "INT64", [2**63]), "came, and INT32 holds"),
        (tensor("seats", "INT32", ["1"]), "'seats', row 0: string"),
        (tensor("seats", "INT32", [[[1]]], [1]), "list [1] came"),
        (tensor("seats", "INT32", [1, 2]), "'seats': shape list [2] with 2 values"),
        (tensor("seats", "INT32", [1], [1, 2]), "shape list [1,2] with 1 values came"),
        (tensor("seats", "FP64", [1]), 'datatype string "FP64" came, expected INT32'),
        (tensor("seats", "WHAT", [1]), "expected INT32"),
        (tensor("Seats", "INT32", [1]), "missing 'seats'; not in the signature 'Seats'"),
        (tensor("carrier", "BYTES", ["DL"]), "sent twice 'carrier'"),
        ({"name": "seats"}, "shape is"),
        ({"name": ["seats"]}, "name is"),
        ("seats", "Input 2 is a string"),
    ],
)
def test_what_does_not_fit_is_named(bad: Any, said: str) -> None:
    with pytest.raises(SchemaMismatch) as refused:
        infer(MIXED, *GOOD[:2], bad)
    assert said in refused.value.message
    assert refused.value.status == 400


def test_missing_and_widened_numbers() -> None:
    batch = infer(
        FLOATS,
        *(tensor(f"x{i}", d, v) for i, (d, v) in enumerate((("INT8", [1]), ("FP32", [None]), ("FP64", [2])))),
    )
    assert batch.numbers("float32").dtype == np.float32
    assert batch.numbers("float64")[0, 0] == 1 and math.isnan(batch.numbers("float64")[0, 1])


def test_a_table_in_one_tensor() -> None:
    whole = infer(FLOATS, tensor("any", "FP64", [1, 2, 3, 4, 5, None], [2, 3]))
    nested = infer(FLOATS, tensor("any", "FP32", [[1, 2, 3], [4, 5, None]], [2, 3]))
    assert whole.rows == 2 and np.array_equal(whole.numbers("f8"), nested.numbers("f8"), equal_nan=True)
    assert whole.numbers("f8", [2])[:1].tolist() == [[3.0]]
    for data, shape in (
        ([1, 2], [1, 3]),
        ([1, 2, "3"], [1, 3]),
        ([], [0, 3]),
        ([1, 2, True], [1, 3]),
        (None, [1, 3]),
    ):
        with pytest.raises(SchemaMismatch):
            infer(FLOATS, tensor("any", "FP64", data, shape))


def test_what_no_32_bit_float_holds_is_refused() -> None:
    for columns in (
        [tensor("x", "FP64", [1e39]), tensor("y", "FP64", [0])],
        [tensor("t", "FP64", [1e39, 0], [1, 2])],
    ):
        with pytest.raises(SchemaMismatch, match="FP32 holds"):
            infer(NARROW, *columns)


def test_tensors_fit_their_shape() -> None:
    batch = infer(TENSOR, tensor("anything", "FP32", [1, 2, 3, 4], [1, 2, 2]))
    assert batch.column(0).shape == (1, 2, 2) and batch.column(0).dtype == np.float32
    with pytest.raises(SchemaMismatch, match=r"shape \[1, 4\] came, expected \[-1, 2, 2\]"):
        infer(TENSOR, tensor("anything", "FP32", [1, 2, 3, 4], [1, 4]))
    assert invocation_request(TENSOR, b'{"inputs": [[[1, 2], [3, 4]]]}').column(0).tolist() == [
        [[1, 2], [3, 4]]
    ]


@pytest.mark.parametrize("name", DTYPES)
def test_every_binary_datatype_means_what_its_numbers_say(name: str) -> None:
    kind = "boolean" if name == "BOOL" else "double" if name.startswith("FP") else "long"
    signature = Signature.read([{"name": "x", "type": kind}])
    values = np.array([1, 0, 1], DTYPES[name])
    head = orjson.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": name,
                    "shape": [3],
                    "parameters": {"binary_data_size": values.nbytes},
                }
            ]
        }
    )
    assert infer_request(signature, head + values.tobytes(), len(head)).batch.records() == [[1], [0], [1]]
    for broken in (head + values.tobytes()[:-1], head + values.tobytes() + b"0", head):
        with pytest.raises(SchemaMismatch):
            infer_request(signature, broken, len(head))


def test_binary_numbers_out_of_range_and_texts() -> None:
    big = np.array([2**40])
    head = orjson.dumps(
        {
            "inputs": [
                *GOOD[:2],
                {"name": "seats", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}},
            ]
        }
    )
    with pytest.raises(SchemaMismatch, match="INT32 holds"):
        infer_request(MIXED, head + big.tobytes(), len(head))
    text = b"\x02\0\0\0UA"
    head = orjson.dumps(
        {
            "inputs": [
                {"name": "carrier", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}},
                *GOOD[1:],
            ]
        }
    )
    assert infer_request(MIXED, head + text, len(head)).batch.column(0) == ["UA"]
    for broken in (b"\x03\0\0\0UA", b"\x02\0\0\0\xff\xff", b"\x02\0"):
        with pytest.raises(SchemaMismatch):
            infer_request(MIXED, head + broken, len(head))


def test_answers_read_back() -> None:
    values = np.array([[0.25, np.nan], [1e-300, 1.0]])
    document = orjson.loads(Answer("m", "1").json(values, 'r"1'))
    assert document["id"] == 'r"1' and document["outputs"][0]["data"] == [0.25, None, 1e-300, 1.0]
    body, length = Answer("m", "1").binary(np.array([["a"], ["bc"]], object))
    assert orjson.loads(body[:length])["outputs"][0]["datatype"] == "BYTES"
    assert body[length:] == b"\x01\0\0\0a\x02\0\0\0bc"


ROWS: list[list[Any]] = [["UA", 1.5, 149, True], ["DL", None, 3, False]]
FORMS: list[Any] = [
    {"dataframe_split": {"columns": list(MIXED.names), "data": ROWS, "index": [0, 1]}},
    {"dataframe_records": [dict(zip(MIXED.names, row, strict=True)) for row in ROWS]},
    {"instances": [dict(zip(MIXED.names, row, strict=True)) for row in ROWS]},
    {"inputs": {name: [row[i] for row in ROWS] for i, name in enumerate(MIXED.names)}},
]


@pytest.mark.parametrize("body", FORMS)
def test_all_invocation_forms_mean_the_same(body: Any) -> None:
    assert repr(invocation_request(MIXED, orjson.dumps(body)).records()) == repr(
        [[("UA"), 1.5, 149, True], ["DL", math.nan, 3, False]]
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"dataframe_split": 1},
        {"dataframe_split": {"columns": ["carrier"], "data": 1}},
        {"dataframe_split": {"columns": [1], "data": [[1]]}},
        {"dataframe_split": {"columns": list(MIXED.names), "data": [[1]]}},
        {"dataframe_split": {"columns": list(MIXED.names), "data": []}},
        {"dataframe_records": [1]},
        {"dataframe_records": []},
        {"dataframe_records": [{"carrier": "UA"}]},
        {"dataframe_records": [{"carrier": "UA"}, 3]},
        {"instances": [[1, 2]]},
        {"inputs": {"carrier": ["UA"], "distance": [1.0, 2.0], "seats": [1]}},
        {"inputs": {}},
        {"instances": [], "inputs": []},
        {"instances": [{}], "params": {"a": 1}},
        {"rows": []},
    ],
)
def test_malformed_invocations(body: Any) -> None:
    with pytest.raises(SchemaMismatch):
        invocation_request(MIXED, orjson.dumps(body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"carrier\n",
        b"carrier,seats\nUA\n",
        b'carrier\n"',
        b"\xff",
        b"a,a\n1,2\n",
        b"carrier,distance,seats\nUA,inf,1\n",
    ],
)
def test_malformed_csv(body: bytes) -> None:
    with pytest.raises(SchemaMismatch):
        invocation_request(MIXED, body, "text/csv; charset=utf-8")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["carrier", "distance", "seats", "x0", "y"]) | JSON,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | JSON,
        "datatype": st.sampled_from(["FP64", "INT32", "BYTES", "BOOL"]) | JSON,
        "data": JSON,
        "parameters": st.dictionaries(st.just("binary_data_size"), JSON, max_size=1) | JSON,
    },
)


@settings(max_examples=200, deadline=None)
@given(
    signature=st.sampled_from([MIXED, FLOATS, NARROW, TENSOR]),
    inputs=st.lists(FIELDS, max_size=4) | JSON,
    tail=st.binary(max_size=12),
)
def test_whatever_comes_is_a_batch_or_a_refusal(signature: Signature, inputs: Any, tail: bytes) -> None:
    head = orjson.dumps({"inputs": inputs}, option=orjson.OPT_PASSTHROUGH_DATETIME, default=str)
    for body, length in ((head, 0), (head + tail, len(head))):
        try:
            batch = infer_request(signature, body, length).batch
        except MajlisError as error:
            assert error.status == 400
        else:
            assert batch.rows >= 1 and len(batch.records()) == batch.rows


@settings(max_examples=200, deadline=None)
@given(
    signature=st.sampled_from([MIXED, FLOATS, TENSOR]),
    form=st.sampled_from(["dataframe_split", "dataframe_records", "instances", "inputs"]),
    value=st.fixed_dictionaries({"columns": JSON, "data": JSON}) | st.lists(FIELDS, max_size=3) | JSON,
)
def test_whatever_is_invoked_is_a_batch_or_a_refusal(signature: Signature, form: str, value: Any) -> None:
    try:
        batch = invocation_request(signature, orjson.dumps({form: value}, default=str))
    except MajlisError as error:
        assert error.status == 400
    else:
        assert batch.rows >= 1


def test_every_kind_of_column_is_admitted_as_itself() -> None:
    values = {"double": 1.5, "float": 1.5, "long": 2**60, "integer": 7, "boolean": True, "string": "a"}
    for kind, value in values.items():
        signature = Signature.read([{"name": "x", "type": kind}])
        assert admit(signature, [[value]], 1).records() == [[value]]
    times = Signature.read([{"name": "t", "type": "datetime"}, {"name": "b", "type": "binary"}])
    (row,) = admit(times, [["2013-01-01T05:00:00Z"], ["AAE="]], 1).records()
    assert row[0].year == 2013 and row[1] == b"\x00\x01"
    with pytest.raises(SchemaMismatch, match="expected an ISO 8601 time"):
        admit(times, [["yesterday"], ["AAE="]], 1)
    assert set(values) | {"datetime", "binary"} == KINDS.keys()


@pytest.mark.parametrize(
    "inputs", [[], "[]", [{"name": "x", "type": "array"}], [{"name": "x", "type": {"a": 1}}]]
)
def test_signatures_that_cannot_be_enforced_are_refused(inputs: Any) -> None:
    with pytest.raises(Invalid):
        Signature.read(inputs)


def test_a_boolean_is_a_number_where_a_float_is_declared() -> None:
    """A table with a column of booleans goes through a model of floats as pandas writes it."""
    flag = Signature.read([{"name": "flag", "type": "double"}, {"name": "n", "type": "double"}])
    batch = infer(flag, tensor("flag", "BOOL", [True, None, False]), tensor("n", "INT64", [1, 2, 3]))
    assert np.array_equal(batch.numbers("float64"), [[1, 1], [np.nan, 2], [0, 3]], equal_nan=True)
    assert [type(value) for value in batch.column(0)] == [float] * 3
    binary = np.array([True, False])
    head = {"name": "flag", "datatype": "BOOL", "shape": [2], "parameters": {"binary_data_size": 2}}
    header = orjson.dumps({"inputs": [head, tensor("n", "FP64", [1.0, 2.0])]})
    read = infer_request(flag, header + binary.tobytes(), len(header)).batch
    assert read.numbers("float64")[:, 0].tolist() == [1, 0]


ROW = {"carrier": "UA", "seats": 149}


@pytest.mark.parametrize(
    "frame", [pl.DataFrame([ROW]), pd.DataFrame([ROW]), ROW, {"carrier": ["UA"], "seats": (149,)}, [ROW]]
)
def test_a_client_may_send_what_has_names(frame: Any) -> None:
    sent = {each["name"]: (each["datatype"], each["data"]) for each in tensors(frame)}
    assert sent == {"carrier": ("BYTES", ["UA"]), "seats": ("INT64", [149])}


@pytest.mark.parametrize(
    "frame", [np.ones((1, 2)), [[1, 2]], [], pd.Series(ROW), pd.DataFrame({"m": [1, "a"]})]
)
def test_a_client_is_told_what_cannot_be_sent(frame: Any) -> None:
    with pytest.raises(SchemaMismatch, match="cannot be sent|no columns with names"):
        tensors(frame)


def test_one_entity_is_one_row() -> None:
    assert [values(each) for each in ("u1", 7, ["u1", "u2"], pl.Series([1]))] == [
        ["u1"],
        [7],
        ["u1", "u2"],
        [1],
    ]


class Answering:
    """A workbench whose gateway answers two numbers for a row, of a model that names these classes."""

    def __init__(self, *classes: object) -> None:
        self.api = Api(httpx.Client(), "nowhere")
        self.asked: list[str] = []
        self.output = {"name": "predictions"} | ({"parameters": {"classes": classes}} if classes else {})

    def key(self, deployment: str) -> str:
        return "mjl_key"

    def ask_gateway(self, url: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Any:
        self.asked.append(url)
        if body is None:
            return {"outputs": [self.output]}
        return {"model_version": "iris-3", "outputs": [{"data": [0.9, 0.1], "shape": [1, 2]}]}


def test_probabilities_have_the_names_that_the_revision_gave_which_answered() -> None:
    wb = Answering("setosa", 2)
    live = Deployment(wb, {"name": "iris", "url": "http://gateway/v2/models/iris"})
    assert live.probabilities({"petal": 1.4}).to_dicts() == [{"setosa": 0.9, "2": 0.1}]
    assert wb.asked[-1].endswith("/iris/versions/iris-3")


@pytest.mark.parametrize("classes", [(), ("a", "b", "c")])
def test_numbers_without_names_are_not_given_any(classes: tuple[str, ...]) -> None:
    live = Deployment(Answering(*classes), {"name": "iris", "url": "http://gateway/v2/models/iris"})
    with pytest.raises(Invalid, match=f"2 numbers for each row, and its model names {len(classes)} classes"):
        live.probabilities({"petal": 1.4})
    assert live.predict({"petal": 1.4}).tolist() == [[0.9, 0.1]]
