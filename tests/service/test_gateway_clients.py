"""Clients that know nothing of Majlis: MLflow's own beside MLflow's server, a V2 client by the book."""

import io
import json
from collections.abc import Iterator
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
