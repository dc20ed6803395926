"""KubeSpawner, where it gives up for good or waits for what will not come."""

from collections.abc import AsyncIterator
from typing import Any

from kubespawner import KubeSpawner
from traitlets import Instance

from majlis.errors import MajlisError, Unavailable
from spawner.budget import Purse
from spawner.profiles import refusal

# Why a container waits for an image that the cluster could not get.
PULL_FAILURES = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


class WatchfulKubeSpawner(KubeSpawner):  # type: ignore[misc]  # kubespawner has no types
    """Asks for the budget, renews watches that ended, and ends a start whose image cannot be pulled."""

    purse = Instance(Purse, config=True, help="Asks what is left of a person's budget.")
    told = ""  # to the person, as the server starts

    async def _start(self) -> Any:
        """Start the pod, unless nothing is left of the person's budget."""
        self.told = ""
        try:
            self.told = await self.purse.open(self)
        except MajlisError as error:
            raise refusal(error) from error
        return await super()._start()

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """What the person reads while they wait: what is left of their budget, what happens to the pod."""
        said = False
        async for event in super().progress():
            if self.told and not said:
                said = True
                yield {"progress": event.get("progress", 0), "message": self.told}
            yield event

    async def _start_reflector(
        self, kind: str, reflector_class: type[Any], replace: bool = False, **kwargs: Any
    ) -> Any:
        """The shared watch of pods or events, renewed where it gave up (jupyterhub/kubespawner#938)."""
        key = self._get_reflector_key(kind)
        ended = self.__class__.reflectors.get(key)
        if ended is None or not has_ended(ended):
            return await super()._start_reflector(kind, reflector_class, replace=replace, **kwargs)
        self.log.warning("The watch of %s ended; it is renewed", kind)
        try:
            return await super()._start_reflector(kind, reflector_class, replace=True, **kwargs)
        except Exception:
            # What was last known is better than nothing: a poll without it would count the server as gone.
            self.log.exception("The watch of %s could not be renewed; the next poll tries again", kind)
            self.__class__.reflectors[key] = ended
            return ended

    def is_pod_running(self, pod: dict[str, Any] | None) -> bool:
        """Is the pod up? `start` asks until it is; an image that cannot be pulled ends the asking."""
        starting = self._start_future is not None and not self._start_future.done()
        if starting and (reason := pull_failure(pod)):
            error = Unavailable(
                f"The server's image cannot be pulled: {reason}",
                remedy="Ask an administrator to correct the profile's image, or choose another profile.",
            )
            raise refusal(error)
        return bool(super().is_pod_running(pod))


def has_ended(reflector: Any) -> bool:
    """Did a watch give up, or never begin after its first load failed?"""
    if reflector.watch_task is not None:
        return bool(reflector.watch_task.done())
    loaded = reflector.first_load_future
    return bool(loaded.done() and (loaded.cancelled() or loaded.exception() is not None))


def pull_failure(pod: dict[str, Any] | None) -> str | None:
    """The image that a pod waits for in vain, and why, in words; None where there is none."""
    status = pod.get("status", {}) if pod else {}
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in PULL_FAILURES:
            said = f": {waiting['message']}" if waiting.get("message") else ""
            return f"{container.get('image', 'an image')}, {waiting['reason']}{said}"
    return None
