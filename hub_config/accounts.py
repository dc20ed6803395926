"""Demo accounts: one for each role, with a generated password that only the operator can read."""

import dbm
import secrets
from pathlib import Path

import bcrypt

from majlis.access import Role
from majlis.settings import Settings

PASSWORD_BYTES = 12
OPERATOR_ONLY = 0o600


def accounts_file(settings: Settings) -> Path:
    """Where the generated passwords are kept."""
    return settings.home / "hub" / "accounts"


def read(path: Path) -> dict[str, str]:
    """Name and password of every demo account that was made."""
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#"))


def ensure(settings: Settings) -> dict[str, str]:
    """Make the demo accounts that do not exist; the new ones, with their passwords."""
    path, database = accounts_file(settings), str(settings.home / "hub" / "passwords.dbm")
    known = read(path)
    made = {role.value: secrets.token_urlsafe(PASSWORD_BYTES) for role in Role if role.value not in known}
    if made:
        write(path, known | made)
    with dbm.open(database, "c", OPERATOR_ONLY) as hashes:
        for name, password in (known | made).items():
            if name in made or name not in hashes:
                hashes[name] = bcrypt.hashpw(password.encode(), bcrypt.gensalt())
    return made


def write(path: Path, accounts: dict[str, str]) -> None:
    """Keep the passwords in a file that is never readable for anyone else."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    partial.touch(OPERATOR_ONLY, exist_ok=False)
    lines = [f"{name} {password}\n" for name, password in accounts.items()]
    partial.write_text("# Demo accounts and the passwords they were made with\n" + "".join(lines))
    partial.replace(path)
