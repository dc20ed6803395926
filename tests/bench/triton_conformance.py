"""Asks a V2 server through NVIDIA's own client, in an environment that has `tritonclient`.

Arguments: host:port, deployment, API key. Exits 1 with the difference when an answer is not what V2 says.
"""

import sys
from types import MappingProxyType

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def main(server: str, model: str, key: str) -> None:
    """Every call of the client that the protocol defines, JSON and binary."""
    client = triton.InferenceServerClient(server)
    # the client writes into the headers it gets, so each call gets its own
    headers = MappingProxyType({"Authorization": f"Bearer {key}"})
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
    assert "binary_tensor_data" in client.get_server_metadata(headers=dict(headers))["extensions"]
    described = client.get_model_metadata(model, headers=dict(headers))
    columns = [column["name"] for column in described["inputs"]]
    table = np.random.default_rng(0).normal(size=(5, len(columns)))
    answers = {}
    for as_bytes in (False, True):
        for wanted_as_bytes in (False, True):
            inputs = []
            for position, name in enumerate(columns):
                column = triton.InferInput(name, [5, 1], "FP64")
                column.set_data_from_numpy(table[:, position : position + 1], binary_data=as_bytes)
                inputs.append(column)
            outputs = [triton.InferRequestedOutput("predictions", binary_data=wanted_as_bytes)]
            result = client.infer(model, inputs, outputs=outputs, request_id="r-1", headers=dict(headers))
            assert result.get_response()["id"] == "r-1"
            answers[as_bytes, wanted_as_bytes] = result.as_numpy("predictions")
    for answer in answers.values():
        assert np.array_equal(answer, answers[True, True]), answers
    for how in ("gzip", "deflate"):
        compressed = client.infer(model, inputs, headers=dict(headers), request_compression_algorithm=how)
        assert np.array_equal(compressed.as_numpy("predictions"), answers[True, True])
    many = np.repeat(table, 4_000, axis=0)  # an answer that is worth compressing
    for position, column in enumerate(inputs):
        column.set_shape([len(many), 1])
        column.set_data_from_numpy(many[:, position : position + 1])
    whole = client.infer(model, inputs, headers=dict(headers)).as_numpy("predictions")
    for how in ("gzip", "deflate"):
        smaller = client.infer(model, inputs, headers=dict(headers), response_compression_algorithm=how)
        assert np.array_equal(smaller.as_numpy("predictions"), whole) and len(whole) == len(many)
    for position, column in enumerate(inputs):
        column.set_shape([5, 1])
        column.set_data_from_numpy(table[:, position : position + 1])
    (listed, *_) = client.get_model_repository_index(headers=dict(headers))
    assert (
        listed["name"] == model and listed["state"] == "READY" and listed["version"] in described["versions"]
    )
    for refused in (
        lambda: client.infer(model, inputs, model_version="999", headers=dict(headers)),
        lambda: client.infer(
            model, inputs, outputs=[triton.InferRequestedOutput("no-such")], headers=dict(headers)
        ),
        lambda: client.load_model(model, headers=dict(headers)),
    ):
        try:
            refused()
        except InferenceServerException as error:
            assert error.message(), error
        else:
            raise AssertionError("what there is not was answered")
    versioned = client.infer(model, inputs, model_version=described["versions"][0], headers=dict(headers))
    assert versioned.as_numpy("predictions").shape == answers[True, True].shape
    for broken in (inputs[:-1], [*inputs[:-1], triton.InferInput("unknown", [5, 1], "FP64")]):
        if len(broken) == len(inputs):
            broken[-1].set_data_from_numpy(table[:, :1])
        try:
            client.infer(model, broken, headers=dict(headers))
        except InferenceServerException as error:
            assert error.status() == "400", error
        else:
            raise AssertionError("a request without a column was answered")


if __name__ == "__main__":
    main(*sys.argv[1:])
    print("tritonclient: conforms")
