"""A release: one altered byte in any file, a missing or added file, another key, time and revocation."""

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from majlis import clock
from majlis.errors import MajlisError, NotFound, Tampered
from majlis.registry.release import (
    SIGNATURE,
    STATEMENT,
    Expired,
    Revoked,
    Statement,
    authentic,
    digests,
    files,
    keypair,
    sign,
    verify,
    write,
)

FILES = {
    "model/MLmodel": b"flavors: {}\n",
    "model/weights.bin": bytes(range(256)),
    "model/empty": b"",
    "model/deep/er/input.json": b"{}",
    "onnx/model.onnx": b"\x08\x07" * 50,
}


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    private, public = tmp_path / "control" / "signing.pem", tmp_path / "public" / "signing.pub"
    keypair(private, public)
    return private, public


@pytest.fixture
def folder(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    made = tmp_path / "flights-3"
    for name, content in FILES.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    now = clock.now()
    statement = Statement(
        id="flights-3",
        model="flights",
        version=3,
        owner="amira",
        run_id="r",
        formats={"native": "model"},
        digests=digests(made),
        signature={"inputs": [], "outputs": []},
        checks=[],
        approvals=[],
        policy="",
        tier="low",
        tier_reasons=[],
        residency="ae",
        issued_at=now,
        expires_at=now + timedelta(days=1),
    )
    write(made, statement)
    sign(made, keys[0])
    return made


def test_every_file_is_covered(folder: Path, keys: tuple[Path, Path]) -> None:
    """Flip one byte in each file in turn: each time the refusal names exactly that file."""
    assert verify(folder, keys[1]).version == 3
    covered = list(files(folder))
    assert {path.relative_to(folder).as_posix() for path in covered} == {*FILES, STATEMENT, SIGNATURE}
    for path in covered:
        original = path.read_bytes()
        middle = len(original) // 2
        altered = (
            original[:middle] + bytes([original[middle] ^ 1]) + original[middle + 1 :] if original else b"x"
        )
        path.write_bytes(altered)
        with pytest.raises(Tampered) as refusal:
            verify(folder, keys[1])
        assert path.name in refusal.value.message, path
        path.write_bytes(original)
    assert verify(folder, keys[1]).id == "flights-3"


@pytest.mark.parametrize("name", [*FILES, STATEMENT])
def test_missing_file(folder: Path, keys: tuple[Path, Path], name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(Tampered, match=f"missing: {name}"):
        verify(folder, keys[1])


@pytest.mark.parametrize(
    "name", ["model/extra.pkl", ".git/hooks/post-checkout", ".gitignore", "release.json.bak"]
)
def test_added_file(folder: Path, keys: tuple[Path, Path], name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"x")
    with pytest.raises(Tampered, match="added: "):
        verify(folder, keys[1])


def test_links_and_devices_are_refused(folder: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copy(folder / "model/weights.bin", tmp_path / "same-bytes")
    (folder / "model/weights.bin").unlink()
    (folder / "model/weights.bin").symlink_to(tmp_path / "same-bytes")
    with pytest.raises(Tampered, match=r"model/weights\.bin is not a plain file"):
        verify(folder, keys[1])
    (folder / "model/weights.bin").unlink()
    os.mkfifo(folder / "model/weights.bin")
    with pytest.raises(Tampered, match="not a plain file"):
        verify(folder, keys[1])


def test_another_key_signs_nothing(folder: Path, tmp_path: Path) -> None:
    private, public = tmp_path / "other.pem", tmp_path / "other.pub"
    keypair(private, public)
    with pytest.raises(Tampered, match="not a signature of this release key"):
        verify(folder, public)


def test_signature_of_another_release(folder: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """A valid release under another name would let an old version pose as a new one."""
    other = shutil.copytree(folder, tmp_path / "flights-4")
    with pytest.raises(Tampered, match="holds the release flights-3"):
        verify(other, keys[1])


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff\xfe", b'{"dsseEnvelope": {"payload": "e30="}}']
)
def test_forged_signature_files(folder: Path, keys: tuple[Path, Path], content: bytes) -> None:
    (folder / SIGNATURE).write_bytes(content)
    with pytest.raises(Tampered):
        verify(folder, keys[1])


def test_unsigned_folder_and_missing_key(folder: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cannot be checked"):
        verify(folder, tmp_path / "nowhere.pub")
    (folder / SIGNATURE).unlink()
    with pytest.raises(NotFound, match="is not a signed release"):
        verify(folder, keys[1])


def test_time_and_revocation_are_told_apart(folder: Path, keys: tuple[Path, Path]) -> None:
    statement = authentic(folder, keys[1])
    with pytest.raises(Revoked):
        verify(folder, keys[1], revoked=["flights-3"])
    with clock.frozen(statement.expires_at - timedelta(seconds=1)):
        assert verify(folder, keys[1], revoked=["flights-2"]) == statement
    with clock.frozen(statement.expires_at), pytest.raises(Expired):
        verify(folder, keys[1])
    refusals: set[type[MajlisError]] = {Revoked, Expired, Tampered}
    assert len({kind.title for kind in refusals}) == len(refusals)


def test_key_is_private_and_never_replaced(keys: tuple[Path, Path]) -> None:
    private, public = keys
    before = private.read_bytes()
    assert private.stat().st_mode & 0o777 == 0o600
    public.unlink()
    keypair(private, public)
    assert private.read_bytes() == before and b"PUBLIC KEY" in public.read_bytes()
    assert b"PRIVATE" not in public.read_bytes()
