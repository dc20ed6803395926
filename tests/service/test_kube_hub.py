"""People's servers as pods: a real hub with our spawner, and a cluster in memory whose pods are processes."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from majlis.access import KERNEL_SCOPES, Scope
from spawner import kube
from tests.conftest import open_folder
from tests.support.kube import Thing
from tests.support.kube_hub import MISSING_IMAGE, SECOND_ENGINEER, SPENDER, KubeHub
from tests.support.people import Person, spend
from tests.support.strangers import BODIES, TOLD_AT_MOST
from tests.support.waiting import eventually

API = "/services/majlis/api/v1"
OTHER_IMAGE = "registry.example.org/majlis/server-r:1"
PACE = 10.0  # the watches pause a tenth of what they would, so a tenth of an outage makes them give up
OUTAGE_SECONDS = 75.0 / PACE
GAVE_UP, RENEWED = "never recovered, giving up", "ended; it is renewed"


@pytest.fixture(scope="module")
def hub() -> Iterator[KubeHub]:
    """A hub in front of a cluster."""
    broken = {"MAJLIS_PROFILE_CPU_LARGE_IMAGE": MISSING_IMAGE, "MAJLIS_PROFILE_CPU_SMALL_IMAGES": OTHER_IMAGE}
    with open_folder() as folder:
        running = KubeHub(folder, PACE, broken, control=True)
        try:
            yield running.start()
        finally:
            running.stop()


def ask(person: Person, **options: str) -> httpx.Response:
    """Ask for a server through the REST API."""
    headers = {"X-XSRFToken": person.xsrf}
    return person.browser.post(f"/hub/api/users/{person.name}/server", json=options, headers=headers)


def stop(hub: KubeHub, person: Person) -> None:
    """Stop a person's server and wait until its pod is gone."""
    person.hub("DELETE", f"/users/{person.name}/server")
    eventually(lambda: hub.cluster.pod(person.name) is None, f"{person.name}'s pod stayed")


def pod_of(hub: KubeHub, name: str) -> Thing:
    """The pod of a person's server."""
    pod = hub.cluster.pod(name)
    assert pod is not None
    return pod


def test_a_person_chooses_a_profile_runs_a_cell_and_stops(hub: KubeHub) -> None:
    scientist = hub.person("scientist")
    form = scientist.page("/hub/spawn").text
    assert "gpu-shared" in form
    assert "cpu-large" not in form
    chosen = {
        "profile": "cpu-small",
        "profile-option-cpu-small--capacity": "on-demand",
        "_xsrf": scientist.xsrf,
    }
    scientist.browser.post("/hub/spawn", data=chosen).raise_for_status()
    scientist.start_server()
    pod = pod_of(hub, "scientist")
    assert pod["spec"]["nodeName"] == "cpu-1"
    assert pod["metadata"]["annotations"][kube.NAME] == "cpu-small"
    assert "jupyter-config-data" in scientist.page("/user/scientist/lab").text
    told = scientist.run("import os; print(os.environ['MAJLIS_URL'], os.environ['CPU_LIMIT'])").split()
    assert told == [f"{hub.url}/services/majlis", "2.0"]
    (claim,) = hub.cluster.things("persistentvolumeclaims")
    stop(hub, scientist)
    assert hub.cluster.things("persistentvolumeclaims") == [claim], "the home stays"


def test_spot_is_the_default_and_the_shared_gpu_is_a_slice(hub: KubeHub) -> None:
    scientist, compliance = hub.person("scientist"), hub.person("compliance")
    for person, profile, node in (
        (scientist, "cpu-small", "spot-1"),
        (scientist, "gpu-shared", "mig-1"),
        (compliance, "restricted", "restricted-1"),
    ):
        person.start_server(profile=profile)
        assert pod_of(hub, person.name)["spec"]["nodeName"] == node
        stop(hub, person)


def test_an_image_that_is_listed_is_started(hub: KubeHub) -> None:
    scientist = hub.person("scientist")
    assert OTHER_IMAGE in scientist.page("/hub/spawn").text
    scientist.start_server(profile="cpu-small", image=OTHER_IMAGE)
    assert pod_of(hub, "scientist")["spec"]["containers"][0]["image"] == OTHER_IMAGE
    stop(hub, scientist)


def test_a_second_gpu_server_waits_for_the_first_to_stop(hub: KubeHub) -> None:
    first, second = hub.person("engineer"), hub.person(SECOND_ENGINEER)
    first.start_server(profile="gpu")
    assert pod_of(hub, first.name)["spec"]["nodeName"] == "gpu-1"
    assert ask(second, profile="gpu").status_code == 202
    eventually(
        lambda: any("1 Insufficient nvidia.com/gpu" in each for each in hub.cluster.events(second.name)),
        "nobody said why the second server waits",
    )
    waiting = pod_of(hub, second.name)
    assert waiting["status"]["phase"] == "Pending"
    stop(hub, first)
    second.start_server(profile="gpu")
    started = pod_of(hub, second.name)
    assert started["metadata"]["uid"] == waiting["metadata"]["uid"]
    assert started["spec"]["nodeName"] == "gpu-1"
    stop(hub, second)


@pytest.mark.parametrize(
    ("name", "options", "status", "told"),
    [
        ("owner", {"profile": "gpu"}, 403, "Choose one of yours: cpu-small"),
        ("owner", {"profile": "nope"}, 422, "Yours are: cpu-small"),
        ("engineer", {"profile": "gpu", "capacity": "spot"}, 422, "Options are: profile"),
        ("scientist", {"capacity": "free"}, 422, "Choose one of: spot, on-demand"),
        ("scientist", {"image": "evil.example.org/x:1"}, 422, f"Choose one of: usual, {OTHER_IMAGE}"),
    ],
)
def test_a_choice_that_is_not_allowed_is_refused_with_what_is(
    hub: KubeHub, name: str, options: dict[str, str], status: int, told: str
) -> None:
    answer = ask(hub.person(name), **options)
    assert answer.status_code == status, answer.text
    assert told in answer.json()["message"]
    assert hub.cluster.pod(name) is None


def test_whatever_is_asked_for_is_refused_and_begins_nothing(hub: KubeHub) -> None:
    owner = hub.person("owner")
    for what, body in BODIES.items():
        headers = {"X-XSRFToken": owner.xsrf}
        answer = owner.browser.post("/hub/api/users/owner/server", json=body, headers=headers)
        assert 400 <= answer.status_code < 500, f"{what}: {answer.status_code} {answer.text[:200]}"
        assert len(answer.text) <= TOLD_AT_MOST, what
    assert hub.cluster.pod("owner") is None


def test_a_missing_image_ends_the_start_and_the_person_reads_why(hub: KubeHub) -> None:
    engineer = hub.person("engineer")
    assert ask(engineer, profile="cpu-large").status_code in (202, 503)
    eventually(lambda: hub.cluster.pod("engineer") is None, "the pod that cannot start stayed")
    why = f"{MISSING_IMAGE}, ErrImagePull: {MISSING_IMAGE}: manifest unknown"
    eventually(lambda: why in engineer.page("/hub/spawn-pending/engineer").text, "nobody told the person why")


def test_an_outage_of_the_api_is_survived(hub: KubeHub) -> None:
    scientist, owner = hub.person("scientist"), hub.person("owner")
    before = scientist.start_server(profile="cpu-small")
    uid = pod_of(hub, "scientist")["metadata"]["uid"]
    gave_up = hub.said().count(GAVE_UP)
    hub.cluster.leave()
    deadline = time.monotonic() + OUTAGE_SECONDS
    eventually(
        lambda: hub.said().count(GAVE_UP) >= gave_up + 2, "the watches of pods and of events did not give up"
    )
    eventually(lambda: time.monotonic() > deadline, "time stood still")
    assert scientist.run("print(6 * 7)").strip() == "42", "a server does not need the API"
    hub.cluster.come_back()
    owner.start_server(profile="cpu-small")
    assert RENEWED in hub.said()
    assert scientist.start_server() == before
    assert pod_of(hub, "scientist")["metadata"]["uid"] == uid, "the server was started anew"
    for person in (owner, scientist):
        stop(hub, person)


def test_the_control_plane_asks_for_the_others_through_the_proxy(hub: KubeHub) -> None:
    health = httpx.get(f"{hub.url}/services/majlis/health", trust_env=False).json()
    found = {one["name"]: one for one in health["components"]}
    assert found["hub"]["status"] == "ok"
    assert "look at the pod's events" in found["gateway"]["reason"]


def test_decisions_have_an_origin_and_a_client_of_their_own(hub: KubeHub) -> None:
    engineer = hub.person("engineer")
    there = engineer.decisions()
    assert Scope.REVIEW in there.get(f"{API}/whoami").json()["scopes"]
    here = engineer.page(f"{API}/whoami").json()
    assert here["name"] == "engineer"
    assert Scope.REVIEW not in here["scopes"]
    decision = {"json": {"decision": "approve", "reason": "forged", "as": "engineer"}}
    path = f"{API}/models/any/versions/1/reviews"
    forged = there.post(path, headers={"Origin": hub.url}, **decision)
    assert forged.status_code == 403, "a page of the hub's origin decides with the person's own session"
    assert there.post(path, **decision).status_code == 404, (
        "from its own page it is heard: there is no such model"
    )


def test_a_kernels_token_decides_on_neither_origin(hub: KubeHub) -> None:
    engineer = hub.person("engineer")
    engineer.start_server(profile="cpu-small")
    token = engineer.kernel_token()
    for origin in (hub.url, hub.decisions_url):
        headers = {"Authorization": f"Bearer {token}"}
        me = httpx.get(f"{origin}{API}/whoami", headers=headers, trust_env=False).json()
        assert set(me["scopes"]) == {scope.value for scope in KERNEL_SCOPES}
    stop(hub, engineer)


def test_who_has_something_left_reads_how_much_and_who_has_not_is_refused(hub: KubeHub) -> None:
    spender = hub.person(SPENDER)
    told = "500.00 of 500.00 USD are left of this month's budget."
    with ThreadPoolExecutor(1) as apart:
        started = apart.submit(ask, spender, profile="cpu-small")
        other = hub.person(SPENDER)  # another page of theirs, on which they wait
        eventually(lambda: told in other.page(f"/hub/api/users/{SPENDER}/server/progress").text, "not told")
        assert started.result().status_code in (201, 202)
    spender.start_server()
    stop(hub, spender)
    spend(hub.decisions_url, spender)
    refused = ask(spender, profile="cpu-small")
    assert refused.status_code == 403
    assert "2500.00 of 500.00 USD are spent this month, and 0.00 are left" in refused.json()["message"]
    assert hub.cluster.pod(SPENDER) is None


def test_a_server_that_ends_by_itself_is_noticed(hub: KubeHub) -> None:
    owner = hub.person("owner")
    owner.start_server(profile="cpu-small")
    process = hub.cluster.nodes.running[pod_of(hub, "owner")["metadata"]["uid"]].process
    process.kill()
    eventually(lambda: not owner.hub("GET", "/users/owner").json()["server"], "the hub thinks that it runs")
