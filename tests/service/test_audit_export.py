"""Exports, retirement, checkpoints: what leaves the database can be trusted, and cutting it off shows."""

import json
import queue
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from majlis import clock
from majlis.audit import Entry, extend, verify
from majlis.audit_checkpoints import Keeper, checkpoint, due, read, verify_trail
from majlis.audit_export import MANIFEST, RECORDS, check, check_retirement, export, retire, years_before
from majlis.envelope import seal, signing_key, unseal, verifying_key
from majlis.errors import Conflict, Invalid, MajlisError, NotFound, Tampered
from majlis.store import Store
from tests.support import waiting

KEY = ec.generate_private_key(ec.SECP256R1())
PUBLIC = KEY.public_key()
OTHER = ec.generate_private_key(ec.SECP256R1())


until = partial(waiting.until, seconds=30)


def fill(store: Store, count: int, year: int = 2018) -> None:
    with clock.frozen(datetime(year, 3, 1, tzinfo=UTC)), store.session() as session:
        extend(
            session, [Entry("amira", "check.passed", f"m/{n}", {"n": n, "ü": "'\""}) for n in range(count)]
        )


def exported(store: Store, folder: Path, before: datetime | None = None) -> Path:
    with store.reading() as session:
        export(session, folder, KEY, before)
    return folder


def owned(store: Store, *statements: str) -> None:
    """Do what the database's owner can: take the triggers away, then rewrite."""
    with store.session() as session:
        for trigger in ("audit_insert", "audit_update", "audit_delete"):
            session.execute(text(f"DROP TRIGGER {trigger}" + ("" if store.lite else " ON audit")))
        for statement in statements:
            session.execute(text(statement))


def test_an_export_holds_every_record_as_it_was_stored(store: Store, tmp_path: Path) -> None:
    fill(store, 7)
    folder = exported(store, tmp_path / "x")
    with store.reading() as session:
        stored = [tuple(row) for row in session.execute(text("SELECT * FROM audit ORDER BY seq"))]
    assert [tuple(row.values()) for row in pq.read_table(folder / RECORDS).to_pylist()] == stored
    assert check(folder, PUBLIC).records == 7


def test_an_export_in_several_batches_verifies(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("majlis.audit_export.BATCH", 3)
    fill(store, 8)
    folder = exported(store, tmp_path / "x")
    assert pq.ParquetFile(folder / RECORDS).num_row_groups == 3
    assert check(folder, PUBLIC).last == 8


@pytest.mark.parametrize("file", [RECORDS, MANIFEST])
def test_one_flipped_byte_anywhere_is_found(store: Store, tmp_path: Path, file: str) -> None:
    fill(store, 3)
    path = exported(store, tmp_path / "x") / file
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            manifest = check(tmp_path / "x", PUBLIC)
        except Tampered as refusal:
            assert str(tmp_path / "x") in refusal.message
        else:  # a byte that says nothing: white space, or the key's name, which nobody trusts
            path.write_bytes(whole)
            assert file == MANIFEST and manifest == check(tmp_path / "x", PUBLIC)


def test_another_key_does_not_verify(store: Store, tmp_path: Path) -> None:
    fill(store, 3)
    with pytest.raises(Tampered, match="signature does not fit"):
        check(exported(store, tmp_path / "x"), OTHER.public_key())


def test_a_folder_without_manifest_is_no_export(store: Store, tmp_path: Path) -> None:
    fill(store, 3)
    (exported(store, tmp_path / "x") / MANIFEST).unlink()
    with pytest.raises(NotFound, match="is missing"):
        check(tmp_path / "x", PUBLIC)


def test_a_trail_that_does_not_verify_is_not_exported(store: Store, tmp_path: Path) -> None:
    fill(store, 3)
    owned(store, "UPDATE audit SET principal = 'nobody' WHERE seq = 2")
    with pytest.raises(Tampered, match="record 2 was changed"):
        exported(store, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_nothing_is_exported_twice_into_one_place_nor_from_an_empty_trail(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="no record to export"):
        exported(store, tmp_path / "x")
    fill(store, 1)
    exported(store, tmp_path / "x")
    with pytest.raises(Conflict, match="holds an export already"):
        exported(store, tmp_path / "x")


def test_retiring_takes_exactly_what_was_exported(store: Store, tmp_path: Path) -> None:
    fill(store, 4, 2018)
    fill(store, 4, 2026)
    old = exported(store, tmp_path / "old", datetime(2019, 1, 1, tzinfo=UTC))
    with clock.frozen(datetime(2026, 6, 1, tzinfo=UTC)), store.session() as session:
        retire(session, old, PUBLIC, 7, "admin")
    with store.reading() as session:
        assert verify(session).records == 5  # four of 2026, and the record of the retirement
        check_retirement(session, PUBLIC)
        with pytest.raises(Tampered):
            check_retirement(session, OTHER.public_key())
    fill(store, 1, 2026)
    with store.reading() as session:
        assert verify(session).records == 6
    with pytest.raises(DBAPIError, match="before they are retired"), store.session() as session:
        session.execute(text("DELETE FROM audit WHERE seq = 5"))


@pytest.mark.parametrize(
    ("years", "kind", "reason"), [(9, Conflict, "not older than"), (8, Conflict, "not older than")]
)
def test_what_the_law_keeps_is_not_retired(
    store: Store, tmp_path: Path, years: int, kind: type[Exception], reason: str
) -> None:
    fill(store, 2, 2018)
    with (
        clock.frozen(datetime(2026, 3, 1, tzinfo=UTC)),
        pytest.raises(kind, match=reason),
        store.session() as session,
    ):
        retire(session, exported(store, tmp_path / "x"), PUBLIC, years, "admin")
    with store.reading() as session:
        assert verify(session).records == 2


def test_an_export_of_other_records_retires_nothing(store: Store, tmp_path: Path) -> None:
    fill(store, 2, 2018)
    first, second = (exported(store, tmp_path / name) for name in ("first", "second"))
    with store.session() as session:
        retire(session, first, PUBLIC, 7, "admin")
    with pytest.raises(Conflict, match="begins with record 1, the trail with 3"), store.session() as session:
        retire(session, second, PUBLIC, 7, "admin")


def test_the_day_some_years_before() -> None:
    assert years_before(datetime(2028, 2, 29), 7) == datetime(2021, 2, 28)
    assert years_before(datetime(2028, 2, 29), 8) == datetime(2020, 2, 29)


def mark(store: Store, folder: Path) -> int | None:
    with store.reading() as session:
        made = checkpoint(session, folder, KEY)
    return made.seq if made else None


def verdict(store: Store, folder: Path) -> str:
    with store.reading() as session:
        found = verify_trail(session, folder, PUBLIC)
    return "ok" if found else found.reason


def test_a_trail_that_was_not_touched_verifies_against_its_checkpoints(store: Store, tmp_path: Path) -> None:
    assert mark(store, tmp_path) is None
    for _ in range(3):
        fill(store, 3)
        assert mark(store, tmp_path)
    fill(store, 2)
    assert [one.seq for one in read(tmp_path, PUBLIC)] == [3, 6, 9]
    assert verdict(store, tmp_path) == "ok"


@pytest.mark.parametrize("refilled", [0, 2, 3, 5])
def test_a_trail_that_was_cut_off_is_seen_and_never_signed_again(
    store: Store, tmp_path: Path, refilled: int
) -> None:
    fill(store, 6)
    mark(store, tmp_path)
    owned(store, "DELETE FROM audit WHERE seq > 3")
    if refilled:
        fill(store, refilled, 2019)
    with store.reading() as session:
        assert verify(session)  # the chain alone does not know
    assert "record" in verdict(store, tmp_path) and verdict(store, tmp_path) != "ok"
    with pytest.raises(Tampered, match="record 6 was marked"):
        mark(store, tmp_path)


def test_a_trail_that_was_emptied_is_seen(store: Store, tmp_path: Path) -> None:
    fill(store, 2)
    mark(store, tmp_path)
    owned(store, "DELETE FROM audit")
    assert verdict(store, tmp_path) == "records 1 to 2 are gone: 2 was marked, and the last one is 0"


def test_a_retirement_that_nobody_signed_is_seen(store: Store, tmp_path: Path) -> None:
    fill(store, 4)
    mark(store, tmp_path)
    with store.session() as session:
        digest = session.execute(text("SELECT digest FROM audit WHERE seq = 3")).scalar_one()
        forged = {"digest": digest, "statement": seal({"last": 3}, "application/x", OTHER)}
        session.execute(text("INSERT INTO audit_retired VALUES (3, '', :digest, :statement)"), forged)
        session.execute(text("DELETE FROM audit WHERE seq <= 3"))
        assert verify(session)
    assert "envelope" in verdict(store, tmp_path)


def test_checkpoints_before_a_retirement_stay_good(store: Store, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    fill(store, 2, 2018)
    mark(store, marks)
    fill(store, 2, 2018)
    mark(store, marks)
    with store.session() as session:
        retire(session, exported(store, tmp_path / "x"), PUBLIC, 7, "admin")
    assert verdict(store, marks) == "ok"
    assert mark(store, marks) == 5


def test_a_foreign_checkpoint_is_named(store: Store, tmp_path: Path) -> None:
    fill(store, 2)
    mark(store, tmp_path)
    (path,) = tmp_path.glob("*.json")
    statement = unseal(path.read_text(), "application/vnd.majlis.audit-checkpoint+json", PUBLIC)
    path.write_text(seal(statement, "application/vnd.majlis.audit-checkpoint+json", OTHER))
    assert str(path) in verdict(store, tmp_path)


def test_a_checkpoint_is_due_after_its_hours(store: Store, tmp_path: Path) -> None:
    fill(store, 1)
    with clock.frozen(datetime(2026, 3, 1, tzinfo=UTC)) as stopped:
        assert due(tmp_path, PUBLIC, hours=24)
        mark(store, tmp_path)
        assert not due(tmp_path, PUBLIC, hours=24)
        stopped.advance(hours=24)
        assert due(tmp_path, PUBLIC, hours=24)


def test_a_keeper_signs_when_it_is_due_and_tells_of_a_trail_that_was_cut_off(
    store: Store, tmp_path: Path
) -> None:
    fill(store, 3)
    told: queue.Queue[MajlisError] = queue.Queue()
    keeper = Keeper(store, tmp_path / "marks", KEY, hours=1e-5, tell=told.put)
    until(lambda: len(list((tmp_path / "marks").glob("[0-9]*.json"))) == 1)
    fill(store, 2)
    until(lambda: len(list((tmp_path / "marks").glob("[0-9]*.json"))) == 2)
    assert told.empty()
    owned(store, "DELETE FROM audit WHERE seq > 4")
    assert "record 5 was marked" in told.get(timeout=30).message
    keeper.close()
    assert [one.seq for one in read(tmp_path / "marks", PUBLIC)] == [3, 5]


def test_keys_of_another_sort_are_refused(tmp_path: Path) -> None:
    edwards = ed25519.Ed25519PrivateKey.generate()
    private = edwards.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = edwards.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for load, content in [
        (signing_key, private),
        (verifying_key, public),
        (signing_key, b"x"),
        (verifying_key, b"x"),
    ]:
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(Invalid):
            load(tmp_path / "key")
    with pytest.raises(NotFound, match="there is no key"):
        signing_key(tmp_path / "none")


@pytest.mark.parametrize(
    "envelope", ["", "[]", "{}", "null", '{"payloadType": 1, "payload": "x", "signatures": []}']
)
def test_what_is_no_envelope_is_refused(envelope: str) -> None:
    with pytest.raises(Tampered):
        unseal(envelope, "application/x", PUBLIC)


def test_a_signature_over_something_else_than_a_mapping_is_refused() -> None:
    sealed = json.loads(seal({"a": 1}, "application/x", KEY))
    sealed["signatures"] = []
    with pytest.raises(Tampered, match="does not fit"):
        unseal(json.dumps(sealed), "application/x", PUBLIC)
