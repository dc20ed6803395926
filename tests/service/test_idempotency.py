"""One key and many senders: one of them works, the others are told; what died is not done again."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from majlis.control.idempotency import Answer, Memory, fingerprint
from majlis.errors import Conflict
from majlis.store import Store

SENDERS = 12
ONCE = fingerprint("POST", "/deployments/live/rollback", b"{}")


@pytest.fixture
def memory(store: Store) -> Memory:
    return Memory(store)


def test_of_many_that_arrive_together_one_works(memory: Memory) -> None:
    for turn in range(5):
        together = Barrier(SENDERS)

        def send(_: int, key: str = f"key-{turn}", together: Barrier = together) -> str:
            together.wait(30)
            try:
                return "works" if memory.begin("amira", key, ONCE) is None else "answered"
            except Conflict as refusal:
                return refusal.message

        with ThreadPoolExecutor(SENDERS) as senders:
            told = list(senders.map(send, range(SENDERS)))
        assert sorted(told) == ["The same request is being worked on"] * (SENDERS - 1) + ["works"]


def test_what_died_with_its_process_is_not_done_again(memory: Memory) -> None:
    assert memory.begin("amira", "k", ONCE) is None
    memory.begin("amira", "done", ONCE)
    memory.finish("amira", "done", 200, b"{}")
    restarted = Memory(memory.store)
    with pytest.raises(Conflict, match="its answer is lost"):
        restarted.begin("amira", "k", ONCE)
    assert restarted.begin("amira", "done", ONCE) == Answer(200, b"{}")
