"""Of many who saw the same state one may change it, on both databases."""

import threading
from collections import Counter

from majlis import clock
from majlis.control.conditions import Conditions, model, tag
from majlis.errors import Changed
from majlis.registry.versions import ModelRow
from majlis.store import Store

PEOPLE = 6


def test_of_many_who_saw_the_same_one_changes_it(store: Store) -> None:
    now = clock.now()
    with store.session() as session:
        session.add(ModelRow(name="flights", created_by="amira", created_at=now, updated_at=now))
    conditions, kept = Conditions(store), model("flights")
    seen, together = tag(b"the answer", conditions.state(kept)), threading.Barrier(PEOPLE)
    outcomes: Counter[str] = Counter()

    def change(number: int) -> None:
        together.wait()
        try:
            with conditions.only_if(kept, "/models/flights", seen), store.session() as session:
                session.get_one(ModelRow, "flights").versions += number
            outcomes["changed"] += 1
        except Changed:
            outcomes["too late"] += 1

    threads = [threading.Thread(target=change, args=(number,)) for number in range(1, PEOPLE + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {"changed": 1, "too late": PEOPLE - 1}


def test_a_condition_holds_for_one_change_and_one_thread(store: Store) -> None:
    """What is left of a condition must not meet the next request of the same thread."""
    now = clock.now()
    with store.session() as session:
        session.add(ModelRow(name="flights", created_by="amira", created_at=now, updated_at=now))
    conditions, stale = Conditions(store), '"0.0"'
    with conditions.only_if(model("flights"), "/models/flights", stale):
        pass  # the change found nothing to write
    with store.session() as session:
        session.get_one(ModelRow, "flights").versions = 1
    with conditions.only_if(model("flights"), "/models/flights", stale):
        other = threading.Thread(target=lambda: rename(store))
        other.start()
        other.join()
    with store.reading() as session:
        row = session.get_one(ModelRow, "flights")
        assert (row.versions, row.created_by) == (1, "ben")


def rename(store: Store) -> None:
    with store.session() as session:
        session.get_one(ModelRow, "flights").created_by = "ben"
