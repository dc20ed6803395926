"""Simulated rollouts and A/B tests, looked at after every batch: what tests and benches share."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from majlis.serving.evidence import log_evidence, threshold

Array = NDArray[np.float64]


class Seen(NamedTuple):
    """Sums and counts of both revisions at each look [tests, looks], or [tests, looks, signals]."""

    stable: Array
    n: Array
    candidate: Array
    m: Array

    def worse(self, tolerance: Array | float) -> Array:
        """Log evidence at each look that the candidate's rate exceeds the stable one's by more than that."""
        return log_evidence(self.stable, self.n, self.candidate, self.m, tolerance)

    def apart(self, level: float) -> NDArray[np.bool_]:
        """Whether each test is decided, either way, at each look."""
        either = np.maximum(self.worse(0.0), log_evidence(self.candidate, self.m, self.stable, self.n))
        return np.asarray(either > threshold(level, 2))


def counted(
    generator: np.random.Generator,
    tests: int,
    looks: int,
    batch: int,  # requests between two looks
    share: float,  # of them that the candidate gets
    stable: Array,  # rate of each signal [signals]
    candidate: Array,
) -> Seen:
    """Events of every signal [tests, looks, signals]."""
    asked = generator.binomial(batch, share, (tests, looks))
    others = batch - asked
    return Seen(
        np.stack([generator.binomial(others, rate).cumsum(1) for rate in stable], -1),
        others.cumsum(1)[..., None],
        np.stack([generator.binomial(asked, rate).cumsum(1) for rate in candidate], -1),
        asked.cumsum(1)[..., None],
    )


def measured(
    generator: np.random.Generator,
    tests: int,
    looks: int,
    batch: int,  # labelled rows of each revision between two looks
    stable: tuple[float, float],  # of the beta distribution of a number from 0 to 1
    candidate: tuple[float, float],
) -> Seen:
    """Sums of a number that is no coin, such as money earned [tests, looks]."""
    sums = [generator.beta(*shape, (tests, looks, batch)).sum(2).cumsum(1) for shape in (stable, candidate)]
    rows = np.broadcast_to(batch * np.arange(1.0, looks + 1), (tests, looks))
    return Seen(sums[0], rows, sums[1], rows)
