"""What an open page hears of a control plane that neither answers nor refuses."""

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("majlis_lab")

from majlis_lab.changes import Changes
from majlis_lab.control import ControlPlane
from majlis_lab.elsewhere import Elsewhere
from majlis_lab.hub import Hub
from majlis_lab.runs import Runs


def test_silence_is_told_long_before_a_request_gives_up(tmp_path: Path) -> None:
    async def told() -> dict[str, str] | None:
        silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = silent.sockets[0].getsockname()[1]
        runs = Runs(tmp_path, ["false"], tmp_path)
        place = Elsewhere(runs, Hub("", "token", "ana", 60), [], 1.0)
        control = ControlPlane(f"http://127.0.0.1:{port}", "token", 60)
        changes = Changes(runs, place, control, every_seconds=1, patience_seconds=0.1)
        await asyncio.wait_for(changes.look(), 30)
        silent.close()
        return changes.problem

    problem = asyncio.run(told())
    assert problem is not None
    assert "takes too long" in problem["detail"]
    assert problem["remedy"]
