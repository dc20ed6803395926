"""Credentials that travel with a model: found wherever they stand, told without their value."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from majlis.governance.checks import Check, Limits, Subject, secrets
from majlis.governance.secrets import PIECE, search
from majlis.registry.artifacts import Description

GITHUB = "ghp_" + "a1B2" * 9
AWS = "AKIA" + "IOSFODNN7REALKEY"[:16]
CASES = [
    (f"token {GITHUB}", GITHUB, "GitHub Token"),
    (f"key: {AWS}", AWS, "AWS Access Key"),
    ("-----BEGIN RSA PRIVATE KEY-----", "", "Private Key"),
    ("url = 'postgresql://majlis:hunter22@db/x'", "hunter22", "Password in an address"),
    ("db_password = 'correct-horse-7'", "correct-horse-7", "Secret Keyword"),
    ("mjl_" + "k3y" * 10, "mjl_" + "k3y" * 10, "API key of this workbench"),
    ("Server=db;Password=hunter22;Database=x", "hunter22", "Password in a connection string"),
    ("xoxb-123456789012-abcdefghij", "xoxb-123456789012", "Slack Token"),
]


def found(folder: Path, bytes_max: int = 1 << 20) -> list[str]:
    return [str(each) for each in search({"": folder}, bytes_max).secrets]


@pytest.mark.parametrize(("line", "value", "kind"), CASES)
@pytest.mark.parametrize("name", ["notes.md", "a.py", "blob", "deep/er/x.dat"])
def test_found_by_line_and_kind_and_never_by_value(
    tmp_path: Path, name: str, line: str, value: str, kind: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"first\n\n{line}\n")
    told = found(tmp_path)
    assert f"{name}, line 3: {kind}" in told
    assert not value or value not in repr(search({"": tmp_path}, 1 << 20))


@pytest.mark.parametrize(
    "line",
    [
        "password = os.environ['DB_PASSWORD']",
        "password = get_password()",
        "password: {{ password }}",
        "password: ${DB_PASSWORD}",
        "url = f'postgresql://app:{word}@db/x'",
        "https://example.org/a:b/c@d",
        "digest: 0d1cb0a1a1c0a6b7f8f0b8b2a5d4a4a90d1cb0a1a1c0a6b7f8f0b8b2a5d4a4a9",
        "model_uuid: 9b2b36f0a6c04cf0b6c1f2a3d4e5f6a7",
        '"pad_token": "[PAD]"',
        "numpy==2.3.0",
    ],
)
def test_no_false_alarm(tmp_path: Path, line: str) -> None:
    for name in ("a.py", "a.yaml", "a.json", "MLmodel"):
        (tmp_path / name).write_text(f"{line}\n")
    assert found(tmp_path) == []


@pytest.mark.parametrize(
    "cell",
    [
        {"cell_type": "code", "source": ["x = 1\n", f"token = '{GITHUB}'\n"], "outputs": []},
        {"cell_type": "markdown", "source": f"\nuse {GITHUB}"},
        {"cell_type": "code", "source": "", "outputs": [{"text": ["ok\n", GITHUB]}]},
        {"cell_type": "code", "source": "", "outputs": [{"data": {"text/html": f"<b>\n{GITHUB}"}}]},
        {"cell_type": "code", "source": "", "outputs": [{"data": {"application/json": {"t": GITHUB}}}]},
        {"cell_type": "code", "source": "", "outputs": [{"traceback": ["no", GITHUB]}]},
    ],
)
def test_notebooks_are_read_by_cell(tmp_path: Path, cell: dict[str, Any]) -> None:
    (tmp_path / "train.ipynb").write_text(
        json.dumps({"cells": [{"cell_type": "markdown", "source": "#"}, cell]})
    )
    assert found(tmp_path) == ["train.ipynb, cell 2 line 2: GitHub Token"]


def test_pictures_and_binaries_are_not_texts(tmp_path: Path) -> None:
    output = {"data": {"image/png": GITHUB}}
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": [{"source": "", "outputs": [output]}]}))
    (tmp_path / "model.bin").write_bytes(b"\0\1" + GITHUB.encode())
    assert found(tmp_path) == []


def test_a_broken_notebook_is_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text("{" + GITHUB)
    assert found(tmp_path) == ["a.ipynb, line 1: GitHub Token"]


@pytest.mark.parametrize("before", [0, PIECE - 5, 3 * PIECE - 20])
def test_long_lines_are_searched_to_their_end(tmp_path: Path, before: int) -> None:
    (tmp_path / "model.json").write_text(" " * before + GITHUB)
    assert found(tmp_path) == ["model.json, line 1: GitHub Token"]


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    for name in ("model", "run"):
        (tmp_path / name).mkdir()
    description = Description("r", "m", ("sklearn",), {"inputs": [], "outputs": []}, "")
    nothing = np.zeros(0)
    return Subject(
        tmp_path / "model", description, lambda rows: nothing, pd.DataFrame(), nothing, run=tmp_path / "run"
    )


def judged(subject: Subject, **limits: Any) -> Check:
    return secrets(dataclasses.replace(subject, limits=Limits(**limits)))


def test_the_check_looks_at_the_model_and_at_its_run(subject: Subject) -> None:
    assert judged(subject).verdict == "passed"
    assert subject.run is not None
    (subject.run / "train.py").write_text(f"t = '{GITHUB}'\n")
    check = judged(subject)
    assert (check.verdict, check.value) == ("failed", 1)
    assert check.reason == "run/train.py, line 1: GitHub Token"
    assert GITHUB not in repr(check.evidence)


def test_an_allowed_line_passes_and_is_told(subject: Subject) -> None:
    (subject.folder / "a.py").write_text(f"t = '{GITHUB}'  # pragma: allowlist secret\n")
    check = judged(subject)
    assert (
        check.verdict == "passed"
        and check.reason == "allowed by the author: model/a.py, line 1: GitHub Token"
    )


def test_what_is_too_large_is_told(subject: Subject) -> None:
    (subject.folder / "a.csv").write_text("x\n" * 100)
    check = judged(subject, text_bytes_max=100)
    assert check.verdict == "passed" and check.reason == "too large to search: model/a.csv"
