"""Traces, taken by a collector that this test is: over HTTP, in OTLP's own messages."""

from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.service.collectors import collecting
from tests.service.gateways import World, linear, wait_until

pytestmark = pytest.mark.timeout(120)
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def make(home: Path, **settings: object) -> World:
    """A world with one model."""
    world = World(home, **settings)
    world.release("double-1", linear(2.0))
    world.deploy(double_1=1)
    return world


def test_a_callers_trace_goes_on(tmp_path: Path) -> None:
    """Recorded when the caller says so, and not otherwise; the log and the span name the same trace."""
    with collecting() as collector:
        world = make(tmp_path, otlp_endpoint=collector.url, trace_sample=0)
        with world.gateway():
            world.synced()
            assert world.ask(1.0).status_code == 200
            unrecorded = {"traceparent": f"00-{TRACE}-{PARENT}-00"}
            assert world.ask(1.0, headers=unrecorded).status_code == 200
            recorded = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            assert world.ask(1.0, headers=recorded).status_code == 200
            assert world.ask(headers=recorded).status_code == 400
            wait_until(lambda: len(collector.spans) >= 2)
        assert len(collector.spans) == 2 and collector.services == {"majlis-gateway"}
        good, bad = collector.spans
        for span in collector.spans:
            assert span.trace_id.hex() == TRACE and span.parent_span_id.hex() == PARENT
            assert span.kind == Span.SPAN_KIND_SERVER and span.name == "infer adder"
            assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
        codes = [
            a.value.int_value
            for s in (good, bad)
            for a in s.attributes
            if a.key == "http.response.status_code"
        ]
        assert codes == [200, 400]
        assert bad.status.code != Status.STATUS_CODE_ERROR  # the caller's fault is no error of the server's


def test_a_sample_begins_traces_of_its_own(tmp_path: Path) -> None:
    """And the prediction log names them."""
    with collecting() as collector:
        world = make(tmp_path, otlp_endpoint=collector.url, trace_sample=1)
        with world.gateway():
            world.synced()
            assert world.ask(1.0).status_code == 200
            wait_until(lambda: collector.spans)
            wait_until(lambda: any(world.home.glob("predictions/adder/**/*.parquet")))
        (span,) = collector.spans
        rows = pq.read_table(world.home / "predictions" / "adder").to_pylist()
        assert [row["trace_id"] for row in rows] == [span.trace_id.hex()] and not span.parent_span_id


def test_a_collector_that_is_gone_costs_nobody_anything(tmp_path: Path) -> None:
    """The answers go on; the loss is in the gateway's own log."""
    with collecting() as collector:
        gone = collector.url
    world = make(tmp_path, otlp_endpoint=gone, trace_sample=1)
    with world.gateway():
        world.synced()
        assert {world.ask(1.0).status_code for _ in range(20)} == {200}
        wait_until(lambda: "spans were not taken" in (world.home / "gateway.log").read_text())
        assert httpx.get(f"{world.url}/v2/health/ready").status_code == 200
