"""Rollouts on KServe: the controller that drives the gateway drives InferenceServices, step by step."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from majlis import clock
from majlis.access import local_principal
from majlis.client import Embedded
from majlis.control.deployments import Deployments, Wanted
from majlis.control.kserve import Cluster, KServe
from majlis.control.rollouts import Rollouts
from majlis.errors import Conflict, Invalid, Unavailable
from majlis.events import notifier
from majlis.serving.rollout import Phase
from majlis.settings import load
from majlis.store import Store
from tests.service.gateways import World, linear
from tests.service.planes import environment, released
from tests.support.kserve import FakeKServe

AMIRA = local_principal("amira")
STEPS = (10, 50, 100)


class Bench:
    """A control plane's rollouts on a cluster in memory; time passes when the test says so."""

    def __init__(self, world: World) -> None:
        self.cluster = FakeKServe()
        self.settings = load(environ=environment(world, pause_seconds=60, requests=50))
        self.store = Store(self.settings.store.url, self.settings.store.busy_timeout_seconds)
        self.store.migrate()
        for number in (1, 2, 3):
            released(self, world, number, linear(2.0))  # type: ignore[arg-type]
        self.now = clock.now()
        self.open()

    def open(self) -> None:
        """Start the controller, as a new process would."""
        http = httpx.Client(transport=Embedded(lambda: self.cluster.app), base_url="http://kubernetes")
        target = KServe(self.settings, Cluster(self.settings.serving, http), http)
        self.deployments = Deployments(self.settings, self.store, target)
        events = notifier(self.settings.notify)
        self.rollouts = Rollouts(self.settings, self.store, self.deployments, events)

    def deploy(self, number: int, strategy: str = "at-once", **more: Any) -> None:
        """Ask for a release."""
        wanted = Wanted(release=f"flights-{number}", strategy=strategy, reason="a test", **more)
        self.rollouts.deploy(AMIRA, "flights", wanted)

    def look(self, requests: int = 2000, failing: frozenset[str] = frozenset()) -> dict[str, float]:
        """Traffic for a minute, and a look; the shares afterwards."""
        self.cluster.ask("flights", requests, failing, seed=len(self.cluster.writes))
        self.now += timedelta(minutes=2)
        with clock.frozen(self.now):
            self.rollouts.look()
        return self.shares()

    def shares(self) -> dict[str, float]:
        """The traffic, as the cluster divides it."""
        return {name: round(share, 6) for name, share in self.cluster.traffic("flights").items()}

    def state(self) -> dict[str, Any]:
        """The rollout."""
        return self.rollouts.get(AMIRA, "flights")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(World(tmp_path))
    yield made
    made.store.close()


def test_a_canary_walks_through_its_steps_and_a_new_controller_goes_on(bench: Bench) -> None:
    bench.deploy(1)
    assert bench.look() == {"1": 1.0}
    bench.deploy(2, "canary", steps=STEPS)
    assert bench.shares() == {"2": 0.1, "1": 0.9}
    bench.open()  # killed, and started anew
    assert bench.look() == {"2": 0.5, "1": 0.5}
    assert bench.look() == {"2": 1.0}
    before = list(bench.cluster.writes)
    assert bench.look() == {"2": 1.0} and bench.state()["phase"] == Phase.PROMOTED
    found = bench.deployments.get(AMIRA, "flights")
    assert found["ready"] and found["url"] == "http://flights.example.com"
    assert len(bench.cluster.writes) <= len(before) + 1
    again = list(bench.cluster.writes)
    bench.look()
    assert bench.cluster.writes == again  # nothing is to be done: nothing is written


def test_the_object_names_the_signed_release(bench: Bench) -> None:
    bench.deploy(1)
    [found] = bench.cluster.objects.values()
    notes, model = found["metadata"]["annotations"], found["spec"]["predictor"]["model"]
    statement = bench.settings.release.folder / "flights-1" / "release.json"
    assert notes["majlis/release"] == "flights-1" and model["storageUri"].endswith("/flights-1")
    assert notes["majlis/digest"] == KServe.digest(bench.deployments.target, "flights-1")
    statement.write_bytes(statement.read_bytes() + b" ")
    assert notes["majlis/digest"] != KServe.digest(bench.deployments.target, "flights-1")


def test_a_failing_canary_is_pinned_to_nothing_and_a_refused_one_too(bench: Bench) -> None:
    bench.deploy(1)
    bench.look()
    bench.deploy(2, "canary", steps=STEPS)
    revisions = len(bench.cluster.revisions["flights"])
    assert bench.look(failing=frozenset({"2"})) == {"1": 1.0}
    assert "2 fails 100.00%" in bench.state()["reason"]
    assert len(bench.cluster.revisions["flights"]) == revisions  # nothing was started to go back
    bench.cluster.broken.add("flights-3")
    bench.deploy(3, "canary", steps=STEPS)
    assert bench.look() == {"1": 1.0}
    assert bench.state()["reason"] == "3 is not served: flights-3: the signature does not fit"


def test_blue_green_switches_and_goes_back_without_a_new_pod(bench: Bench) -> None:
    bench.deploy(1)
    bench.look()
    bench.deploy(2, "blue-green")
    assert bench.shares() == {"2": 1.0}
    assert bench.look(failing=frozenset({"2"})) == {"1": 1.0}
    bench.deploy(3)
    bench.deployments.rollback(AMIRA, "flights", "second thoughts")
    assert bench.shares() == {"1": 1.0}
    bench.deploy(2, "canary", steps=STEPS)  # beside what serves, not beside what was rolled out last
    bench.look(0)
    [found] = bench.cluster.objects.values()
    assert found["metadata"]["annotations"]["majlis/rest"] == "flights-1"
    assert sum(bench.shares().values()) == 1.0 and len(bench.shares()) == 2
    releases = {
        model["storageUri"][-1]
        for name, model in bench.cluster.revisions["flights"].items()
        if name in {part["revisionName"] for part in found["status"]["components"]["predictor"]["traffic"]}
    }
    assert releases == {"1", "2"}


def test_an_ab_test_is_a_graph_and_leaves_nothing_behind(bench: Bench) -> None:
    bench.deploy(1)
    bench.look()
    bench.deploy(2, "a/b", share=30)
    assert bench.shares() == {"1": 0.7, "2": 0.3}
    assert bench.deployments.get(AMIRA, "flights")["ready"]
    assert bench.look() == {"1": 0.7, "2": 0.3}
    assert {row["signal"] for row in bench.state()["compared"]} >= {"failures", "slow"}
    bench.rollouts.promote(AMIRA, "flights", "it is better")
    assert bench.shares() == {"2": 1.0}
    assert list(bench.cluster.objects) == [("inferenceservices", "flights")]
    bench.deployments.delete(AMIRA, "flights", "the season is over")
    assert not bench.cluster.objects


def test_shadows_are_refused_with_what_is_possible(bench: Bench) -> None:
    bench.deploy(1)
    with pytest.raises(Invalid, match="cannot do that") as refusal:
        bench.deploy(2, "shadow")
    assert refusal.value.remedy == "Ask for one of canary, blue-green, a/b."


def test_an_api_that_was_down_or_disagreed_is_caught_up_with(bench: Bench) -> None:
    bench.deploy(1)
    bench.look()
    bench.cluster.down = True
    with pytest.raises(Unavailable, match="503"):
        bench.deploy(2)
    assert bench.shares() == {"1": 1.0}
    bench.cluster.down = False
    assert bench.look() == {"2": 1.0}  # what was wanted was kept
    bench.cluster.interfere = 1
    with pytest.raises(Conflict, match="was changed"):
        bench.deploy(3)
    assert bench.look() == {"3": 1.0}


def test_what_others_add_stays_and_what_they_change_is_set_right(bench: Bench) -> None:
    bench.deploy(1)
    [found] = bench.cluster.objects.values()
    found["metadata"]["annotations"]["team"] = "planning"
    writes = len(bench.cluster.writes)
    bench.look()
    assert len(bench.cluster.writes) == writes
    found["spec"]["predictor"]["model"]["storageUri"] = "s3://elsewhere/model"
    bench.look()
    [mended] = bench.cluster.objects.values()
    assert mended["spec"]["predictor"]["model"]["storageUri"].endswith("/flights-1")
    assert mended["metadata"]["annotations"]["team"] == "planning"


def test_the_schemas_refuse_what_kserve_would(bench: Bench) -> None:
    cluster = bench.deployments.target.cluster  # type: ignore[attr-defined]
    bench.deploy(1)
    [(name, there)] = cluster.held().items()
    wrong = {**there, "spec": {"predictor": {"canaryTrafficPercent": 101}}}
    with pytest.raises(Unavailable, match="422"):
        cluster.put(name, wrong, there)


def test_a_release_that_is_gone_holds_no_other_deployment_up(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.deploy(1)
    (bench.settings.release.folder / "flights-1" / "release.json").unlink()
    wanted = Wanted(release="flights-2", reason="another one")
    bench.rollouts.deploy(AMIRA, "arrivals", wanted)
    assert "the deployment flights is left as it is" in caplog.text
    assert sorted(name for _, name in bench.cluster.objects) == ["arrivals", "flights"]
