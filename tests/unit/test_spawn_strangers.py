"""Whoever asks for whatever: a start, or a refusal that says what is allowed; and a file that changed."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado import web

from majlis.access import Role
from majlis.errors import MajlisError
from majlis.settings import load
from spawner import kube, profiles
from spawner.local import LocalSpawner
from tests.support.strangers import BODIES, TOLD_AT_MOST
from tests.support.workbench import ROOT, without_settings

SETTINGS = load(environ={})
CONFIG = ROOT / "hub_config" / "jupyterhub_config.py"
OPTIONS = {
    what: body for what, body in BODIES.items() if isinstance(body, dict) and "user_options" not in body
}
GROUPS = [[], ["strangers"], *([role.value] for role in Role), [role.value for role in Role]]
HUB_SECONDS = 60


def here(options: Any, groups: list[str]) -> str:
    """The profile that a start on this machine gets."""
    name, _ = profiles.choose(SETTINGS.profiles, groups, options)
    profiles.on_this_machine(name, options)
    return name


def there(options: Any, groups: list[str]) -> str:
    """The profile that a start on Kubernetes gets."""
    return kube.check(SETTINGS.profiles, groups, options)


@pytest.mark.parametrize("start", [here, there])
@pytest.mark.parametrize("groups", GROUPS, ids=str)
@pytest.mark.parametrize("name", [*SETTINGS.profiles, ""])
def test_every_profile_is_started_by_who_may_and_refused_to_who_may_not(
    start: Any, groups: list[str], name: str
) -> None:
    allowed = profiles.entitled(SETTINGS.profiles, groups)
    try:
        assert start({"profile": name} if name else {}, groups) in ([name] if name else [*allowed][:1])
        assert name in allowed or not name
    except MajlisError as error:
        assert name not in allowed and (name or not allowed)
        assert profiles.refusal(error).status_code == 403
        assert "Choose one of yours" in str(error) or "Ask an administrator" in str(error)


@pytest.mark.parametrize("start", [here, there])
@pytest.mark.parametrize("groups", [["owner"], [role.value for role in Role]], ids=len)
@pytest.mark.parametrize("what", OPTIONS)
def test_what_nobody_may_ask_for_is_refused_in_few_words(start: Any, groups: list[str], what: str) -> None:
    with pytest.raises(MajlisError) as refused:
        start(OPTIONS[what], groups)
    answer = profiles.refusal(refused.value)
    assert isinstance(answer, web.HTTPError) and answer.status_code == 422
    assert len(str(refused.value)) <= TOLD_AT_MOST


def test_a_choice_that_was_refused_is_not_made_again() -> None:
    kept = SimpleNamespace(user_options={"profile": "gone"}, name="", server=None)
    group = SimpleNamespace(name="owner")
    spawner = LocalSpawner(_mock=True, profiles=SETTINGS.profiles)
    spawner.user, spawner.orm_spawner = SimpleNamespace(id=1, name="omar", groups=[group]), kept
    spawner.user_options = {"profile": "gone"}
    with pytest.raises(web.HTTPError, match="There is no profile 'gone'"):
        asyncio.run(spawner.start())
    assert kept.user_options is None
    kept.user_options = {"profile": "gone"}
    with pytest.raises(web.HTTPError, match="There is no profile 'gone'"):
        kube.guard(SETTINGS)(spawner, {"profile": "gone"})
    assert kept.user_options is None


def test_a_server_whose_profile_is_gone_from_the_file_runs_on_and_can_be_stopped() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    async def story() -> None:
        spawner = LocalSpawner(_mock=True, profiles={}, interrupt_timeout=5)
        spawner.user = SimpleNamespace(id=1, name="omar", groups=[])
        spawner.load_state({"pid": process.pid})
        assert await spawner.poll() is None
        stopped = asyncio.ensure_future(spawner.stop())
        await asyncio.to_thread(process.wait, 30)  # its own parent has to let a process go
        await stopped
        assert await spawner.poll() is not None

    try:
        asyncio.run(story())
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("PROFILE_CPU_SMALL_CPU_LIMIT", "lots", "a number above 0"),
        ("WORKBENCH_SPAWNER", "moon", "one of local, kubernetes"),
        ("KUBERNETES_SPOT_TAINT", "x", "each item is key=value:Effect"),
        ("KUBERNETES_SHARED_CLAIM", "Not A Name", "not allowed"),
    ],
)
def test_a_hub_with_a_bad_setting_does_not_start_and_names_it(
    key: str, value: str, told: str, tmp_path: Path
) -> None:
    bad = {f"MAJLIS_{key}": value, "MAJLIS_WORKBENCH_HOME": str(tmp_path / "var")}
    ended = subprocess.run(
        [sys.executable, "-m", "jupyterhub", "-f", str(CONFIG)],
        cwd=ROOT,
        env=without_settings(os.environ) | bad,
        capture_output=True,
        text=True,
        timeout=HUB_SECONDS,
    )
    assert ended.returncode != 0
    (line,) = [line for line in ended.stderr.splitlines() if line.strip().startswith("majlis.errors")]
    assert f"MAJLIS_{key} = {value!r}" in line and told in line
    assert not (tmp_path / "var").exists(), "nothing was begun"
