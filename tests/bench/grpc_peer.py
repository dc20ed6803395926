"""One model behind a bare gRPC ModelInfer, and a client that loads it; it needs `tritonclient[grpc]`.

`serve MODEL` prints its port; `load PORT COLUMNS CONNECTIONS SECONDS` prints how many answers came.
"""

import asyncio
import sys
import time
from typing import Any

import grpc
import numpy as np
import onnxruntime
from tritonclient.grpc import service_pb2, service_pb2_grpc


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Answers, and does nothing else: no key, no check of the columns, no log."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.output = self.session.get_outputs()[-1].name

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        """One prediction; the table comes as raw 64-bit floats."""
        rows, columns = request.inputs[0].shape
        table = np.frombuffer(request.raw_input_contents[0]).reshape(rows, columns)
        result = self.session.run([self.output], {self.input: table.astype(np.float32)})[0]
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
        answer.outputs.add(name="predictions", datatype="FP32", shape=result.shape)
        answer.raw_output_contents.append(result.tobytes())
        return answer


async def serve(path: str) -> None:
    """Answer until killed."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(path), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


async def load(port: str, columns: int, connections: int, seconds: float) -> None:
    """Ask over several connections, one request after the other on each."""
    request = service_pb2.ModelInferRequest(model_name="flights")
    request.inputs.add(name="table", datatype="FP64", shape=[1, columns])
    request.raw_input_contents.append(np.full((1, columns), 0.5).tobytes())
    deadline = time.monotonic() + seconds

    async def ask(number: int) -> int:
        own = [("grpc.use_local_subchannel_pool", 1), ("number", number)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=own) as channel:
            stub, count = service_pb2_grpc.GRPCInferenceServiceStub(channel), 0
            while time.monotonic() < deadline:
                await stub.ModelInfer(request)
                count += 1
            return count

    print(sum(await asyncio.gather(*(ask(number) for number in range(connections)))))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2]))
    else:
        asyncio.run(load(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])))
