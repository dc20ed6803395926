"""The folders the workbench keeps its state in, each with the owner and mode its contents ask for."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from majlis.errors import SettingsError
from majlis.settings import Settings
from spawner.isolation import GROUP, TRACKING_UID, Isolation

PRIVATE, ENTERED, READABLE, SHARED = 0o700, 0o711, 0o755, 0o2770
GIB = 2**30
MINIMUM_FREE_GIB = 2  # the lake, the models and the logs of one run of the demo, with room to spare


@dataclass(frozen=True)
class Folder:
    """One folder: where, for whom."""

    path: Path
    mode: int
    uid: int = 0
    gid: int = 0


def folders(settings: Settings) -> list[Folder]:
    """Every folder, parents first."""
    home = settings.home
    private = [home / "hub", settings.control, home / "logs", settings.gateway.predictions]
    readable = [settings.release.folder, settings.snapshot.parent]
    shared = [place for place in (settings.lake.uri, str(settings.features.repo)) if "://" not in place]
    return [
        Folder(home, ENTERED),
        Folder(home / "home", ENTERED),
        *(Folder(path, PRIVATE) for path in private),
        *(Folder(path, READABLE) for path in readable),
        *(Folder(Path(path), SHARED, gid=GROUP) for path in shared),
        Folder(home / "mlflow", PRIVATE, uid=TRACKING_UID, gid=TRACKING_UID),
    ]


def prepare(settings: Settings, isolation: Isolation) -> None:
    """Make every folder; without isolation they are all the operator's own."""
    try:
        for folder in folders(settings):
            folder.path.mkdir(parents=True, exist_ok=True)
            if isolation.on:
                os.chown(folder.path, folder.uid, folder.gid)
                folder.path.chmod(folder.mode)
            else:
                folder.path.chmod(PRIVATE)
    except OSError as error:
        raise SettingsError(
            f"[workbench] home = {settings.home}: {error.strerror} ({error.filename})",
            remedy="Name a folder this account may write to: home in settings.ini, or MAJLIS_WORKBENCH_HOME.",
        ) from error
    check_disk(settings.home)


def check_disk(home: Path) -> None:
    """`SettingsError` when the disk is too full to begin."""
    free = shutil.disk_usage(home).free / GIB
    if free < MINIMUM_FREE_GIB:
        raise SettingsError(
            f"[workbench] home = {home}: {free:.1f} GiB are free there, {MINIMUM_FREE_GIB} are needed",
            remedy="Free some, or choose another disk: home in settings.ini, or MAJLIS_WORKBENCH_HOME.",
        )
