"""Kubernetes: every profile and option as the pod KubeSpawner makes of it, and who may have which."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import kubernetes_validate
import pytest
from kubernetes_asyncio.client import ApiClient
from tornado import web
from traitlets.config import Config

from majlis.access import Role
from majlis.settings import Profile, Settings, load
from spawner import kube
from spawner.kube_spawner import WatchfulKubeSpawner
from tests.support.kube import DEFAULT, write_config
from tests.support.pod_security import restricted

CLUSTER = "1.37"  # the Kubernetes whose schemas the manifests are held against
SETTINGS = load(environ={})
NOWHERE = "http://127.0.0.1:9"  # no control plane is asked here


@pytest.fixture(autouse=True, scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster's address, which KubeSpawner wants to know though nobody is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DEFAULT, write_config(tmp_path_factory.mktemp("kube")))
        yield


def configured(settings: Settings = SETTINGS) -> Config:
    """The hub's configuration with pods as servers."""
    config = Config()
    kube.configure(config, settings, NOWHERE)
    return config


def spawner_for(*groups: str, settings: Settings = SETTINGS) -> Any:
    """A KubeSpawner of a person who is in these groups."""

    async def made() -> Any:  # its client wants a running loop
        return WatchfulKubeSpawner(_mock=True, config=configured(settings))

    spawner = asyncio.run(made())
    spawner.user.groups = [SimpleNamespace(name=group) for group in groups]
    spawner.api_token = "token"
    spawner.hub.api_url = spawner.hub.url = "http://hub:8081/hub/api"
    spawner.get_env = lambda: {
        key: value(spawner) if callable(value) else value for key, value in spawner.environment.items()
    }
    return spawner


async def chosen(spawner: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The pod that a start with these options makes, in the hub's own order of calls."""
    spawner.user_options = options
    await spawner._run_apply_user_options(options)
    await spawner.load_user_options()
    return await plain(await spawner.get_pod_manifest())


async def plain(thing: Any) -> dict[str, Any]:
    """A manifest as it is sent."""
    async with ApiClient() as client:
        return dict(client.sanitize_for_serialization(thing))


def pod_of(options: dict[str, Any], *groups: str) -> dict[str, Any]:
    """The pod of a start by a member of these groups."""
    return asyncio.run(chosen(spawner_for(*groups), options))


def container(pod: dict[str, Any]) -> dict[str, Any]:
    """The pod's one container."""
    (only,) = pod["spec"]["containers"]
    return dict(only)


def starts() -> Iterator[dict[str, str]]:
    """Every profile with every combination of its options."""
    for name, profile in SETTINGS.profiles.items():
        choices = kube.choices_of(profile)
        for combination in itertools.product(*choices.values()):
            yield {"profile": name, **dict(zip(choices, combination, strict=True))}


@pytest.mark.parametrize("options", list(starts()), ids=lambda options: "-".join(options.values()))
def test_every_start_makes_a_valid_restricted_pod(options: dict[str, str]) -> None:
    profile = SETTINGS.profiles[options["profile"]]
    pod = pod_of(options, profile.groups[0])
    kubernetes_validate.validate(pod, CLUSTER, strict=True)
    restricted(pod["spec"])
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["nodeSelector"] == profile.node_selector
    assert pod["metadata"]["annotations"]["majlis/profile"] == options["profile"]
    resources = container(pod)["resources"]
    assert float(resources["limits"]["cpu"]) == profile.cpu_limit
    assert float(resources["requests"]["memory"]) == profile.memory_guarantee_gib * 2**30
    gpus = {key: value for key, value in resources["limits"].items() if key not in ("cpu", "memory")}
    assert gpus == ({profile.gpu_resource: str(profile.gpu)} if profile.gpu else {})


@pytest.mark.parametrize("choice", [kube.SPOT, kube.ON_DEMAND, None])
def test_spot_is_tolerated_and_preferred_only_where_it_was_chosen(choice: str | None) -> None:
    options = {"profile": "gpu-shared"} | ({"capacity": choice} if choice else {})
    spec = pod_of(options, "scientist")["spec"]
    affinity = spec["affinity"]["nodeAffinity"]
    tolerated = {toleration["key"] for toleration in spec["tolerations"]}
    if choice == kube.ON_DEMAND:
        (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert term["matchExpressions"] == [
            {"key": "majlis/capacity", "operator": "NotIn", "values": ["spot"]}
        ]
        assert tolerated == {"nvidia.com/gpu"}
    else:
        assert list(affinity) == ["preferredDuringSchedulingIgnoredDuringExecution"]
        assert tolerated == {"nvidia.com/gpu", "majlis/capacity"}


def test_only_restricted_profiles_are_closed_to_the_network() -> None:
    labels = {
        name: pod_of({"profile": name}, profile.groups[0])["metadata"]["labels"]
        for name, profile in SETTINGS.profiles.items()
    }
    assert [name for name, each in labels.items() if each[kube.NETWORK] == "closed"] == ["restricted"]
    assert {each["component"] for each in labels.values()} == {"singleuser-server"}  # the policies' selector
    assert {each["hub.jupyter.org/network-access-hub"] for each in labels.values()} == {"true"}


def test_the_home_is_the_persons_own_volume() -> None:
    spawner = spawner_for("scientist")
    pod = asyncio.run(chosen(spawner, {}))
    volume, _ = pod["spec"]["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == spawner.pvc_name
    mount, *_ = container(pod)["volumeMounts"]
    assert mount == {"name": volume["name"], "mountPath": SETTINGS.kubernetes.home}
    assert spawner.pvc_name == spawner._expand_user_properties("claim-{user_server}"), (
        "homes keep their names"
    )
    claim = asyncio.run(plain(spawner.get_pvc_manifest()))
    kubernetes_validate.validate(claim, CLUSTER, strict=True)
    assert claim["spec"]["resources"]["requests"]["storage"] == "10Gi"


def test_the_lake_and_the_features_are_where_the_workbench_keeps_them() -> None:
    pod = asyncio.run(chosen(spawner_for("scientist"), {}))
    _, shared = pod["spec"]["volumes"]
    assert shared["persistentVolumeClaim"] == {"claimName": SETTINGS.kubernetes.shared_claim}
    _, *mounts = container(pod)["volumeMounts"]
    assert [each["subPath"] for each in mounts] == ["lake", "features"], "nothing else of the share"
    assert {each["name"] for each in mounts} == {shared["name"]}
    given = {each["name"]: each.get("value") for each in container(pod)["env"]}
    found = load(environ={name: value for name, value in given.items() if name.startswith("MAJLIS_")})
    assert [each["mountPath"] for each in mounts] == [found.lake.uri, str(found.features.repo)]


@pytest.mark.parametrize(
    ("overrides", "mounted"),
    [
        ({"LAKE_URI": "s3://lake"}, ["features"]),
        ({"KUBERNETES_SHARED_CLAIM": ""}, []),
        ({"LAKE_URI": "/elsewhere/lake", "FEATURES_REPO": "/elsewhere/features"}, []),
    ],
)
def test_what_is_kept_elsewhere_is_not_mounted(overrides: dict[str, str], mounted: list[str]) -> None:
    settings = load(environ={f"MAJLIS_{name}": value for name, value in overrides.items()})
    assert [each["subPath"] for each in kube.shared_folders(settings)] == mounted
    volumes = {each["name"] for each in kube.storage(settings)["volumes"]}
    assert volumes == {"home", *(["shared"] if mounted else [])}
    assert kube.server(settings)["environment"]["MAJLIS_LAKE_URI"] == settings.lake.uri


@pytest.mark.parametrize(("access", "offered"), [("ReadWriteOnce", []), ("ReadWriteMany", ["cpu-small"])])
def test_runs_on_other_profiles_are_offered_where_their_server_finds_the_home(
    access: str, offered: list[str]
) -> None:
    cluster = SETTINGS.kubernetes.model_copy(update={"home_access": access})
    spawner = spawner_for("owner", settings=SETTINGS.model_copy(update={"kubernetes": cluster}))
    pod = asyncio.run(chosen(spawner, {}))
    told = {each["name"]: each.get("value") for each in container(pod)["env"]}["MAJLIS_PROFILES"]
    assert [profile["name"] for profile in json.loads(told)] == offered
    claim = asyncio.run(plain(spawner.get_pvc_manifest()))
    assert claim["spec"]["accessModes"] == [access]
    assert "server" not in spawner.pvc_name_template, "one home for all servers"


def test_nothing_of_an_earlier_start_is_left() -> None:
    spawner = spawner_for("engineer")
    asyncio.run(chosen(spawner, {"profile": "gpu"}))
    again = asyncio.run(chosen(spawner, {"profile": "cpu-small"}))
    assert again == pod_of({"profile": "cpu-small"}, "engineer")
    assert "nvidia.com/gpu" not in container(again)["resources"]["limits"]


def test_a_profiles_image_is_used_and_forgotten() -> None:
    own = SETTINGS.profiles["gpu"].model_copy(update={"image": "registry.example.org/gpu:1"})
    settings = SETTINGS.model_copy(update={"profiles": SETTINGS.profiles | {"gpu": own}})
    spawner = spawner_for("engineer", settings=settings)
    usual = spawner.image
    assert container(asyncio.run(chosen(spawner, {"profile": "gpu"})))["image"] == own.image
    assert container(asyncio.run(chosen(spawner, {"profile": "cpu-small"})))["image"] == usual


OWN, OTHER = "registry.example.org/gpu:1", "registry.example.org/gpu@sha256:" + "0" * 64


def with_images(image: str) -> Settings:
    """The settings, with a choice of images for the profile gpu."""
    chosen = SETTINGS.profiles["gpu"].model_copy(update={"image": image, "images": (OTHER,)})
    return SETTINGS.model_copy(update={"profiles": SETTINGS.profiles | {"gpu": chosen}})


@pytest.mark.parametrize(
    ("image", "wanted", "started"),
    [
        (OWN, {}, OWN),
        (OWN, {"image": OWN}, OWN),
        ("", {"image": OTHER}, OTHER),
        ("", {"image": "usual"}, None),
    ],
)
def test_an_image_is_chosen_from_those_that_are_listed(
    image: str, wanted: dict[str, str], started: str | None
) -> None:
    spawner = spawner_for("engineer", settings=with_images(image))
    usual = spawner.image
    pod = asyncio.run(chosen(spawner, {"profile": "gpu"} | wanted))
    assert container(pod)["image"] == (started or usual)
    kubernetes_validate.validate(pod, CLUSTER, strict=True)


@pytest.mark.parametrize("image", ["registry.example.org/gpu:2", "usual", ["registry.example.org/gpu:1"], ""])
def test_an_image_that_is_not_listed_is_refused(image: Any) -> None:
    spawner = spawner_for("engineer", settings=with_images(OWN))
    with pytest.raises(web.HTTPError) as refused:
        asyncio.run(chosen(spawner, {"profile": "gpu", "image": image}))
    assert refused.value.status_code == 422
    assert f"Choose one of: {OWN}, {OTHER}" in refused.value.jupyterhub_message  # type: ignore[attr-defined]


def test_the_form_offers_the_images_that_are_listed() -> None:
    form = asyncio.run(spawner_for("engineer", settings=with_images("")).get_options_form())
    assert f'value="{OTHER}"' in form
    assert "The usual one" in form


@pytest.mark.parametrize(("group", "name"), list(itertools.product(Role, SETTINGS.profiles)))
def test_a_group_starts_its_own_profiles_and_no_other(group: Role, name: str) -> None:
    spawner = spawner_for(group.value)
    entitled = group.value in SETTINGS.profiles[name].groups
    assert (name in [each["slug"] for each in spawner.profile_list(spawner)]) is entitled
    if entitled:
        assert asyncio.run(chosen(spawner, {"profile": name}))
        return
    with pytest.raises(web.HTTPError) as refused:
        asyncio.run(chosen(spawner, {"profile": name}))
    assert refused.value.status_code == 403
    assert "Choose one of yours: cpu-small" in refused.value.jupyterhub_message  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("groups", "options", "status", "told"),
    [
        (["scientist"], {"profile": "nope"}, 422, "Yours are: cpu-small, cpu-medium, gpu-shared"),
        (["scientist"], {"profile": {"slug": "gpu"}}, 422, "Yours are: cpu-small"),
        (["scientist"], {"capacity": "free"}, 422, "Choose one of: spot, on-demand"),
        (["scientist"], {"capacity": ["spot"]}, 422, "Choose one of: spot, on-demand"),
        (["engineer"], {"profile": "gpu", "capacity": "spot"}, 422, "Options are: profile."),
        (["engineer"], {"profile": "gpu", "image": "evil.example/x"}, 422, "no option 'image'"),
        (["engineer"], {"image--unlisted-choice": "evil.example/x"}, 422, "Options are: profile, capacity"),
        (["stranger"], {}, 403, "No profile is open to your groups (stranger)"),
        ([], {"profile": "cpu-small"}, 403, "Choose one of yours: none"),
    ],
)
def test_a_bad_choice_is_refused_with_what_is_allowed(
    groups: list[str], options: dict[str, Any], status: int, told: str
) -> None:
    with pytest.raises(web.HTTPError) as refused:
        asyncio.run(chosen(spawner_for(*groups), options))
    assert refused.value.status_code == status
    assert told in refused.value.jupyterhub_message  # type: ignore[attr-defined]


def test_without_the_guard_too_nobody_gets_a_server_without_a_profile() -> None:
    spawner = spawner_for("stranger")
    with pytest.raises(web.HTTPError) as refused:
        asyncio.run(spawner.load_user_options())
    assert refused.value.status_code == 403


def test_the_form_offers_what_is_open_and_is_understood() -> None:
    spawner = spawner_for("scientist")
    form = asyncio.run(spawner.get_options_form())
    assert "gpu-shared" in form
    assert "cpu-large" not in form
    options = spawner.options_from_form(
        {"profile": ["gpu-shared"], "profile-option-gpu-shared--capacity": ["on-demand"]}
    )
    assert options == {"profile": "gpu-shared", "capacity": "on-demand"}
    assert asyncio.run(chosen(spawner, options))


def test_a_profile_without_gpu_or_spot_asks_for_neither() -> None:
    profile = Profile(title="Plain", groups=("scientist",))
    declared = kube.entry("plain", profile, SETTINGS.kubernetes)
    assert "profile_options" not in declared
    assert "extra_resource_limits" not in declared["kubespawner_override"]
