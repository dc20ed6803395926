"""What the profiles of settings.ini become on Kubernetes: KubeSpawner's profiles and its configuration.

Pure builders, but for `guard`, which KubeSpawner calls before every start. Who may start which profile is
decided in `spawner.profiles`, for pods as for processes.
"""

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from majlis.errors import Invalid, MajlisError
from majlis.settings import KubernetesSection, Profile, Settings
from spawner import idle
from spawner import profiles as entitlement
from spawner.budget import purse
from spawner.limits import GIB
from spawner.profiles import CAPACITY, IMAGE, shown

SPOT, ON_DEMAND = "spot", "on-demand"  # what the option `capacity` can be
USUAL = "usual"  # what the option `image` is called where the chart, not the profile, says which that is
KIND, NETWORK, NAME = "majlis/kind", "majlis/network", "majlis/profile"  # labels and an annotation of pods

# What a profile decides. KubeSpawner merges it into what an earlier start left, so `guard` resets these.
DECIDED = (
    *("image", "cpu_guarantee", "cpu_limit", "mem_guarantee", "mem_limit"),
    *("extra_resource_guarantees", "extra_resource_limits", "node_selector", "tolerations"),
    *(
        "node_affinity_preferred",
        "node_affinity_required",
        "extra_labels",
        "extra_annotations",
        "environment",
    ),
)

Override = dict[str, Any]  # KubeSpawner's traits, by name


def profile_list(settings: Settings) -> Callable[[Any], list[dict[str, Any]]]:
    """KubeSpawner's `profile_list`: asked at every start, it knows only the profiles open to that person."""

    def listed(spawner: Any) -> list[dict[str, Any]]:
        groups = groups_of(spawner)
        try:
            entitlement.choose(settings.profiles, groups, {})
        except MajlisError as error:  # an empty list would let KubeSpawner start a server without any profile
            raise entitlement.refusal(error) from error
        allowed = entitlement.entitled(settings.profiles, groups)
        return [entry(name, profile, settings.kubernetes) for name, profile in allowed.items()]

    return listed


def guard(settings: Settings) -> Callable[[Any, Mapping[str, Any]], None]:
    """KubeSpawner's `apply_user_options`: refuse, with a status and a reason, what may not be started."""

    def guarded(spawner: Any, options: Mapping[str, Any]) -> None:
        try:
            check(settings.profiles, groups_of(spawner), options)
        except MajlisError as error:
            entitlement.forget(spawner)
            raise entitlement.refusal(error) from error
        reset(spawner)

    return guarded


def check(profiles: Mapping[str, Profile], groups: Collection[str], options: Mapping[str, Any]) -> str:
    """The profile that `options` ask for; `Forbidden` or `Invalid`, naming what is allowed, otherwise."""
    name, profile = entitlement.choose(profiles, groups, options)
    choices = choices_of(profile)
    for option, value in options.items():
        if option == entitlement.OPTION:
            continue
        if option not in choices:
            known = ", ".join([entitlement.OPTION, *choices])
            raise Invalid(
                f"The profile {name!r} has no option {shown.repr(option)}", remedy=f"Options are: {known}."
            )
        if value not in choices[option]:
            raise Invalid(
                f"{option} = {shown.repr(value)} is no choice of the profile {name!r}",
                remedy=f"Choose one of: {', '.join(choices[option])}.",
            )
    return name


def choices_of(profile: Profile) -> dict[str, list[str]]:
    """The options of a profile and what each may be; the first choice is the default."""
    machines = {CAPACITY: [SPOT, ON_DEMAND]} if profile.spot else {}
    return machines | ({IMAGE: list(allowed_images(profile))} if profile.images else {})


def allowed_images(profile: Profile) -> dict[str, str]:
    """The images that a profile may run, by what a person chooses: no other can be started."""
    return {profile.image or USUAL: profile.image} | {image: image for image in profile.images}


def reset(spawner: Any) -> None:
    """Forget what the profile of an earlier start left on this spawner."""
    configured = spawner.config.KubeSpawner
    for name in DECIDED:
        value = configured[name] if name in configured else spawner.traits()[name].default(spawner)
        setattr(spawner, name, deepcopy(value))


def groups_of(spawner: Any) -> list[str]:
    """The groups that the spawner's person is in now."""
    return [str(group.name) for group in spawner.user.groups]


def entry(name: str, profile: Profile, cluster: KubernetesSection) -> dict[str, Any]:
    """One profile as KubeSpawner declares it."""
    shown = {
        "slug": name,
        "display_name": f"{profile.title} ({entitlement.size(profile)})",
        "description": profile.description,
        "kubespawner_override": override(name, profile, cluster),
    }
    options = {CAPACITY: capacity(profile, cluster)} if profile.spot else {}
    options |= {IMAGE: image(profile)} if profile.images else {}
    return shown | ({"profile_options": options} if options else {})


def override(name: str, profile: Profile, cluster: KubernetesSection) -> Override:
    """What a profile says about the pod, whichever options are chosen."""
    threads = str(max(1, round(profile.cpu_limit)))
    decided: Override = {
        "cpu_guarantee": profile.cpu_guarantee,
        "cpu_limit": profile.cpu_limit,
        "mem_guarantee": int(profile.memory_guarantee_gib * GIB),
        "mem_limit": int(profile.memory_limit_gib * GIB),
        "node_selector": dict(profile.node_selector),
        "tolerations": [dict(toleration) for toleration in profile.tolerations],
        "node_affinity_required": not_spot(cluster),
        "extra_labels": {KIND: profile.kind, NETWORK: "closed" if profile.kind == "restricted" else "open"},
        "extra_annotations": {NAME: name},
        "environment": dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), threads
        ),
    }
    if profile.gpu:  # an extended resource is not overcommitted: guarantee and limit are the same
        resources = {profile.gpu_resource: str(profile.gpu)}
        decided |= {"extra_resource_guarantees": resources, "extra_resource_limits": dict(resources)}
    return decided | ({"image": profile.image} if profile.image else {})


def capacity(profile: Profile, cluster: KubernetesSection) -> dict[str, Any]:
    """The choice between machines that can be taken away and those that cannot."""
    spot: Override = {
        "tolerations": [dict(toleration) for toleration in (*profile.tolerations, *cluster.spot_taint)],
        "node_affinity_required": [],
        "node_affinity_preferred": [{"weight": 100, "preference": terms(cluster, "In")}],
    }
    return {
        "display_name": "Machine",
        "choices": {
            SPOT: {
                "display_name": "Spot: cheaper, can be taken away",
                "default": True,
                "kubespawner_override": spot,
            },
            ON_DEMAND: {"display_name": "On demand: stays", "kubespawner_override": {}},
        },
    }


def image(profile: Profile) -> dict[str, Any]:
    """The choice between the images that are allowed."""
    choices = {
        name: {
            "display_name": reference.rpartition("/")[2] or "The usual one",
            "kubespawner_override": {"image": reference} if reference else {},
        }
        for name, reference in allowed_images(profile).items()
    }
    next(iter(choices.values()))["default"] = True
    return {"display_name": "Image", "choices": choices}


def not_spot(cluster: KubernetesSection) -> list[dict[str, Any]]:
    """Keeps a pod off the machines that can be taken away, tainted or not."""
    return [terms(cluster, "NotIn")] if cluster.spot_label else []


def terms(cluster: KubernetesSection, operator: str) -> dict[str, Any]:
    """A node selector's term about the machines that can be taken away."""
    expressions = [
        {"key": key, "operator": operator, "values": [value]} for key, value in cluster.spot_label.items()
    ]
    return {"matchExpressions": expressions}


def base(settings: Settings) -> Override:
    """What every server's pod has, whatever its profile: it meets the pod-security level `restricted`."""
    return {**security(settings.kubernetes), **storage(settings), **server(settings)}


def security(cluster: KubernetesSection) -> Override:
    """No root, no way to become it, no capabilities, no token of the cluster's."""
    return {
        "uid": cluster.user_id,
        "gid": cluster.group_id,
        "fs_gid": cluster.group_id,
        "privileged": False,
        "allow_privilege_escalation": False,
        "automount_service_account_token": False,
        "pod_security_context": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "container_security_context": {
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "init_containers": [],
        "extra_containers": [],
    }


def storage(settings: Settings) -> Override:
    """The person's own volume as the home of every server of theirs, and what everybody shares."""
    cluster, shared = settings.kubernetes, shared_folders(settings)
    volumes = [{"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}]
    if shared:
        volumes.append({"name": "shared", "persistentVolumeClaim": {"claimName": cluster.shared_claim}})
    return {
        "storage_pvc_ensure": True,
        "pvc_name_template": "claim-{username}",
        "storage_capacity": f"{cluster.storage_gib}Gi",
        "storage_class": cluster.storage_class or None,  # None is the cluster's default, "" would be no class
        "storage_access_modes": [cluster.home_access],
        "volumes": volumes,
        "volume_mounts": [{"name": "home", "mountPath": cluster.home}, *shared],
        "working_dir": cluster.home,
    }


def shared_folders(settings: Settings) -> list[dict[str, str]]:
    """Where the lake and the features are mounted: where the workbench has them, if that is in its home."""
    if not settings.kubernetes.shared_claim:
        return []
    places = [place for place in (settings.lake.uri, str(settings.features.repo)) if "://" not in place]
    return [
        {"name": "shared", "mountPath": place, "subPath": str(Path(place).relative_to(settings.home))}
        for place in places
        if Path(place).is_relative_to(settings.home)
    ]


def server(settings: Settings) -> Override:
    """How the server in the pod starts and what it finds."""
    hub = f"{settings.kubernetes.proxy_url}{settings.workbench.base_url}services"
    return {
        "namespace": settings.kubernetes.namespace,
        "cmd": ["jupyterhub-singleuser"],
        "args": [],
        "default_url": "/lab",
        "start_timeout": int(settings.workbench.start_timeout_seconds),
        "http_timeout": int(settings.workbench.start_timeout_seconds),
        "env_keep": [],  # what the hub's own process has is none of a pod's business
        "extra_labels": {"hub.jupyter.org/network-access-hub": "true"},  # the chart's policies let these in
        "environment": {
            "MAJLIS_URL": f"{hub}/majlis",
            "MLFLOW_TRACKING_URI": f"{hub}/mlflow",
            "MLFLOW_TRACKING_TOKEN": lambda spawner: spawner.api_token,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MAJLIS_WORKBENCH_HOME": str(settings.home),
            "MAJLIS_LAKE_URI": settings.lake.uri,
            "MAJLIS_FEATURES_REPO": str(settings.features.repo),
            "MAJLIS_PROFILES": entitlement.offer(
                settings, settings.kubernetes.home_access == "ReadWriteMany"
            ),
            **idle.environment(settings.workbench),
        },
    }


def configure(c: Any, settings: Settings, control: str) -> None:
    """Have the hub whose configuration `c` is start pods; `control` is where the control plane is."""
    c.WatchfulKubeSpawner.purse = purse(settings, control)
    c.JupyterHub.spawner_class = "spawner.kube_spawner.WatchfulKubeSpawner"
    for name, value in base(settings).items():
        setattr(c.KubeSpawner, name, value)
    c.KubeSpawner.profile_list = profile_list(settings)
    c.KubeSpawner.apply_user_options = guard(settings)
