"""Nodes for `tests.support.kube`: a scheduler, and a kubelet that runs a pod's container as a process here.

Every pod has an address of its own on the loopback. What is mounted is a folder here, and the environment
tells its path; images are names only, and one that is said to be missing cannot be pulled.
"""

import asyncio
import base64
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.support.kube import Store, Thing, now

UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
ADDRESS = "tests/address"  # annotation of a pod that is to have a certain address
REPELLING = ("NoSchedule", "NoExecute")


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
        paths: Mapping[str, Path] = MappingProxyType({}),  # what images hold: a path, and where that is here
    ) -> None:
        self.store, self.nodes, self.folder, self.missing = store, nodes, folder, missing_images
        self.names, self.paths = names, paths
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
        mounts = self.mounts(pod, container)
        home, log = moved(container.get("workingDir", "/tmp"), mounts), self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *container.get("command", []),
                *container.get("args", []),
                env=self.environment(container, address, mounts) | {"HOME": home},
                cwd=home,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.running[pod["metadata"]["uid"]] = Running(process, address)
        self.store.event(pod, "Started", f"Started container {container['name']}")
        self.say(name, container, "Running", {"running": {"startedAt": now()}}, podIP=address)
        code = await process.wait()
        if pod["metadata"]["uid"] in self.running:  # it ended by itself
            ended = {"terminated": {"exitCode": abs(code), "finishedAt": now()}}
            self.say(name, container, "Failed" if code else "Succeeded", ended)

    def say(self, name: str, container: Thing, phase: str, state: Thing, **more: str) -> None:
        """A pod's new status."""
        ready = "running" in state
        told = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
        old = self.store.read("pods", name)["status"]
        conditions = [*old["conditions"][:1], condition("Ready", str(ready))]
        new = {"phase": phase, "conditions": conditions, "startTime": now()} | more
        containers = [told | {"ready": ready, "started": ready, "state": state}]
        self.store.change("pods", name, status=old | new | {"containerStatuses": containers})

    def mounts(self, pod: Thing, container: Thing) -> dict[str, Path]:
        """The paths where something is mounted or the image holds something, each with its folder here."""
        volumes = {each["name"]: each for each in pod["spec"].get("volumes", [])}
        found = dict(self.paths)
        for mount in container.get("volumeMounts", []):
            volume = volumes[mount["name"]]
            if claim := volume.get("persistentVolumeClaim"):
                place = self.folder / claim["claimName"] / mount.get("subPath", "")
            else:
                place = self.folder / pod["metadata"]["uid"] / mount["name"]
            place.mkdir(parents=True, exist_ok=True)
            if secret := volume.get("secret"):
                for key, value in self.store.read("secrets", secret["secretName"])["data"].items():
                    (place / key).write_bytes(base64.b64decode(value))
            found[mount["mountPath"]] = place
        return found

    def environment(self, container: Thing, address: str, mounts: Mapping[str, Path]) -> dict[str, str]:
        """What a container's process finds: the image's own part, and the pod's.

        All pods share one machine, so who would listen everywhere in a pod listens at its pod's address.
        """
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        given: dict[str, str] = {}
        for source in container.get("envFrom", []):
            given |= self.store.read("configmaps", source["configMapRef"]["name"])["data"]
        given |= {each["name"]: self.value(each) for each in container.get("env", [])}
        for name, value in given.items():
            there = value.replace("0.0.0.0", address)
            for host, here in self.names.items():
                there = there.replace(f"//{host}/", f"//{here}/")
            given[name] = moved(there, mounts)
        return {"PATH": programs, "LANG": "C.UTF-8"} | given

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
            await stop(running.process, pod["metadata"]["deletionGracePeriodSeconds"])
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


def moved(path: str, mounts: Mapping[str, Path]) -> str:
    """Where a path of a container is here."""
    for mount in sorted(mounts, key=len, reverse=True):
        if path == mount or path.startswith(f"{mount}/"):
            return str(mounts[mount]) + path.removeprefix(mount)
    return path


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
