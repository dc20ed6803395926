"""Nodes for `tests.support.kube`: a scheduler, and a kubelet that runs a pod's container as a process here.

Every pod has an address of its own on the loopback, and a folder for its root: what its image holds and what
is mounted lie there as links, and paths in its environment lead there. Where this process may, containers run
as the user that their security context names, who can write to nothing but volumes. A pod is ready when its
probe says so, and killed when it says too often that it does not live. An image that is said to be missing
cannot be pulled.
"""

import asyncio
import base64
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx

from spawner.isolation import isolation
from tests.support.images import Image, images
from tests.support.kube import Store, Thing, now
from tests.support.workbench import ROOT

UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
ADDRESS = "tests/address"  # annotation of a pod that is to have a certain address
REPELLING = ("NoSchedule", "NoExecute")
INIT = [
    "tini",
    "--",
]  # reaps what a container's first process leaves; here every container is a process group
IMAGES = images()
PERIOD_SECONDS, TIMEOUT_SECONDS, FAILURES = 10, 1, 3  # Kubernetes' own, where a probe does not say
LOOK_SECONDS = 0.2  # between two looks whether a container started, or is ready
PATIENCE = 5  # times longer than a probe says: all pods share one machine with the tests
FILE_MODE, VOLUME_MODE = 0o440, 0o2770  # of a secret's files, unless it says; of a volume that a group shares


def amount(quantity: str) -> float:
    """A quantity such as 100m or 2Gi as a number."""
    found = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(quantity))
    if found is None:
        raise ValueError(f"{quantity!r} is no quantity")
    return float(found[1]) * UNITS[found[2]]


@dataclass(frozen=True)
class Node:
    """A machine: what it is labelled, whom it repels, what it has."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[dict[str, str], ...] = ()
    has: dict[str, str] = field(default_factory=lambda: {"cpu": "16", "memory": "64Gi"})

    def against(self, pod: Thing, others: list[Thing]) -> str | None:
        """Why a pod cannot run here beside the others that do; None where it can."""
        spec = pod["spec"]
        if not self.is_selected(spec):
            return "node(s) didn't match Pod's node affinity/selector"
        for taint in self.taints:
            if taint["effect"] in REPELLING and not tolerates(spec.get("tolerations", []), taint):
                return f"node(s) had untolerated taint {{{taint['key']}: {taint['value']}}}"
        used = [requests(other) for other in others if other["spec"].get("nodeName") == self.name]
        for name, wanted in requests(pod).items():
            left = amount(self.has.get(name, "0")) - sum(each.get(name, 0) for each in used)
            if wanted > left:
                return f"Insufficient {name}"
        return None

    def is_selected(self, spec: Thing) -> bool:
        """Do the pod's selector and its required affinity name this node?"""
        affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
        alternatives = required.get("nodeSelectorTerms") or [{}]
        by_affinity = any(
            all(self.fits(rule) for rule in term.get("matchExpressions", [])) for term in alternatives
        )
        return by_affinity and (spec.get("nodeSelector") or {}).items() <= self.labels.items()

    def fits(self, rule: Thing) -> bool:
        """Does a rule of a selector's term hold for this node?"""
        label, values = self.labels.get(rule["key"]), rule.get("values", [])
        holds = {"In": label in values, "NotIn": label not in values, "Exists": label is not None}
        return holds[rule["operator"]]


def tolerates(tolerations: list[dict[str, str]], taint: dict[str, str]) -> bool:
    """Does one of the tolerations put up with a taint?"""
    return any(
        toleration.get("effect", taint["effect"]) == taint["effect"]
        and toleration.get("key", taint["key"]) == taint["key"]
        and (toleration.get("operator") == "Exists" or toleration.get("value", "") == taint["value"])
        for toleration in tolerations
    )


def requests(pod: Thing) -> dict[str, float]:
    """What a pod asks for in all."""
    asked: dict[str, float] = {}
    for container in pod["spec"]["containers"]:
        resources = container.get("resources", {})
        for name, quantity in {**resources.get("limits", {}), **resources.get("requests", {})}.items():
            asked[name] = asked.get(name, 0) + amount(quantity)
    return asked


class Running(NamedTuple):
    """A pod's process."""

    process: asyncio.subprocess.Process
    address: str


class Nodes:
    """The scheduler and the kubelets of all nodes; they work whether the API is reachable or not."""

    def __init__(
        self,
        store: Store,
        nodes: list[Node],
        folder: Path,
        missing_images: frozenset[str] = frozenset(),
        names: Mapping[str, str] = MappingProxyType(
            {}
        ),  # the cluster's DNS: host or host:port, and what it is here
        shares: Mapping[str, Path] = MappingProxyType({}),  # folders that claims of several namespaces have
    ) -> None:
        self.store, self.nodes, self.folder, self.missing = store, nodes, folder, missing_images
        self.names, self.shares = names, shares
        self.drops = isolation([ROOT]).on  # may containers run as their own users?
        self.running: dict[str, Running] = {}  # by the pod's uid
        self.seen: set[tuple[str, str]] = set()  # what was begun for which pod
        self.tasks: set[asyncio.Task[None]] = set()
        self.errors: list[BaseException] = []
        self.planned = False
        store.listeners.append(self.plan)

    def plan(self) -> None:
        """Look at the pods soon, once for all that changed meanwhile."""
        if not self.planned:
            self.planned = True
            asyncio.get_running_loop().call_soon(self.look)

    def look(self) -> None:
        """Begin what is due: find nodes for new pods, run those that have one, end those that go."""
        self.planned = False
        for pod in self.store.every("pods"):
            if pod["metadata"].get("deletionTimestamp"):
                self.once("end", pod, self.end)
            elif pod["spec"].get("nodeName"):
                self.once("begin", pod, self.begin)
            else:
                self.schedule(pod)

    def once(self, what: str, pod: Thing, work: Any) -> None:
        """Begin a piece of work for a pod, unless it was begun before."""
        mark = (what, pod["metadata"]["uid"])
        if mark not in self.seen:
            self.seen.add(mark)
            task = asyncio.ensure_future(work(pod))
            self.tasks.add(task)
            task.add_done_callback(self.done)

    def done(self, task: "asyncio.Task[None]") -> None:
        """Keep what went wrong, for `close` to raise."""
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.errors.append(error)

    def schedule(self, pod: Thing) -> None:
        """Bind a pod to the first node that takes it, or say why none does."""
        name = pod["metadata"]["name"]
        others = [
            each for each in self.store.every("pods") if each["status"]["phase"] in ("Pending", "Running")
        ]
        against = {node.name: node.against(pod, others) for node in self.nodes}
        if free := [node for node, why in against.items() if why is None]:
            bound = condition("PodScheduled", "True")
            self.store.change(
                "pods",
                name,
                spec=pod["spec"] | {"nodeName": free[0]},
                status=pod["status"] | {"conditions": [bound]},
            )
            self.store.event(pod, "Scheduled", f"Successfully assigned {name} to {free[0]}")
            return
        whys = [why for why in against.values() if why]
        counted = ", ".join(f"{whys.count(why)} {why}" for why in sorted(set(whys)))
        message = f"0/{len(self.nodes)} nodes are available: {counted}."
        refused = condition("PodScheduled", "False", reason="Unschedulable", message=message)
        if pod["status"].get("conditions", [{}])[0].get("message") != message:
            self.store.change("pods", name, status=pod["status"] | {"conditions": [refused]})
            self.store.event(pod, "FailedScheduling", message, kind="Warning")

    async def begin(self, pod: Thing) -> None:
        """Run a pod's container, and keep its status true until it ends."""
        name, (container,) = pod["metadata"]["name"], pod["spec"]["containers"]
        image = container["image"]
        self.store.event(pod, "Pulling", f'Pulling image "{image}"')
        if image in self.missing:
            why = f"{image}: manifest unknown"
            self.store.event(pod, "Failed", f"Failed to pull image: {why}", kind="Warning")
            self.say(name, container, "Pending", {"waiting": {"reason": "ErrImagePull", "message": why}})
            return
        address = pod["metadata"].get("annotations", {}).get(ADDRESS) or address_of(len(self.seen))
        made = IMAGES.get(image.rpartition("/")[2].partition(":")[0], IMAGES["server"])
        root = self.root(pod, container, made)
        home, log = moved(container.get("workingDir", made.folder), root), self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(moved(word, root) for word in command_of(container, made)),
                env=self.environment(container, made, address, root),
                cwd=home,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **self.credentials(pod, container),
            )
        self.running[pod["metadata"]["uid"]] = Running(process, address)
        self.store.event(pod, "Started", f"Started container {container['name']}")
        state = {"running": {"startedAt": now()}}
        self.say(name, container, "Running", state, "readinessProbe" not in container, podIP=address)
        watch = asyncio.ensure_future(self.watch(pod, container, address, process))
        code = await process.wait()
        watch.cancel()
        if pod["metadata"]["uid"] in self.running:  # it ended by itself
            ended = {"terminated": {"exitCode": abs(code), "finishedAt": now()}}
            self.say(name, container, "Failed" if code else "Succeeded", ended, ready=False)

    async def watch(
        self, pod: Thing, container: Thing, address: str, process: "asyncio.subprocess.Process"
    ) -> None:
        """Ask a container as its probes say: until it started, then whether it is ready and lives."""
        async with httpx.AsyncClient(trust_env=False) as client:
            if probe := container.get("startupProbe"):
                given = probe.get("periodSeconds", PERIOD_SECONDS) * probe.get("failureThreshold", FAILURES)
                try:
                    async with asyncio.timeout(given):
                        while not await answers(client, container, probe, address):
                            await asyncio.sleep(LOOK_SECONDS)
                except TimeoutError:
                    return self.kill(pod, process, "startup")
            await asyncio.gather(
                self.readiness(client, pod, container, address),
                self.liveness(client, pod, container, address, process),
            )

    async def readiness(self, client: httpx.AsyncClient, pod: Thing, container: Thing, address: str) -> None:
        """Say whether a pod is ready, more often than its probe is due."""
        was = "readinessProbe" not in container
        while probe := container.get("readinessProbe"):
            now_ready = await answers(client, container, probe, address)
            if now_ready != was:
                was = now_ready
                state = {"running": {"startedAt": now()}}
                self.say(pod["metadata"]["name"], container, "Running", state, now_ready)
            await asyncio.sleep(LOOK_SECONDS)

    async def liveness(
        self,
        client: httpx.AsyncClient,
        pod: Thing,
        container: Thing,
        address: str,
        process: "asyncio.subprocess.Process",
    ) -> None:
        """Kill a container whose probe fails too often."""
        failures = 0
        while probe := container.get("livenessProbe"):
            failures = 0 if await answers(client, container, probe, address) else failures + 1
            if failures >= probe.get("failureThreshold", FAILURES):
                return self.kill(pod, process, "liveness")
            await asyncio.sleep(probe.get("periodSeconds", PERIOD_SECONDS))

    def kill(self, pod: Thing, process: "asyncio.subprocess.Process", probe: str) -> None:
        """End a container whose probe failed."""
        self.store.event(pod, "Unhealthy", f"{probe} probe failed; the container is killed", kind="Warning")
        os.killpg(process.pid, signal.SIGKILL)

    def say(
        self, name: str, container: Thing, phase: str, state: Thing, ready: bool = False, **more: str
    ) -> None:
        """A pod's new status."""
        running = "running" in state
        told = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
        old = self.store.read("pods", name)["status"]
        conditions = [*old["conditions"][:1], condition("Ready", str(ready))]
        new = {"phase": phase, "conditions": conditions, "startTime": now()} | more
        containers = [told | {"ready": ready, "started": running, "state": state}]
        self.store.change("pods", name, status=old | new | {"containerStatuses": containers})

    def credentials(self, pod: Thing, container: Thing) -> dict[str, Any]:
        """Whose process a container becomes, in `subprocess` words."""
        context = pod["spec"].get("securityContext", {}) | container.get("securityContext", {})
        if not self.drops or "runAsUser" not in context:
            return {}
        groups = {"group": context.get("runAsGroup", 0), "extra_groups": [context.get("fsGroup", 0)]}
        return {"user": context["runAsUser"], "umask": 0o022} | groups

    def root(self, pod: Thing, container: Thing, image: Image) -> Path:
        """The folder that stands for a container's root: links to what its image holds, and to mounts."""
        root = self.folder / f"{pod['metadata']['name']}-root"
        shutil.rmtree(root, ignore_errors=True)
        for path, here in {**image.files, **self.mounts(pod, container)}.items():
            place = root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(here)
        return root

    def mounts(self, pod: Thing, container: Thing) -> dict[str, Path]:
        """The paths where something is mounted, each with its folder here."""
        volumes = {each["name"]: each for each in pod["spec"].get("volumes", [])}
        context = pod["spec"].get("securityContext", {})
        found = {}
        for mount in container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            if claim := volume.get("persistentVolumeClaim"):
                name = claim["claimName"]
                place = self.shares.get(name, self.folder / name) / mount.get("subPath", "")
            else:
                place = self.folder / pod["metadata"]["uid"] / mount["name"]
            place.mkdir(parents=True, exist_ok=True)
            files = self.write_secret(place, volume["secret"]) if "secret" in volume else []
            if self.drops:  # a share makes everybody who may write there; a pod's own volume is its group's
                for path in [place, *files]:
                    os.chown(path, context.get("runAsUser", 0) if claim else 0, context.get("fsGroup", 0))
                if not files:
                    place.chmod(VOLUME_MODE)
            found[mount["mountPath"]] = place
        return found

    def write_secret(self, place: Path, secret: Thing) -> list[Path]:
        """What a secret holds, as files."""
        written = []
        for key, value in self.store.read("secrets", secret["secretName"])["data"].items():
            (place / key).write_bytes(base64.b64decode(value))
            (place / key).chmod(secret.get("defaultMode", FILE_MODE))
            written.append(place / key)
        return written

    def environment(self, container: Thing, image: Image, address: str, root: Path) -> dict[str, str]:
        """What a container's process finds: the image's own part, and the pod's.

        All pods share one machine, so who would listen everywhere in a pod listens at its pod's address.
        """
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        given = dict(image.env)
        for source in container.get("envFrom", []):
            given |= self.store.read("configmaps", source["configMapRef"]["name"])["data"]
        given |= {each["name"]: self.value(each) for each in container.get("env", [])}
        for name, value in given.items():
            there = self.names.get(value, value).replace("0.0.0.0", address)
            for host, here in self.names.items():
                there = there.replace(f"//{host}/", f"//{here}/")
            given[name] = moved(there, root)
        return {"LANG": "C.UTF-8"} | given | {"PATH": programs}

    def value(self, variable: Thing) -> str:
        """What a variable says, or the secret that it names."""
        if wanted := variable.get("valueFrom", {}).get("secretKeyRef"):
            return base64.b64decode(
                self.store.read("secrets", wanted["name"])["data"][wanted["key"]]
            ).decode()
        return str(variable.get("value", ""))

    async def end(self, pod: Thing) -> None:
        """Ask a pod's process to end, make it end, and let the pod go."""
        if running := self.running.pop(pod["metadata"]["uid"], None):
            self.store.event(pod, "Killing", "Stopping container")
            (container,) = pod["spec"]["containers"]
            first = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            await asyncio.sleep(first)
            await stop(running.process, pod["metadata"]["deletionGracePeriodSeconds"] - first)
        self.store.delete("pods", pod["metadata"]["name"], grace_seconds=0)

    async def close(self) -> None:
        """End everything; raise what went wrong on the way."""
        self.store.listeners.remove(self.plan)
        processes = [running.process for running in self.running.values()]
        self.running.clear()
        for process in processes:
            await stop(process, grace_seconds=5)
        for task in list(self.tasks):
            task.cancel()
        for error in self.errors:
            raise error


def address_of(number: int) -> str:
    """An address of the loopback that no other process' pods have."""
    return f"127.{1 + os.getpid() % 250}.{os.getpid() // 250 % 250}.{number}"


def moved(path: str, root: Path) -> str:
    """Where a path of a container is here; what is no path of its stays as it is."""
    place = root / path.lstrip("/")
    if not path.startswith("/") or place == root:
        return path
    known = place.exists() or (place.parent != root and place.parent.exists())
    return str(place) if known else path


def command_of(container: Thing, image: Image) -> list[str]:
    """What a container runs: what the pod says, else what its image does."""
    entry = image.entrypoint[len(INIT) :] if image.entrypoint[: len(INIT)] == INIT else image.entrypoint
    words = container.get("command") or entry
    return [*words, *(container.get("args") or ([] if container.get("command") else image.command))]


async def answers(client: httpx.AsyncClient, container: Thing, probe: Thing, address: str) -> bool:
    """Does a probe succeed?"""
    asked = probe["httpGet"]
    ports = {each.get("name"): each["containerPort"] for each in container.get("ports", [])}
    url = f"http://{address}:{ports.get(asked['port'], asked['port'])}{asked['path']}"
    try:
        answer = await client.get(url, timeout=probe.get("timeoutSeconds", TIMEOUT_SECONDS) * PATIENCE)
    except httpx.HTTPError:
        return False
    return answer.status_code < 400


def condition(kind: str, status: str, **more: str) -> Thing:
    """One condition of a pod."""
    return {"type": kind, "status": status, "lastTransitionTime": now()} | more


async def stop(process: asyncio.subprocess.Process, grace_seconds: float) -> None:
    """End a process and all of its group."""
    if process.returncode is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), grace_seconds)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
