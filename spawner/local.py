"""The local spawner: a profile becomes a process on this machine, under its own account where possible."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jupyterhub.spawner import LocalProcessSpawner
from traitlets import Bool, Dict, Instance, Int, Unicode

from majlis.errors import MajlisError
from majlis.settings import Profile
from spawner import limits, profiles
from spawner.budget import Purse
from spawner.cgroups import Group
from spawner.isolation import GROUP, user_id

PRIVATE = 0o700
FIRST_PROGRESS, LAST_PROGRESS, PROGRESS_SECONDS = 10, 50, 0.1  # percent; between two looks
UMASK = 0o007  # what a server writes is for its owner and, in the lake, for the common group


class LocalSpawner(LocalProcessSpawner):  # type: ignore[misc]  # jupyterhub has no types
    """Starts a person's server as a process, in a home and with the limits of a profile."""

    homes = Instance(Path, config=True, help="Folder of the users' homes.")
    notebooks = Instance(Path, config=True, help="Folder of the notebooks that every home begins with.")
    profiles = Dict(key_trait=Unicode(), value_trait=Instance(Profile), config=True, help="Every profile.")
    purse = Instance(Purse, config=True, help="Asks what is left of a person's budget.")
    isolated = Bool(False, config=True, help="Whether servers run under accounts of their own.")

    cgroup = Instance(Path, allow_none=True, config=True, help="Control group with a group for each server.")
    processes = Int(config=True, help="Processes and threads a server may have in its control group.")

    told = ""  # to the person, as the server starts
    ran_out = ""  # told at the next start: that the last server's memory was used up

    @property
    def home(self) -> Path:
        """The person's home."""
        return self.homes / str(self.user.name)

    @property
    def groups(self) -> list[str]:
        """The groups the person is in now."""
        return [str(group.name) for group in self.user.groups]

    def options_form(self, spawner: Any) -> str:
        """The choice of profiles; empty where there is none to make."""
        return profiles.form(profiles.entitled(self.profiles, self.groups), self.unenforced)

    def options_from_form(self, form_data: Mapping[str, list[str]]) -> dict[str, str]:
        """What the person chose."""
        return profiles.options_of(form_data)

    async def start(self) -> tuple[str, int]:
        """Check the profile against the person's groups, prepare their home, start the server."""
        self.told = ""
        try:
            name, self.profile = profiles.choose(self.profiles, self.groups, self.user_options)
            profiles.on_this_machine(name, self.user_options)
        except MajlisError as error:
            profiles.forget(self)
            raise profiles.refusal(error) from error
        try:
            told = await self.purse.open(self)
        except MajlisError as error:
            raise profiles.refusal(error) from error
        self.log.info("%s starts with the profile %s", self.user.name, name)
        facts = self.unenforced(self.profile)
        for fact in facts:
            self.log.info("Profile %s: %s", name, fact)
        held = f"Not as the profile says on this machine: {'; '.join(facts)}." if facts else ""
        self.told = " ".join(part for part in (self.ran_out, told, held) if part)
        self.ran_out = ""
        self.prepare_home()
        address: tuple[str, int] = await super().start()
        return address

    def unenforced(self, profile: Profile) -> list[str]:
        """What of a profile nothing sees to on this machine."""
        return limits.unenforced(profile, grouped=self.group is not None)

    @property
    def group(self) -> Group | None:
        """The control group of this server, where the machine lets us make one."""
        if self.cgroup is None:
            return None
        return Group(self.cgroup / f"server-{self.user.id}-{quote(self.name, safe='')}")

    async def poll(self) -> int | None:
        """Does the server run? When it has ended, its group goes, too."""
        status: int | None = await super().poll()
        if status is not None and self.group is not None:
            await self.leave(self.group)
        return status

    async def leave(self, group: Group) -> None:
        """Keep for its person whether the memory was used up, and let the group go."""
        if group.killed():
            size = f"{group.memory_gib():g} GiB"
            self.ran_out = f"A process of your last server was ended: all of its {size} were used up."
            self.log.warning("%s: memory was used up in %s", self.user.name, group.path)
        if not await group.remove():
            self.log.error("%s: processes stay in %s", self.user.name, group.path)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """What the person reads while they wait: what is left of their budget, what is not held here."""
        yield {"progress": FIRST_PROGRESS, "message": "The server is being started."}
        while not self.told:
            await asyncio.sleep(PROGRESS_SECONDS)
        yield {"progress": LAST_PROGRESS, "message": self.told}

    def prepare_home(self) -> None:
        """A home of the person's own, with the project's notebooks in it."""
        self.home.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        self.home.chmod(PRIVATE)
        if self.isolated:
            os.chown(self.home, self.account, GROUP)
        seed = [sys.executable, "-I", "-S", str(Path(__file__).with_name("seed.py"))]
        subprocess.run(
            [*seed, str(self.notebooks), str(self.home)],
            check=True,
            cwd=self.home,
            env={"HOME": str(self.home)},
            umask=UMASK,
            **self.credentials(),
        )

    def credentials(self) -> dict[str, Any]:
        """Whose process it becomes, in `subprocess` words."""
        return {"user": self.account, "group": GROUP, "extra_groups": []} if self.isolated else {}

    @property
    def account(self) -> int:
        """The person's user id on this machine."""
        return user_id(int(self.user.id))

    def make_preexec_fn(self, name: str) -> Callable[[], None]:
        """What the new process does before it becomes the server: limits first, while it still may."""
        home, account, group = self.home, self.account, self.group
        if group is not None:
            group.make(self.profile, self.processes)
        limit = limits.apply(self.profile, group and group.enter)

        def become() -> None:
            limit()
            os.umask(UMASK)
            if self.isolated:
                os.setgroups([])
                os.setgid(GROUP)
                os.setuid(account)
            os.chdir(home)

        return become

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """The person's own variables."""
        own = {
            "USER": self.user.name,
            "LOGNAME": self.user.name,
            "HOME": str(self.home),
            "SHELL": "/bin/bash",
        }
        return env | limits.environment(self.profile) | own

    def move_certs(self, paths: dict[str, str]) -> dict[str, str]:
        """Certificates are read where the hub keeps them."""
        return paths
