"""Clients that know nothing of Majlis: MLflow's own beside MLflow's server, a V2 client by the book."""

import gzip
import http.client
import io
import json
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from mlflow.models import infer_signature
from mlflow.pyfunc import scoring_server
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from sklearn.linear_model import LinearRegression

from tests.service.gateways import World, linear

pytestmark = pytest.mark.timeout(180)

ROWS = pd.DataFrame({"x": [1.0, 2.5, -3.0], "y": [0.5, 0.0, 4.0]})
INPUTS = [{"name": name, "type": "double", "required": True} for name in ROWS]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway that serves a scikit-learn model as MLflow keeps it, and an ONNX model."""
    world = World(tmp_path_factory.mktemp("clients"))
    model = LinearRegression().fit(ROWS, ROWS.x * 2 + ROWS.y)

    def save(folder: Path) -> None:
        mlflow.sklearn.save_model(
            model,
            str(folder),
            signature=infer_signature(ROWS, model.predict(ROWS)),
            serialization_format="skops",
            pip_requirements=[],
        )

    world.release("native-1", inputs=INPUTS, native=save)
    world.release("onnx-1", linear(2.0, 2), INPUTS)
    world.keys = [world.make_key(world.key, "tester", ("adder", "table"))]
    world.deploy("adder", native_1=1.0)
    world.deploy("table", onnx_1=1.0)
    with world.gateway():
        world.synced()
        yield world


@pytest.fixture(scope="module")
def mlflows(world: World) -> Iterator[TestClient]:
    """MLflow's own scoring server of the same model."""
    with TestClient(
        scoring_server.init(mlflow.pyfunc.load_model(str(world.folder("native-1") / "model")))
    ) as asked:
        yield asked


FORMS = {
    "dataframe_split": {"columns": list(ROWS), "data": ROWS.to_numpy().tolist()},
    "dataframe_records": ROWS.to_dict(orient="records"),
    "instances": ROWS.to_dict(orient="records"),
    "inputs": ROWS.to_dict(orient="list"),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_json_forms_mean_what_mlflow_means(world: World, mlflows: TestClient, form: str) -> None:
    """The same body to MLflow's server and to the gateway, the same answer."""
    body = {form: FORMS[form]}
    theirs = mlflows.post("/invocations", json=body)
    assert theirs.status_code == 200, theirs.text
    ours = httpx.post(
        f"{world.url}/invocations/adder", json=body, headers={"authorization": f"Bearer {world.key}"}
    )
    assert ours.status_code == 200, ours.text
    assert np.allclose(
        np.ravel(ours.json()["predictions"]), np.ravel(theirs.json()["predictions"]), atol=1e-9
    )


def test_csv_means_what_mlflow_means(world: World, mlflows: TestClient) -> None:
    """With MLflow's content type."""
    text = ROWS.to_csv(index=False)
    kind = {"content-type": scoring_server.CONTENT_TYPE_CSV}
    theirs = mlflows.post("/invocations", content=text, headers=kind)
    assert theirs.status_code == 200, theirs.text
    ours = httpx.post(
        f"{world.url}/invocations/adder",
        content=text,
        headers=kind | {"authorization": f"Bearer {world.key}"},
    )
    assert np.allclose(
        np.ravel(ours.json()["predictions"]), np.ravel(theirs.json()["predictions"]), atol=1e-9
    )


@pytest.mark.parametrize("sent", [ROWS, ROWS.to_dict(orient="records")], ids=["frame", "records"])
def test_mlflows_client(world: World, sent: Any) -> None:
    """It can say a key only in the address, and appends its own paths; both work."""
    client = ScoringServerClient(f"key:{world.key}@127.0.0.1", f"{world.port}/v2/models/adder")
    client.wait_server_ready(timeout=20)
    answer = client.invoke(sent).get_predictions()
    assert np.allclose(answer.to_numpy().ravel(), ROWS.x * 2 + ROWS.y, atol=1e-9)


def test_mlflows_client_without_a_key_is_told(world: World) -> None:
    """And with a wrong one."""
    for host in ("127.0.0.1", "key:mjl_wrong@127.0.0.1", "key:@127.0.0.1"):
        with pytest.raises(Exception, match="401"):
            ScoringServerClient(host, f"{world.port}/v2/models/adder").invoke(ROWS)


class V2:
    """The Open Inference Protocol's HTTP and binary data, written from the specification."""

    def __init__(self, url: str, key: str) -> None:
        self.http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=30)

    def infer(
        self, model: str, tensors: dict[str, np.ndarray], *, sent_binary: bool, wanted_binary: bool
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The response's JSON and its tensors."""
        inputs, payload = [], io.BytesIO()
        for name, values in tensors.items():
            tensor: dict[str, Any] = {"name": name, "shape": list(values.shape), "datatype": "FP64"}
            if sent_binary:
                raw = values.astype("<f8").tobytes()
                tensor["parameters"] = {"binary_data_size": len(raw)}
                payload.write(raw)
            else:
                tensor["data"] = values.ravel().tolist()
            inputs.append(tensor)
        request = {
            "id": "by-the-book",
            "inputs": inputs,
            "outputs": [{"name": "predictions", "parameters": {"binary_data": wanted_binary}}],
        }
        head = json.dumps(request).encode()
        headers = {"inference-header-content-length": str(len(head))} if sent_binary else {}
        answer = self.http.post(
            f"/v2/models/{model}/infer", content=head + payload.getvalue(), headers=headers
        )
        assert answer.status_code == 200, answer.text
        length = answer.headers.get("inference-header-content-length")
        assert (length is not None) == wanted_binary
        told = json.loads(answer.content[: int(length)] if length else answer.content)
        rest, found = answer.content[int(length) :] if length else b"", {}
        for output in told["outputs"]:
            if size := output.get("parameters", {}).get("binary_data_size"):
                kind = {"FP32": "<f4", "FP64": "<f8"}[output["datatype"]]
                values, rest = np.frombuffer(rest[:size], kind), rest[size:]
            else:
                values = np.array(output["data"])
            found[output["name"]] = values.reshape(output["shape"])
        assert rest == b""
        return told, found


@pytest.mark.parametrize("sent_binary", [False, True])
@pytest.mark.parametrize("wanted_binary", [False, True])
def test_v2_by_the_book(world: World, sent_binary: bool, wanted_binary: bool) -> None:
    """JSON and bytes, both ways, one tensor for each column."""
    client = V2(world.url, world.key)
    described = client.http.get("/v2/models/table").json()
    assert [column["name"] for column in described["inputs"]] == list(ROWS)
    assert "binary_tensor_data" in client.http.get("/v2").json()["extensions"]
    columns = {name: ROWS[name].to_numpy()[:, None] for name in ROWS}
    told, found = client.infer("table", columns, sent_binary=sent_binary, wanted_binary=wanted_binary)
    assert told["id"] == "by-the-book" and told["model_name"] == "table"
    assert told["model_version"] == described["versions"][0]
    assert np.array_equal(found["predictions"].ravel(), (ROWS.x + ROWS.y) * 2)


ASKED = {
    "id": "me",
    "parameters": {"anything": 1},
    "inputs": [{"name": n, "shape": [1, 1], "datatype": "FP64", "data": [4.0]} for n in "xy"],
}
INFER = "/v2/models/table/infer"


def sent(
    world: World, method: str, path: str, content: Any = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and bytes of an answer, from a client that changes nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", world.port, timeout=20)
    all_of_them = {"Authorization": f"Bearer {world.key}"} | headers
    try:
        connection.request(method, path, content, all_of_them)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda content: zlib.compress(content)[2:-4]),  # without the header, as some send it
        ("identity", bytes),
    ],
)
def test_bodies_may_be_compressed(world: World, coding: str, pack: Callable[[bytes], bytes]) -> None:
    """The same answer as without; the rest of a body that was cut off is missed."""
    body = pack(json.dumps(ASKED).encode())
    status, _, content = sent(world, "POST", INFER, body, **{"Content-Encoding": coding})
    assert status == 200 and json.loads(content)["outputs"][0]["data"] == [16.0]
    assert json.loads(content)["id"] == "me"
    cut = body[: len(body) // 2]
    assert sent(world, "POST", INFER, cut, **{"Content-Encoding": coding})[0] == 400


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", ""])
def test_other_encodings_are_refused(world: World, coding: str) -> None:
    """With what is understood."""
    status, _, content = sent(world, "POST", INFER, json.dumps(ASKED), **{"Content-Encoding": coding})
    assert status == 415 and b"gzip, deflate" in content


def test_large_answers_are_compressed_for_who_takes_it(world: World) -> None:
    """What was asked for, and not for small answers."""
    rows = 20_000
    inputs = [{"name": n, "shape": [rows, 1], "datatype": "FP64", "data": [1.5] * rows} for n in "xy"]
    body = json.dumps({"inputs": inputs})
    plain = sent(world, "POST", INFER, body)
    assert plain[0] == 200 and plain[1]["Content-Encoding"] is None
    for taken, chosen, unpacked in (
        ("gzip", "gzip", gzip.decompress),
        ("deflate", "deflate", zlib.decompress),
        ("br, deflate;q=0.5, gzip;q=0", "deflate", zlib.decompress),
    ):
        status, headers, content = sent(world, "POST", INFER, body, **{"Accept-Encoding": taken})
        assert status == 200 and headers["Content-Encoding"] == chosen
        assert unpacked(content) == plain[2] and len(content) < len(plain[2]) / 10
    small = sent(world, "POST", INFER, json.dumps(ASKED), **{"Accept-Encoding": "gzip"})
    assert small[0] == 200 and small[1]["Content-Encoding"] is None


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("OPTIONS", INFER, 200, "POST, OPTIONS"),
        ("GET", INFER, 405, "POST, OPTIONS"),
        ("HEAD", INFER, 405, "POST, OPTIONS"),
        ("PUT", "/invocations/table", 405, "POST, OPTIONS"),
        ("OPTIONS", "/v2/models/no-such/infer", 200, "POST, OPTIONS"),  # a stranger learns nothing
        ("GET", "/v2/repository/index", 405, "POST, OPTIONS"),
        ("POST", "/v2/health/live", 405, "GET, HEAD, OPTIONS"),
        ("DELETE", "/v2/models/table", 405, "GET, HEAD, OPTIONS"),
        ("OPTIONS", "/v2/", 200, "GET, HEAD, OPTIONS"),
        ("HEAD", "/v2/models/table/", 200, None),
        ("HEAD", "/v2/health/live", 200, None),
        ("POST", f"{INFER}/", 200, None),
        ("POST", "/v2/models/no-such/infer", 404, None),
        ("POST", "/v2/models/table/versions/onnx-9/infer", 404, None),
        ("POST", "/v2/models/table/versions/onnx-1/infer", 200, None),
        ("GET", "/v2/models/table/versions/onnx-9", 404, None),
        ("GET", "/v2/models/table/versions/onnx-9/ready", 404, None),
        ("GET", "/v2/models/table/versions/onnx-1/ready", 200, None),
        ("POST", "/v2/repository/models/table/unload", 403, None),
        ("OPTIONS", "/v2/no-such", 404, None),
    ],
)
def test_methods_and_paths(world: World, method: str, path: str, status: int, allowed: str | None) -> None:
    """What is served, what is not, and what would be."""
    answer = sent(world, method, path, json.dumps(ASKED) if method == "POST" else None)
    assert (answer[0], answer[1]["Allow"]) == (status, allowed), answer[2]
    assert (answer[2] == b"") == (method == "HEAD" or (method == "OPTIONS" and status == 200))


def test_the_index_lists_what_a_key_may_call(world: World) -> None:
    """Revisions with their state; nothing for a stranger, nor for a key of another deployment."""
    status, _, content = sent(world, "POST", "/v2/repository/index", '{"ready": true}')
    assert status == 200
    assert json.loads(content) == [
        {"name": "adder", "version": "native-1", "state": "READY", "reason": ""},
        {"name": "table", "version": "onnx-1", "state": "READY", "reason": ""},
    ]
    assert sent(world, "POST", "/v2/repository/index")[0] == 200
    assert sent(world, "POST", "/v2/repository/index", "[]")[0] == 400
    assert sent(world, "POST", "/v2/repository/index", Authorization="Bearer mjl_wrong")[0] == 401
    assert "model_repository" in json.loads(sent(world, "GET", "/v2")[2])["extensions"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"outputs": [{"name": "no-such"}]}, "a model has one, 'predictions'"),
        ({"outputs": "predictions"}, "a list of objects"),
        ({"outputs": ["predictions"]}, "a list of objects"),
        ({"parameters": [1]}, "an object when it is given"),
        ({"id": 5}, "a string when it is given"),
    ],
)
def test_what_is_asked_of_an_answer_is_checked(world: World, change: dict[str, Any], said: str) -> None:
    """An output that there is not, and values that are none."""
    status, _, content = sent(world, "POST", INFER, json.dumps(ASKED | change))
    assert status == 400 and said in json.loads(content)["detail"]


@pytest.mark.parametrize("change", [{"id": None}, {"parameters": None, "outputs": None}, {"outputs": []}])
def test_null_says_nothing(world: World, change: dict[str, Any]) -> None:
    """As some clients write it."""
    assert sent(world, "POST", INFER, json.dumps(ASKED | change))[0] == 200


def test_bodies_in_chunks_and_after_a_go_ahead(world: World) -> None:
    """Curl asks before it sends a large body; a refusal comes before the body."""
    body = json.dumps(ASKED).encode()
    assert sent(world, "POST", INFER, iter([body[:9], body[9:]]))[0] == 200
    head = (
        f"POST {INFER} HTTP/1.1\r\nHost: gateway\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n"
    )
    for key, first in ((world.key, b"HTTP/1.1 100"), ("mjl_wrong", b"HTTP/1.1 401")):
        with socket.create_connection(("127.0.0.1", world.port), timeout=20) as connection:
            connection.sendall(f"{head}Authorization: Bearer {key}\r\n\r\n".encode())
            assert connection.recv(4096).startswith(first)
            if key == world.key:
                connection.sendall(body)
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
