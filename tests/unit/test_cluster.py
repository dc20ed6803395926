"""The manifests of hub_config/kubernetes: valid, and the network policies judged by who reaches whom."""

import ipaddress
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
import pytest
import yaml
from traitlets import import_item
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from hub_config import roles
from majlis.access import KERNEL_SCOPES, Role
from majlis.settings import load
from spawner.kube_spawner import WatchfulKubeSpawner

FOLDER = Path(__file__).parents[2] / "hub_config" / "kubernetes"
CLUSTER = "1.37"  # the Kubernetes whose schemas the manifests are held against
VALUES = yaml.safe_load((FOLDER / "values.yaml").read_text())
RESOURCES = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
MANIFESTS = [doc for name in RESOURCES for doc in yaml.safe_load_all((FOLDER / name).read_text())]
NAMESPACES = {doc["metadata"]["name"]: doc for doc in MANIFESTS if doc["kind"] == "Namespace"}
POLICIES = [doc for doc in MANIFESTS if doc["kind"] == "NetworkPolicy"]


def name_of(manifest: dict[str, Any]) -> str:
    """A manifest, for the list of tests."""
    place = manifest["metadata"].get("namespace", "cluster")
    return f"{manifest['kind']}-{place}-{manifest['metadata']['name']}"


@pytest.mark.parametrize("manifest", MANIFESTS, ids=name_of)
def test_a_manifest_is_valid_and_in_a_namespace_of_ours(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, CLUSTER, strict=True)
    assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] in NAMESPACES


def test_every_file_is_applied_or_the_charts() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*RESOURCES, "kustomization.yaml", "values.yaml"}


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_namespace_is_restricted_closed_and_counted(namespace: str) -> None:
    labels = NAMESPACES[namespace]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    inside = [doc for doc in MANIFESTS if doc["metadata"].get("namespace") == namespace]
    assert {doc["kind"] for doc in inside} == {"NetworkPolicy", "ResourceQuota", "LimitRange"}
    (denied,) = [doc["spec"] for doc in inside if doc["metadata"]["name"] == "default-deny"]
    assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_the_quota_counts_every_gpu_that_a_profile_asks_for() -> None:
    (quota,) = [
        d for d in MANIFESTS if d["kind"] == "ResourceQuota" and d["metadata"]["namespace"] == "majlis"
    ]
    asked = {f"requests.{p.gpu_resource}" for p in load(environ={}).profiles.values() if p.gpu}
    assert asked <= set(quota["spec"]["hard"])


class Pod(NamedTuple):
    """Somebody on the network: a pod, or an address outside."""

    namespace: str
    labels: dict[str, str]
    address: str = ""


def named(name: str, namespace: str = "majlis") -> Pod:
    """A pod of ours."""
    return Pod(namespace, {"app.kubernetes.io/name": name})


def chart(component: str, **labels: str) -> Pod:
    """A pod of the chart's, or a person's server."""
    return Pod("majlis", {"component": component} | labels)


OPEN = chart("singleuser-server", **{"majlis/network": "open"})
CLOSED = chart("singleuser-server", **{"majlis/network": "closed"})
HUB, PROXY = chart("hub"), chart("proxy")
CONTROL, MLFLOW, DATABASE = named("majlis-control"), named("mlflow"), named("postgresql")
GATEWAY, REDIS = named("majlis-gateway", "majlis-serving"), named("redis", "majlis-serving")
JOB, OTHER_TEAM = Pod("majlis-team-flights", {"job": "nightly"}), Pod("majlis-team-other", {"job": "nightly"})
DNS = Pod("kube-system", {"k8s-app": "kube-dns"})
INTERNET, METADATA, PRIVATE = (Pod("", {}, at) for at in ("93.184.216.34", "169.254.169.254", "10.1.2.3"))
ELSEWHERE = {
    "kube-system": {},
    "majlis-team-other": {"majlis/team": "other"},
    "ingress": {"majlis/ingress": "true"},
    "default": {},
}
INGRESS, STRANGER = Pod("ingress", {}), Pod("default", {})


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Does a label selector match?"""
    for rule in selector.get("matchExpressions", []):
        held = labels.get(rule["key"])
        if not {"In": held in rule.get("values", []), "Exists": held is not None}[rule["operator"]]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def is_peer(peer: dict[str, Any], pod: Pod, home: str) -> bool:
    """Is a pod one that a rule of a policy in namespace `home` names?"""
    if "ipBlock" in peer:
        if not pod.address:
            return False
        block, at = peer["ipBlock"], ipaddress.ip_address(pod.address)
        inside = [at in ipaddress.ip_network(net) for net in (block["cidr"], *block.get("except", []))]
        return inside[0] and not any(inside[1:])
    if pod.address:
        return False
    if "namespaceSelector" not in peer and pod.namespace != home:
        return False
    known = NAMESPACES.get(pod.namespace)
    labels = known["metadata"]["labels"] if known else ELSEWHERE[pod.namespace]
    labels = labels | {"kubernetes.io/metadata.name": pod.namespace}
    return selects(peer.get("namespaceSelector", {}), labels) and selects(
        peer.get("podSelector", {}), pod.labels
    )


def allows(direction: str, pod: Pod, other: Pod, port: int) -> bool:
    """Do the policies let traffic pass at `pod`, in that direction? Where none selects it, all may."""
    applying = [
        policy
        for policy in POLICIES
        if policy["metadata"]["namespace"] == pod.namespace
        and direction in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], pod.labels)
    ]
    side = "from" if direction == "Ingress" else "to"
    return not applying or any(
        any(is_peer(peer, other, pod.namespace) for peer in rule[side])
        and any(entry["port"] == port for entry in rule["ports"])
        for policy in applying
        for rule in policy["spec"].get(direction.lower(), [])
    )


def reaches(source: Pod, target: Pod, port: int) -> bool:
    """May `source` open a connection to `target`? The chart opens the hub's own way out."""
    leaves = source == HUB or allows("Egress", source, target, port)
    return leaves and allows("Ingress", target, source, port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        *((server, HUB, 8081) for server in (OPEN, CLOSED, CONTROL, MLFLOW)),
        *((server, PROXY, 8000) for server in (OPEN, CLOSED, JOB)),
        *((server, GATEWAY, 8080) for server in (OPEN, CLOSED, JOB, INGRESS, OTHER_TEAM)),
        *((HUB, server, 8888) for server in (OPEN, CLOSED)),
        *((front, CONTROL, 8082) for front in (HUB, PROXY)),
        *((front, MLFLOW, 8083) for front in (HUB, PROXY, CONTROL)),
        *((owner, DATABASE, 5432) for owner in (CONTROL, MLFLOW)),
        *((anyone, DNS, 53) for anyone in (OPEN, CLOSED, GATEWAY, JOB)),
        (GATEWAY, REDIS, 6379),
        (OPEN, INTERNET, 443),
    ],
)
def test_what_is_needed_is_open(source: Pod, target: Pod, port: int) -> None:
    assert reaches(source, target, port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        (CLOSED, INTERNET, 443),
        (JOB, INTERNET, 443),
        (GATEWAY, INTERNET, 443),
        (CONTROL, INTERNET, 443),
        (OPEN, INTERNET, 22),
        (OPEN, METADATA, 80),
        (OPEN, PRIVATE, 443),
        (OPEN, CLOSED, 8888),
        (CLOSED, OPEN, 8888),
        (OPEN, CONTROL, 8082),
        (OPEN, MLFLOW, 8083),
        (OPEN, DATABASE, 5432),
        (OPEN, REDIS, 6379),
        (GATEWAY, CONTROL, 8082),
        (GATEWAY, DATABASE, 5432),
        (JOB, HUB, 8081),
        (JOB, MLFLOW, 8083),
        (JOB, OPEN, 8888),
        (OTHER_TEAM, JOB, 8080),
        (STRANGER, GATEWAY, 8080),
        (STRANGER, CONTROL, 8082),
        (INGRESS, MLFLOW, 8083),
    ],
)
def test_what_is_not_needed_is_closed(source: Pod, target: Pod, port: int) -> None:
    assert not reaches(source, target, port)


def test_the_charts_values_keep_the_pods_restricted_and_the_way_out_ours() -> None:
    server = VALUES["singleuser"]
    assert server["cloudMetadata"]["blockWithIptables"] is False
    assert server["networkPolicy"]["enabled"] is True
    assert server["networkPolicy"]["egressAllowRules"]
    assert not any(server["networkPolicy"]["egressAllowRules"].values())
    assert server["allowPrivilegeEscalation"] is False
    assert server["storage"]["type"] == "none"
    assert set(VALUES) == {"hub", "proxy", "singleuser", "scheduling", "prePuller", "cull"}


def test_the_charts_values_hold_no_secret() -> None:
    assert not {"apiToken", "secretToken", "cookieSecret", "password"} & set(keys(VALUES))


def keys(values: Any) -> list[str]:
    """Every key in nested values."""
    if not isinstance(values, dict):
        return []
    return [*values, *(key for value in values.values() for key in keys(value))]


def test_the_charts_extra_config_finishes_the_hub() -> None:
    config = Config()
    config.JupyterHub.services = [{"name": name} | each for name, each in VALUES["hub"]["services"].items()]
    config.JupyterHub.load_roles = [{"name": "jupyterhub-idle-culler", "scopes": ["list:users"]}]
    exec(VALUES["hub"]["extraConfig"]["majlis"], {"c": config})
    assert import_item(config.JupyterHub.spawner_class) is WatchfulKubeSpawner
    assert callable(config.KubeSpawner.profile_list)
    found = [role["name"] for role in config.JupyterHub.load_roles]
    expected = [*(f"majlis-{role}" for role in Role), f"{roles.CONTROL}-service"]
    assert found == ["jupyterhub-idle-culler", *expected]
    assert set(config.JupyterHub.load_groups) == {role.value for role in Role}
    for service in config.JupyterHub.services:
        assert set(service["oauth_client_allowed_scopes"]) >= {scope.value for scope in KERNEL_SCOPES}


@pytest.mark.parametrize(
    ("written", "starts"), [("local", "LocalSpawner"), ("kubernetes", "WatchfulKubeSpawner")]
)
def test_one_setting_chooses_where_servers_run(
    written: str, starts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAJLIS_WORKBENCH_SPAWNER", written)
    monkeypatch.setenv("MAJLIS_WORKBENCH_HOME", str(tmp_path))
    config = PyFileConfigLoader(str(FOLDER.parent / "jupyterhub_config.py")).load_config()
    chosen = config.JupyterHub.spawner_class
    assert (import_item(chosen) if isinstance(chosen, str) else chosen).__name__ == starts
