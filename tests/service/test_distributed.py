"""Training over real processes, one of which is killed in the middle."""

import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from majlis.training.distributed import CHECKPOINT, WorkersLost, fit_distributed
from majlis.training.network import Mlp, Plan, fit

PLAN = Plan(epochs=30, batch=200, learning_rate=1e-2)
CPU = torch.device("cpu")


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(2000, 4)).astype(np.float32)
    return points, (points[:, 0] * points[:, 1] > 0).astype(int)


def fresh() -> Mlp:
    torch.manual_seed(0)
    return Mlp(4, hidden=(32,), dropout=0.0)  # each process would draw a dropout of its own


def workers() -> list[psutil.Process]:
    """The processes that train; the agent above them names the module too."""
    below = psutil.Process().children(recursive=True)
    lines = {process: command(process) for process in below}
    return [
        p
        for p, line in lines.items()
        if "majlis.training.distributed" in line and "torch.distributed.run" not in line
    ]


def command(process: psutil.Process) -> list[str]:
    """How it was started; nothing when it has ended by now."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # a zombie is one, too
        return []


def kill_one(checkpoint: Path, killed: list[int]) -> None:
    deadline = time.monotonic() + 90
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    victim = workers()[-1]
    victim.send_signal(signal.SIGKILL)
    killed.append(victim.pid)


@pytest.mark.timeout(240)
def test_a_killed_worker_costs_one_epoch_at_most(tmp_path: Path) -> None:
    points, answers = data()
    alone = fit(fresh(), points, answers, PLAN, device=CPU)
    undisturbed = fit_distributed(fresh(), points, answers, PLAN, tmp_path / "whole")
    assert np.allclose(undisturbed, alone, rtol=1e-3)

    killed: list[int] = []
    folder = tmp_path / "killed"
    hand = threading.Thread(target=kill_one, args=(folder / CHECKPOINT, killed))
    hand.start()
    network = fresh()
    losses = fit_distributed(network, points, answers, PLAN, folder)
    hand.join()
    assert len(killed) == 1 and losses == undisturbed
    assert not workers()
    state = torch.load(tmp_path / "whole" / CHECKPOINT, weights_only=True)["network"]
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


@pytest.mark.timeout(120)
def test_workers_that_cannot_work_say_why(tmp_path: Path) -> None:
    points, answers = data()
    with pytest.raises(WorkersLost, match="(?s)mat1 and mat2.*goes on"):
        fit_distributed(Mlp(9), points, answers, Plan(epochs=1), tmp_path, max_restarts=0)
    assert not workers()
