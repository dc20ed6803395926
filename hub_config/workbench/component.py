"""One component: a process that is started, awaited, watched, and started again when it dies."""

import asyncio
import signal
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from majlis.errors import Unavailable

LAST_LINES = 8
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
STEADY_SECONDS = 60.0  # who lived that long begins with the first pause again
POLL_SECONDS = 0.1

Say = Callable[[str], None]
Ready = Callable[[], Awaitable[bool]]


@dataclass
class Component:
    """A process of the workbench."""

    name: str
    command: Sequence[str]
    cwd: Path
    environment: Mapping[str, str]
    log: Path
    ready: Ready  # does it answer?
    before: Callable[[], None] = lambda: None  # what to clear away before it starts again
    after: Callable[[], Awaitable[None]] | None = None  # what to tell others once it is back
    process: Process | None = field(default=None, repr=False)
    pause: float = FIRST_PAUSE_SECONDS
    stopping: bool = False

    async def start(self) -> None:
        """Start the process; its output goes to the log."""
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.cwd,
                env=dict(self.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the supervisor, which stops things in order
            )

    async def wait_ready(self, seconds: float) -> None:
        """Return when it answers; `Unavailable` when it ends first or takes too long."""
        assert self.process is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not await self.ready():
            if self.process.returncode is not None:
                raise self.failure(f"ended with status {self.process.returncode}")
            if loop.time() > deadline:
                raise self.failure(f"did not answer within {seconds:g} s")
            await asyncio.sleep(POLL_SECONDS)

    def failure(self, what: str) -> Unavailable:
        """What happened, with the component's own last words."""
        lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:] if self.log.exists() else []
        words = "".join(f"\n    {line}" for line in lines)
        return Unavailable(f"{self.name} {what}. Its last words:{words}", remedy=f"Read all of {self.log}.")

    async def watch(self, say: Say, seconds: float) -> None:
        """Start it again whenever it dies, after a pause that grows, until it is stopped."""
        loop = asyncio.get_running_loop()
        while True:
            assert self.process is not None
            began = loop.time()
            status = await self.process.wait()
            if self.stopping:
                return
            self.pause = FIRST_PAUSE_SECONDS if loop.time() - began > STEADY_SECONDS else self.pause
            say(f"{self.name} ended ({ending(status)}); it starts again in {self.pause:g} s")
            await asyncio.sleep(self.pause)
            self.pause = min(2 * self.pause, LONGEST_PAUSE_SECONDS)
            self.before()
            await self.start()
            try:
                await self.wait_ready(seconds)
                if self.after:
                    await self.after()
                say(f"{self.name} is back")
            except Unavailable as error:
                say(str(error))

    async def stop(self, seconds: float) -> None:
        """Ask it to end, and make it when it does not."""
        self.stopping = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process is None or self.process.returncode is not None:
                return
            with suppress(ProcessLookupError):
                self.process.send_signal(number)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), seconds)


def ending(status: int) -> str:
    """An exit status in words."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
