"""Rollouts on KServe: the controller that drives the gateway drives InferenceServices, step by step."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from majlis import clock
from majlis.access import local_principal
from majlis.client import Embedded
from majlis.control.deployments import Deployments
from majlis.control.keys import Keys
from majlis.control.kserve import KINDS, Cluster, KServe
from majlis.control.rollouts import Rollouts
from majlis.control.wanted import Wanted
from majlis.envelope import verifying_key
from majlis.errors import Conflict, Invalid, Unavailable
from majlis.events import notifier
from majlis.serving import snapshot
from majlis.serving.rollout import Phase
from majlis.settings import load
from majlis.store import Store
from tests.service.gateways import ROOT, World, linear
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

    def begin(self) -> None:
        """A release that serves, and has for a while."""
        self.deploy(1)
        self.look(0)  # its pods are ready: the way there is made
        self.look()

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


def service(bench: Bench, name: str) -> dict[str, Any]:
    """An InferenceService."""
    return bench.cluster.objects["inferenceservices", name]


def test_a_canary_walks_through_its_steps_and_a_new_controller_goes_on(bench: Bench) -> None:
    bench.deploy(1)
    assert bench.look() == {"1": 1.0}
    bench.deploy(2, "canary", steps=STEPS)
    bench.open()  # killed, and started anew
    assert bench.look(0) == {"2": 0.1, "1": 0.9}
    assert bench.look() == {"2": 0.5, "1": 0.5}
    assert bench.look() == {"2": 1.0}
    assert bench.look() == {"2": 1.0} and bench.state()["phase"] == Phase.PROMOTED
    found = bench.deployments.get(AMIRA, "flights")
    assert found["ready"] and found["url"] == bench.settings.serving.kserve_url
    again = list(bench.cluster.writes)
    bench.look()
    assert bench.cluster.writes == again  # nothing is to be done: nothing is written


def test_the_object_names_the_signed_release(bench: Bench) -> None:
    bench.deploy(1)
    found = service(bench, "flights-1")
    notes, model = found["metadata"]["annotations"], found["spec"]["predictor"]["model"]
    statement = bench.settings.release.folder / "flights-1" / "release.json"
    assert notes["majlis/release"] == "flights-1" and model["storageUri"].endswith("/flights-1")
    assert notes["majlis/digest"] == KServe.digest(bench.deployments.target, "flights-1")
    statement.write_bytes(statement.read_bytes() + b" ")
    assert notes["majlis/digest"] != KServe.digest(bench.deployments.target, "flights-1")


def test_requests_wait_for_pods_and_go_to_nothing_that_is_refused(bench: Bench) -> None:
    bench.begin()
    bench.cluster.slow = True
    bench.deploy(2)
    assert bench.look() == {"1": 1.0}  # though all of the traffic is to move
    bench.cluster.started()
    assert bench.look() == {"2": 1.0}
    bench.cluster.broken.add("flights-3")
    bench.deploy(3, "canary", steps=STEPS)
    assert bench.look() == {"2": 1.0}
    assert bench.state()["reason"] == "3 is not served: flights-3: the signature does not fit"


def test_a_failing_canary_is_taken_back(bench: Bench) -> None:
    bench.begin()
    bench.deploy(2, "canary", steps=STEPS)
    bench.look(0)
    writes = len(bench.cluster.writes)
    assert bench.look(failing=frozenset({"2"})) == {"1": 1.0}
    assert "2 fails 100.00%" in bench.state()["reason"]
    assert not any(write.startswith("POST") for write in bench.cluster.writes[writes:])  # nothing was started


def test_blue_green_switches_and_goes_back_without_a_new_pod(bench: Bench) -> None:
    bench.begin()
    bench.deploy(2, "blue-green")
    assert bench.look(0) == {"2": 1.0}
    assert bench.look(failing=frozenset({"2"})) == {"1": 1.0}
    bench.deploy(3)
    assert bench.look(0) == {"3": 1.0}
    writes = len(bench.cluster.writes)
    bench.deployments.rollback(AMIRA, "flights", "second thoughts")
    assert bench.shares() == {"1": 1.0}  # at once: it was kept
    assert not any(write.startswith("POST") for write in bench.cluster.writes[writes:])


def test_an_ab_test_divides_by_request_and_leaves_nothing_behind(bench: Bench) -> None:
    bench.begin()
    with pytest.raises(Invalid, match="anew for each request") as refusal:
        bench.deploy(2, "a/b", share=30, sticky="x-user")
    assert refusal.value.status == 422 and "Leave sticky out" in str(refusal.value.remedy)
    bench.deploy(2, "a/b", share=30)
    assert bench.look(0) == {"1": 0.7, "2": 0.3}
    assert bench.deployments.get(AMIRA, "flights")["ready"] and bench.state()["sticky"] is None
    assert bench.look() == {"1": 0.7, "2": 0.3}
    assert {row["signal"] for row in bench.state()["compared"]} >= {"failures", "slow"}
    bench.rollouts.promote(AMIRA, "flights", "it is better")
    assert bench.shares() == {"2": 1.0}
    bench.deployments.delete(AMIRA, "flights", "the season is over")
    assert not bench.cluster.objects


def test_a_shadow_gets_copies_and_answers_nobody(bench: Bench) -> None:
    bench.begin()
    bench.deploy(2, "shadow")
    bench.look(0)
    assert bench.shares() == {"1": 1.0} and bench.cluster.copied("flights") == ["2"]
    asked = bench.cluster.meters["flights", "1"].requests
    bench.look(100, failing=frozenset({"2"}))
    assert bench.cluster.meters["flights", "2"].requests == 100  # each of them once
    assert bench.cluster.meters["flights", "1"].requests == asked + 100
    assert bench.shares() == {"1": 1.0} and bench.cluster.copied("flights") == []
    assert "2 fails 100.00%" in bench.state()["reason"]


def test_pods_learn_their_keys_and_no_others_and_what_is_revoked(bench: Bench) -> None:
    bench.deploy(1)
    wanted = Wanted(release="flights-2", reason="another one")
    bench.rollouts.deploy(AMIRA, "arrivals", wanted)
    keys = Keys(bench.deployments)
    mine = keys.issue(AMIRA, "flights", 1)
    keys.issue(AMIRA, "arrivals", 1)

    def told() -> snapshot.Snapshot:
        text = bench.cluster.objects["configmaps", "flights"]["data"]["snapshot.json"]
        public = verifying_key(bench.settings.release.public_key)
        return snapshot.decode(snapshot.unseal(text.encode(), public))

    assert set(told().deployments) == {"flights"} and [key.id for key in told().keys] == [mine["id"]]
    [volume] = service(bench, "flights-1")["spec"]["predictor"]["volumes"]
    assert volume["configMap"]["name"] == "flights"
    serial = told().serial
    keys.issue(AMIRA, "arrivals", 1)
    assert told().serial == serial  # what does not concern it wakes nobody
    keys.withdraw(AMIRA, "flights", mine["id"], "it was in a mail")
    assert not told().keys
    bench.cluster.objects["configmaps", "flights"]["data"]["snapshot.json"] = "{}"
    bench.look()
    assert set(told().deployments) == {"flights"}


def test_an_api_that_was_down_or_disagreed_is_caught_up_with(bench: Bench) -> None:
    bench.begin()
    bench.cluster.down = True
    with pytest.raises(Unavailable, match="503"):
        bench.deploy(2)
    assert bench.shares() == {"1": 1.0}
    bench.cluster.down = False
    bench.look()
    assert bench.look() == {"2": 1.0}  # what was wanted was kept
    bench.cluster.interfere = 1
    with pytest.raises(Conflict, match="was changed"):
        bench.deploy(3)
    bench.look()
    assert bench.look() == {"3": 1.0}


def test_what_others_add_stays_and_what_they_change_is_set_right(bench: Bench) -> None:
    bench.begin()
    found = service(bench, "flights-1")
    found["metadata"]["annotations"]["team"] = "planning"
    found["spec"]["predictor"]["timeout"] = 60  # as a cluster's own defaults are
    writes = len(bench.cluster.writes)
    bench.look()
    assert len(bench.cluster.writes) == writes
    found["spec"]["predictor"]["model"]["storageUri"] = "s3://elsewhere/model"
    route = bench.cluster.objects["httproutes", "flights"]
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "spy", "port": 80}}}
    route["spec"]["rules"][0]["filters"].append(mirror)
    bench.look(0)
    mended = service(bench, "flights-1")
    assert mended["spec"]["predictor"]["model"]["storageUri"].endswith("/flights-1")
    assert mended["metadata"]["annotations"]["team"] == "planning"
    assert bench.cluster.objects["httproutes", "flights"]["spec"]["rules"][0]["filters"] == []


def test_the_schemas_refuse_what_kserve_would(bench: Bench) -> None:
    cluster = bench.deployments.target.cluster  # type: ignore[attr-defined]
    bench.deploy(1)
    name, there = next((n, there) for n, there in cluster.held().items() if n.plural == "inferenceservices")
    wrong = {**there, "spec": {"predictor": {"minReplicas": -1}}}
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
    assert {name for plural, name in bench.cluster.objects if plural == "inferenceservices"} == {
        "arrivals-1",
        "flights-1",
    }


def test_the_role_allows_what_is_done_and_nothing_more(bench: Bench) -> None:
    bench.begin()
    bench.deploy(2, "shadow")
    bench.look()
    service(bench, "flights-1")["spec"]["predictor"]["minReplicas"] = 9
    bench.look()
    bench.rollouts.abort(AMIRA, "flights", "enough")
    bench.deployments.delete(AMIRA, "flights", "the season is over")
    bench.look()
    access = yaml.safe_load_all((ROOT / "templates/kubernetes/access.yaml").read_text())
    role = next(doc for doc in access if doc["kind"] == "Role")
    allowed = {
        (verb, resource) for rule in role["rules"] for verb in rule["verbs"] for resource in rule["resources"]
    }
    assert bench.cluster.asked == allowed
    groups = {
        resource: group
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert groups == {plural: kind.version.rpartition("/")[0] for plural, kind in KINDS.items()}
