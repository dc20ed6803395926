"""The manifests of hub_config/kubernetes: valid, and the network policies judged by who reaches whom."""

import importlib
import ipaddress
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import pytest
import yaml
from traitlets import import_item
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from hub_config import roles
from majlis.access import KERNEL_SCOPES, Role, Scope
from majlis.errors import SettingsError
from majlis.settings import load
from spawner import idle
from spawner.kube_spawner import WatchfulKubeSpawner
from tests.support.kustomize import resolved
from tests.support.pod_security import restricted

FOLDER = Path(__file__).parents[2] / "hub_config" / "kubernetes"
CLUSTER = "1.37"  # the Kubernetes whose schemas the manifests are held against
VALUES = yaml.safe_load((FOLDER / "values.yaml").read_text())
RESOURCES = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
MANIFESTS = resolved(FOLDER)
NAMESPACES = {doc["metadata"]["name"]: doc for doc in MANIFESTS if doc["kind"] == "Namespace"}
WORKLOADS = {doc["metadata"]["name"]: doc for doc in MANIFESTS if doc["kind"] == "Deployment"}
SCHEMA = yaml.safe_load((FOLDER.parents[1] / "tests" / "support" / "chart.schema.yaml").read_text())
SETTINGS, INI = load(environ={}), FOLDER.parents[1] / "settings.ini"
POLICIES = [doc for doc in MANIFESTS if doc["kind"] == "NetworkPolicy"]


def name_of(manifest: dict[str, Any]) -> str:
    """A manifest, for the list of tests."""
    place = manifest["metadata"].get("namespace", "cluster")
    return f"{manifest['kind']}-{place}-{manifest['metadata']['name']}"


@pytest.mark.parametrize("manifest", MANIFESTS, ids=name_of)
def test_a_manifest_is_valid_and_in_a_namespace_of_ours(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, CLUSTER, strict=True)
    everywhere = manifest["kind"] in ("Namespace", "PersistentVolume")
    assert everywhere or manifest["metadata"]["namespace"] in NAMESPACES


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_kustomization_is_what_kubectl_makes_of_it() -> None:
    made = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=True)
    documents = list(yaml.safe_load_all(made.stdout))
    assert sorted(documents, key=name_of) == sorted(MANIFESTS, key=name_of)


def test_every_file_is_applied_or_the_charts() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*RESOURCES, "kustomization.yaml", "values.yaml"}


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_namespace_is_restricted_closed_and_counted(namespace: str) -> None:
    labels = NAMESPACES[namespace]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    inside = [doc for doc in MANIFESTS if doc["metadata"].get("namespace") == namespace]
    assert {"NetworkPolicy", "ResourceQuota", "LimitRange"} <= {doc["kind"] for doc in inside}
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
        *((front, CONTROL, 8082) for front in (HUB, PROXY, INGRESS)),
        *((CONTROL, other, port) for other, port in ((PROXY, 8000), (GATEWAY, 8080))),
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


def test_the_values_use_only_keys_that_the_chart_knows() -> None:
    jsonschema.validate(VALUES, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"hub": {"extraConfiguration": {}}}, SCHEMA)


def test_the_charts_values_hold_no_secret() -> None:
    assert not {"apiToken", "secretToken", "cookieSecret", "password"} & set(keys(VALUES))


def keys(values: Any) -> list[str]:
    """Every key in nested values."""
    if not isinstance(values, dict):
        return []
    return [*values, *(key for value in values.values() for key in keys(value))]


@pytest.fixture
def origins(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The hub's environment, as the chart takes it from our ConfigMap."""
    found = {}
    for name, value in VALUES["hub"]["extraEnv"].items():
        found[name] = value if isinstance(value, str) else taken(value["valueFrom"], "majlis")
        if name.endswith("_ORIGIN"):
            monkeypatch.setenv(name, found[name])
    return found


def finished() -> Config:
    """The hub's configuration after the chart's part and ours."""
    config = Config()
    config.JupyterHub.services = [{"name": name} | each for name, each in VALUES["hub"]["services"].items()]
    config.JupyterHub.load_roles = [{"name": "jupyterhub-idle-culler", "scopes": ["list:users"]}]
    exec(VALUES["hub"]["extraConfig"]["majlis"], {"c": config})
    return config


def test_the_charts_extra_config_finishes_the_hub(origins: dict[str, str]) -> None:
    config = finished()
    assert import_item(config.JupyterHub.spawner_class) is WatchfulKubeSpawner
    assert callable(config.KubeSpawner.profile_list)
    found = [role["name"] for role in config.JupyterHub.load_roles]
    expected = [*(f"majlis-{role}" for role in Role), f"{roles.CONTROL}-service"]
    assert found == ["jupyterhub-idle-culler", *expected]
    assert set(config.JupyterHub.load_groups) == {role.value for role in Role}
    for service in config.JupyterHub.services:
        assert set(service["oauth_client_allowed_scopes"]) >= {scope.value for scope in KERNEL_SCOPES}


DECIDING = {scope.value for scope in Scope} - {scope.value for scope in KERNEL_SCOPES}


def test_people_decide_through_a_client_and_an_origin_of_their_own(origins: dict[str, str]) -> None:
    config = finished()
    found = {service["name"]: service for service in config.JupyterHub.services}
    allowed = {name: set(service["oauth_client_allowed_scopes"]) for name, service in found.items()}
    assert allowed[roles.DECISIONS] >= DECIDING
    for name in (roles.CONTROL, roles.TRACKING):
        assert not allowed[name] & DECIDING
    assert not set(config.Spawner.server_token_scopes) & DECIDING
    assert found[roles.DECISIONS]["oauth_redirect_uri"] == (
        "https://decisions.example.org/services/majlis/oauth_callback"
    )
    given = variables(WORKLOADS["majlis-control"])
    assert given["MAJLIS_DECISIONS_CLIENT_ID"] == found[roles.DECISIONS]["oauth_client_id"]
    assert given["MAJLIS_DECISIONS_ORIGIN"] == origins["MAJLIS_DECISIONS_ORIGIN"]
    assert given["MAJLIS_DECISIONS_SECRET"] == f"hub/hub.services.{roles.DECISIONS}.apiToken"
    (ingress,) = [doc["spec"] for doc in MANIFESTS if doc["kind"] == "Ingress"]
    (rule,) = ingress["rules"]
    assert f"https://{rule['host']}" == origins["MAJLIS_DECISIONS_ORIGIN"]
    assert ingress["tls"][0]["hosts"] == [rule["host"]]


@pytest.mark.parametrize(
    "decisions", ["", "https://majlis.example.org", "https://majlis.example.org:443", "decisions.example.org"]
)
def test_a_hub_whose_decisions_have_no_origin_of_their_own_does_not_start(
    decisions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAJLIS_HUB_ORIGIN", "https://majlis.example.org")
    monkeypatch.setenv("MAJLIS_DECISIONS_ORIGIN", decisions)
    with pytest.raises(SettingsError, match="two addresses"):
        finished()


def test_a_hub_without_a_control_plane_does_not_start(
    origins: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(VALUES["hub"]["services"], roles.CONTROL)
    with pytest.raises(SettingsError, match="no service 'majlis'"):
        finished()


def variables(workload: dict[str, Any]) -> dict[str, str]:
    """What a workload's container finds in its environment; a secret is told by its name and key."""
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    namespace = workload["metadata"]["namespace"]
    found = {}
    for source in container["envFrom"]:
        found |= config_map(source["configMapRef"]["name"], namespace)
    for each in container["env"]:
        found[each["name"]] = each["value"] if "value" in each else taken(each["valueFrom"], namespace)
    return found


def taken(source: dict[str, Any], namespace: str) -> str:
    """What a variable takes from elsewhere."""
    if wanted := source.get("configMapKeyRef"):
        return config_map(wanted["name"], namespace)[wanted["key"]]
    return "/".join([source["secretKeyRef"]["name"], source["secretKeyRef"]["key"]])


def config_map(name: str, namespace: str) -> dict[str, str]:
    """The values of one of our ConfigMaps."""
    (data,) = [
        doc["data"]
        for doc in MANIFESTS
        if doc["kind"] == "ConfigMap" and doc["metadata"] == {"name": name, "namespace": namespace}
    ]
    return dict(data)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_restricted_watched_and_bounded(name: str) -> None:
    workload = WORKLOADS[name]
    spec = workload["spec"]["template"]["spec"]
    restricted(spec)
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert container["image"].rpartition(":")[2] not in ("", "latest")
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False, "MAJLIS_GATEWAY_PORT of a Service would be read as a setting"
    beside = [
        doc for doc in MANIFESTS if doc["metadata"].get("namespace") == workload["metadata"]["namespace"]
    ]
    named = {(doc["kind"], doc["metadata"]["name"]) for doc in beside}
    kinds = ("Service", "ServiceAccount", "PodDisruptionBudget")
    assert {(kind, name) for kind in kinds} <= named
    assert spec["serviceAccountName"] == name
    labels = workload["spec"]["template"]["metadata"]["labels"]
    for doc in beside:
        if doc["metadata"]["name"] == name and doc["kind"] in kinds[::2]:
            selector = doc["spec"]["selector"]
            assert selector.get("matchLabels", selector) == labels
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in spec["volumes"] if len(volume) == 2
              and "persistentVolumeClaim" in volume]  # fmt: skip
    assert {("PersistentVolumeClaim", claim) for claim in claims} <= named


def test_a_gateway_is_replaced_by_one_that_is_ready_and_has_time_to_end() -> None:
    spec, settings = WORKLOADS["majlis-gateway"]["spec"], load(INI, variables(WORKLOADS["majlis-gateway"]))
    assert "replicas" not in spec, "it would undo what the autoscaler chose"
    (scaler,) = [doc["spec"] for doc in MANIFESTS if doc["kind"] == "HorizontalPodAutoscaler"]
    assert scaler["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "majlis-gateway",
    }
    (budget,) = [
        doc["spec"]
        for doc in MANIFESTS
        if doc["kind"] == "PodDisruptionBudget" and doc["metadata"]["name"] == "majlis-gateway"
    ]
    assert 1 <= budget["maxUnavailable"] < scaler["minReplicas"], "a drain goes on, and somebody answers"
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    heard = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert heard > 0
    assert pod["terminationGracePeriodSeconds"] > heard + settings.gateway.drain_seconds
    (quota,) = [
        doc["spec"]["hard"]
        for doc in MANIFESTS
        if doc["kind"] == "ResourceQuota" and doc["metadata"]["namespace"] == "majlis-serving"
    ]
    most = scaler["maxReplicas"] + spec["strategy"]["rollingUpdate"]["maxSurge"]
    assert most <= int(quota["count/pods"])
    assert most * int(container["resources"]["requests"]["cpu"]) <= int(quota["requests.cpu"])


def test_no_two_gateways_share_what_each_keeps_for_itself() -> None:
    workload = WORKLOADS["majlis-gateway"]
    settings, spec = load(INI, variables(workload)), workload["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (mount,) = [m for m in container["volumeMounts"] if m["mountPath"] == str(settings.gateway.state)]
    (volume,) = [each for each in spec["volumes"] if each["name"] == mount["name"]]
    assert volume == {"name": mount["name"], "emptyDir": {}}
    shared = [m for m in container["volumeMounts"] if m["name"] == "majlis" and not m.get("readOnly")]
    assert [m["mountPath"] for m in shared] == [str(settings.gateway.predictions)], (
        "the log's names are unique"
    )


def test_the_control_plane_asks_every_gateway() -> None:
    (peers,) = load(INI, config_map("majlis", "majlis")).gateway.peers
    name, _, namespace = peers.partition(".")
    (service,) = [
        doc["spec"]
        for doc in MANIFESTS
        if doc["kind"] == "Service" and doc["metadata"] == {"name": name, "namespace": namespace}
    ]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    assert service["selector"] == WORKLOADS["majlis-gateway"]["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workloads_environment_is_one_that_the_settings_accept(name: str) -> None:
    given = variables(WORKLOADS[name])
    secret = {
        "majlis-databases/store": "postgresql+psycopg://u:p@db/m",
        "majlis-databases/tracking": "postgresql://db/t",
    }
    settings = load(INI, {key: secret.get(value, value) for key, value in given.items()})
    (container,) = WORKLOADS[name]["spec"]["template"]["spec"]["containers"]
    (port,) = [each["containerPort"] for each in container["ports"]]
    listens = {
        "majlis-control": settings.workbench.control_port,
        "mlflow": 8083,
        "majlis-gateway": settings.gateway.port,
    }
    assert port == listens[name]
    importlib.import_module(container["command"][-1])
    mounted = [Path(each["mountPath"]) for each in container["volumeMounts"]]
    needed = {
        "majlis-control": [
            settings.control,
            settings.release.folder,
            settings.snapshot,
            settings.release.signing_key,
        ],
        "mlflow": [Path(settings.tracking.artifacts)],
        "majlis-gateway": [
            settings.release.folder,
            settings.snapshot,
            settings.gateway.predictions,
            settings.gateway.environments,
            settings.gateway.state,
            settings.features.repo,
        ],
    }
    for place in needed[name]:
        assert any(place.is_relative_to(mount) for mount in mounted), f"{place} is not kept"


def test_the_hub_sends_people_to_the_services_of_these_manifests() -> None:
    ports = {
        doc["metadata"]["name"]: doc["spec"]["ports"][0]["port"]
        for doc in MANIFESTS
        if doc["kind"] == "Service"
    }
    for service in VALUES["hub"]["services"].values():
        if "url" in service:
            at = urlsplit(service["url"])
            assert ports[at.hostname] == at.port
    assert VALUES["cull"]["timeout"] == idle.culler_seconds(SETTINGS.workbench)


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
