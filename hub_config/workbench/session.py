"""One start of the workbench, from the checks before it to the last process that ended."""

import asyncio
import json
import os
import signal
from contextlib import suppress

from hub_config import accounts, folders
from hub_config.services import origin
from hub_config.workbench import council, demo, lock, ports, sentinel, verify
from hub_config.workbench.bench import PROJECT, Bench
from hub_config.workbench.leftovers import sweep
from hub_config.workbench.screen import Screen
from majlis.control.health import STATE
from majlis.errors import MajlisError
from majlis.settings import Settings
from spawner.isolation import Isolation, isolation

READABLE = 0o644
INTERRUPTED = 130  # what a shell reports for Ctrl-C


async def run(settings: Settings, purpose: str, pipeline: bool) -> int:
    """Start everything, run the demo, then wait for Ctrl-C (`up`) or verify and end (the others)."""
    screen, url = Screen(), f"{origin(settings)}{settings.workbench.base_url}"
    alone = isolation([PROJECT])
    folders.prepare(settings, alone)
    with lock.held(settings.home / lock.LOCK, url):
        if left := await asyncio.to_thread(sweep, settings.home, settings.workbench.stop_timeout_seconds):
            screen.say(f"{left} processes of a workbench that was killed were still there; they are ended")
        ports.check(settings)
        made = accounts.ensure(settings) if settings.workbench.demo_accounts else {}
        screen.opening(settings, alone, made, accounts.accounts_file(settings))
        tell(settings, alone)
        watchman = sentinel.post(settings.home, settings.workbench.stop_timeout_seconds)
        bench = Bench(settings, screen.say, not_ours={watchman.pid})
        try:
            return await until_stopped(bench, screen, purpose, pipeline)
        finally:
            screen.say("stopping")
            forced = await bench.stop()
            await asyncio.to_thread(sentinel.relieve, watchman)
            screen.say("stopped" + (f"; {forced} processes had to be looked for" if forced else ""))


def tell(settings: Settings, alone: Isolation) -> None:
    """Write down for everybody what only the supervisor knows."""
    state = settings.home / STATE
    state.write_text(json.dumps({"pid": os.getpid(), "isolation": {"on": alone.on, "reason": alone.reason}}))
    state.chmod(READABLE)


async def until_stopped(bench: Bench, screen: Screen, purpose: str, pipeline: bool) -> int:
    """Do what was asked for until it is done or somebody stops it."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopped.set)
    work = asyncio.create_task(perform(bench, screen, purpose, pipeline))
    halt = asyncio.create_task(stopped.wait())
    await asyncio.wait({work, halt}, return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        halt.cancel()
        return work.result()
    work.cancel()
    with suppress(asyncio.CancelledError, MajlisError):
        await work
    return 0 if purpose == "up" else INTERRUPTED


async def perform(bench: Bench, screen: Screen, purpose: str, pipeline: bool) -> int:
    """Start, run the pipeline, and either verify or stay."""
    await bench.start()
    if pipeline and bench.settings.workbench.demo_accounts:
        scientist = demo.Scientist(bench)
        try:
            finished = await scientist.run_pipeline(demo.PIPELINES[purpose], screen)
        except MajlisError as error:
            if purpose != "up":
                raise
            screen.say(str(error))
        else:
            if purpose == "demo":
                return await verify.everything(bench, scientist, finished, screen)
            if purpose == "demo-review":
                return await council.everything(bench, scientist, finished, screen)
    screen.where_to_click(bench.settings)
    await asyncio.Event().wait()
    return 0
