"""The pod-security level `restricted`, as the pod security standards on kubernetes.io have it."""

from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def restricted(spec: dict[str, Any]) -> None:
    """Fails unless a pod's spec meets the level."""
    assert not {"hostNetwork", "hostPID", "hostIPC"} & {key for key, value in spec.items() if value}
    for volume in spec.get("volumes", []):
        assert set(volume) - {"name"} <= VOLUMES
    pods = spec["securityContext"]
    for each in [*spec["containers"], *spec.get("initContainers", [])]:
        context = each["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert not context.get("privileged")
        assert [name.upper() for name in context["capabilities"]["drop"]] == ["ALL"]
        assert not context["capabilities"].get("add")
        assert context.get("runAsNonRoot", pods.get("runAsNonRoot")) is True
        assert context.get("runAsUser", pods.get("runAsUser")) != 0
        assert context.get("seccompProfile", pods.get("seccompProfile")) == {"type": "RuntimeDefault"}
        assert not [port for port in each.get("ports", []) if "hostPort" in port]
