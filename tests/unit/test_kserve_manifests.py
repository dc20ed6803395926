"""The manifests of templates/kubernetes: valid, narrow, and a runtime that runs our gateway."""

from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from majlis.control import kserve
from majlis.settings import ServingSection, load
from tests.support.kserve import NAMED, STRING, exactly
from tests.support.kustomize import resolved
from tests.support.pod_security import restricted

FOLDER = Path(__file__).parents[2] / "templates" / "kubernetes"
CLUSTER = "1.37"  # the Kubernetes whose schemas the manifests are held against
MANIFESTS = resolved(FOLDER)
SECTION = ServingSection()
RUNTIME = next(doc for doc in MANIFESTS if doc["kind"] == "ServingRuntime")
FORMAT = exactly(
    NAMED, name=STRING, version=STRING, autoSelect={"type": "boolean"}, priority={"type": "integer"}
)
RUNTIME_SPEC = exactly(  # of KServe 0.20's ServingRuntime; containers are checked as a pod's
    ("containers",),
    annotations={"type": "object", "additionalProperties": STRING},
    supportedModelFormats={"type": "array", "items": FORMAT},
    protocolVersions={"type": "array", "items": STRING},
    containers={"type": "array", "minItems": 1},
    volumes={"type": "array"},
)


def of(kind: str) -> dict[str, Any]:
    """The manifest of a kind."""
    [found] = [doc for doc in MANIFESTS if doc["kind"] == kind]
    return found


def pod() -> dict[str, Any]:
    """The pod that the runtime stands for."""
    spec = {part: RUNTIME["spec"][part] for part in ("containers", "volumes")} | {"securityContext": {}}
    metadata = {"name": "flights-1", "namespace": "majlis-models"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("manifest", [*(doc for doc in MANIFESTS if doc is not RUNTIME), pod()])
def test_a_manifest_is_what_kubernetes_takes(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, CLUSTER, strict=True)


def test_every_file_is_applied() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*listed, "kustomization.yaml"}


def test_the_runtime_is_what_kserve_takes_and_what_the_control_plane_names() -> None:
    jsonschema.validate(RUNTIME["spec"], RUNTIME_SPEC)
    assert RUNTIME["apiVersion"] == "serving.kserve.io/v1alpha1"
    assert RUNTIME["metadata"] == {"name": SECTION.kserve_runtime, "namespace": SECTION.kserve_namespace}
    revision = kserve.snapshot.Revision(name="2", release="flights-2", weight=1.0)
    spec = kserve.service(SECTION, "flights", revision, "22bb")["spec"]["predictor"]
    [formats] = RUNTIME["spec"]["supportedModelFormats"]
    assert spec["model"]["modelFormat"]["name"] == formats["name"]
    assert spec["model"]["protocolVersion"] in RUNTIME["spec"]["protocolVersions"]
    assert spec["serviceAccountName"] == of("ServiceAccount")["metadata"]["name"]
    own = {volume["name"] for volume in RUNTIME["spec"]["volumes"]}
    assert own.isdisjoint(volume["name"] for volume in spec["volumes"])


def test_a_pod_is_restricted_and_finds_its_files() -> None:
    restricted(pod()["spec"])
    [container] = RUNTIME["spec"]["containers"]
    environ = {each["name"]: each["value"] for each in container["env"]}
    assert container["name"] == "kserve-container" and container["command"][-1] == "majlis.serving.pod"
    settings = load(environ=environ | {"MAJLIS_SETTINGS": str(FOLDER.parents[1] / "settings.ini")})
    assert str(settings.gateway.only_release) == "/mnt/models"  # where KServe puts it
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert settings.snapshot == Path(kserve.SNAPSHOT_FOLDER) / kserve.SNAPSHOT_FILE
    assert str(settings.release.public_key.parent) in mounts and str(settings.home) in mounts
    ports = {port["containerPort"] for port in container["ports"]}
    assert {settings.gateway.port} == ports and settings.gateway.host == "0.0.0.0"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_the_key_that_pods_trust_is_out_of_the_control_planes_reach() -> None:
    [key] = [volume for volume in RUNTIME["spec"]["volumes"] if volume["name"] == "key"]
    allowed = {resource for rule in of("Role")["rules"] for resource in rule["resources"]}
    assert "secret" in key and "secrets" not in allowed


def test_the_role_is_the_control_planes_alone() -> None:
    binding = of("RoleBinding")
    assert binding["roleRef"]["name"] == of("Role")["metadata"]["name"]
    deployed = yaml.safe_load_all(
        (FOLDER.parents[1] / "hub_config/kubernetes/control-plane.yaml").read_text()
    )
    account = next(doc["metadata"] for doc in deployed if doc["kind"] == "ServiceAccount")
    assert binding["subjects"] == [{"kind": "ServiceAccount"} | account]
    places = {doc["metadata"]["namespace"] for doc in (of("Role"), binding)}
    assert places == {SECTION.kserve_namespace}
