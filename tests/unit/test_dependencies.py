"""An environment against a list of advisories: OSV's rules, broken lists, and nothing passed in silence."""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from majlis.clock import frozen, parsed
from majlis.errors import Invalid
from majlis.governance.advisories import (
    Affected,
    Event,
    Pin,
    Range,
    affects,
    audit,
    environment,
    mended,
    read,
)
from majlis.governance.checks import Check, Limits, Subject
from majlis.governance.dependencies import dependencies
from majlis.registry.artifacts import Description

TODAY = parsed("2026-01-10T00:00:00Z")
CRITICAL = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"
LOW = "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"


def record(
    id: str, package: str = "jinja2", *, events: Any = ({"introduced": "0"},), **more: Any
) -> dict[str, Any]:
    affected = {
        "package": {"ecosystem": "PyPI", "name": package},
        "ranges": [{"type": "ECOSYSTEM", "events": list(events)}],
    }
    return {"id": id, "modified": "2026-01-05T00:00:00Z", "affected": [affected]} | more


def put(folder: Path, *records: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for one in records:
        (folder / f"{one['id']}.json").write_text(json.dumps(one))
    return folder


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "requirements.txt").write_text("jinja2==3.1.2\n")
    description = Description("r", "m", ("sklearn",), {"inputs": [], "outputs": []}, "")
    return Subject(tmp_path / "model", description, lambda rows: np.zeros(0), pd.DataFrame(), np.zeros(0))


def judged(subject: Subject, place: Path | str, **limits: Any) -> Check:
    with frozen(TODAY):
        return dependencies(dataclasses.replace(subject, limits=Limits(advisories=str(place), **limits)))


@pytest.mark.parametrize(
    ("events", "bad", "good"),
    [
        ([Event("0")], ["0", "0.1.dev1", "99"], []),
        ([Event("0"), Event(fixed="2")], ["1.9", "2rc1", "2.dev1"], ["2", "2.0.0", "2.post1", "3"]),
        ([Event("0"), Event(last_affected="2")], ["1", "2", "2.0"], ["2.0.1", "2.post1"]),
        ([Event(fixed="1.10"), Event("1.9")], ["1.9", "1.9.9"], ["1.8", "1.10"]),
        (
            [Event("1"), Event(fixed="2"), Event("3"), Event(fixed="4")],
            ["1", "3.5"],
            ["0.9", "2", "2.9", "4"],
        ),
        ([Event("2"), Event(last_affected="2")], ["2"], ["1", "2.1"]),
        ([Event("1!0")], ["1!0.1"], ["5"]),
        ([Event("nonsense")], ["1"], []),  # what cannot be ordered is not called clean
    ],
)
def test_ranges(events: list[Event], bad: list[str], good: list[str]) -> None:
    one = Affected(ranges=(Range("ECOSYSTEM", tuple(events)),))
    assert [version for version in [*bad, *good] if affects(one, version)] == bad


def test_listed_versions_and_commits() -> None:
    assert affects(Affected(versions=("1.0", "2.0b1")), "2.0.0b1")
    assert not affects(Affected(versions=("1.0",)), "1.0.1")
    assert not affects(Affected(versions=("2004-old",)), "1.0.1")
    assert not affects(Affected(ranges=(Range("GIT", (Event("0"),)),)), "1.0")


def test_the_release_to_go_to() -> None:
    one = Affected(
        ranges=(Range("ECOSYSTEM", (Event("0"), Event(fixed="1.5"), Event("2"), Event(fixed="2.10"))),)
    )
    assert [mended(one, version) for version in ("1.0", "2.9", "3")] == ["1.5", "2.10", ""]


def test_environment_lines() -> None:
    found = environment(
        "# python 3.11\n--no-binary :all:\n-e .\nA_b.c==1.0 ; python_version<'4'\n"
        "d==2.* \ne>=1\nf @ file:///x\ng[extra]===1.5 --hash=sha256:0 \\\n"
        "    --hash=sha256:1\nh==1.0  # why\n\n"
    )
    assert found.pins == (Pin("a-b-c", "1.0"), Pin("g", "1.5"), Pin("h", "1.0"))
    assert found.open == ("d==2.*", "e>=1", "f @ file:///x")


def test_lists_as_folders_and_zips_json_and_yaml(tmp_path: Path) -> None:
    one = record("PYSEC-1")
    folder = put(tmp_path / "json", one)
    nested = tmp_path / "yaml" / "vulns" / "jinja2"
    nested.mkdir(parents=True)
    (nested / "PYSEC-1.yaml").write_text(yaml.safe_dump(one))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("PYSEC-1.json", json.dumps(one))
    for place in (folder, tmp_path / "yaml", tmp_path / "all.zip"):
        listing = read(place, {"jinja2"})
        assert (listing.records, listing.newest) == (1, parsed("2026-01-05T00:00:00Z")), place
        assert [hole.ids for hole in audit([Pin("jinja2", "3.1.2")], listing)] == [("PYSEC-1",)], place


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"id": "X"}', '{"id": "X", "modified": "yesterday"}'])
def test_a_broken_list_is_an_error_and_not_a_pass(subject: Subject, tmp_path: Path, content: str) -> None:
    (put(tmp_path / "list", record("PYSEC-1")) / "broken.json").write_text(content)
    found = judged(subject, tmp_path / "list")
    assert found.verdict == "error" and "broken.json" in found.reason


def test_an_empty_list_is_an_error(subject: Subject, tmp_path: Path) -> None:
    (tmp_path / "list").mkdir()
    assert judged(subject, tmp_path / "list").verdict == "error"
    (tmp_path / "list.zip").write_text("no zip")
    with pytest.raises(Invalid, match="cannot be read"):
        read(tmp_path / "list.zip", set())


def test_no_list_is_said_and_never_passed(subject: Subject, tmp_path: Path) -> None:
    for place in ("", tmp_path / "nowhere"):
        found = judged(subject, place)
        assert found.verdict == "skipped" and found.reason.startswith("not audited")
        assert judged(subject, place, advisories_required=True).verdict == "failed"


def test_a_hole_names_package_version_advisory_and_fix(subject: Subject, tmp_path: Path) -> None:
    place = put(
        tmp_path / "list",
        record("PYSEC-1", "Jinja2", events=[{"introduced": "0"}, {"fixed": "3.1.3"}], aliases=["CVE-1"]),
        record(
            "GHSA-1",
            events=[{"introduced": "0"}, {"fixed": "3.1.4"}],
            aliases=["CVE-1"],
            severity=[{"type": "CVSS_V3", "score": CRITICAL}],
        ),
        record("PYSEC-2", "flask"),
        record("PYSEC-3", withdrawn="2026-01-01T00:00:00Z"),
        record("PYSEC-4", events=[{"introduced": "3.1.3"}]),
    )
    found = judged(subject, place)
    assert found.verdict == "failed" and found.value == 1
    assert found.reason == "jinja2 3.1.2: GHSA-1 (critical, fixed in 3.1.4)"
    (hole,) = found.evidence["holes"]
    assert (hole["package"], hole["version"], hole["ids"]) == ("jinja2", "3.1.2", ("GHSA-1", "PYSEC-1"))


def test_other_ecosystems_are_not_ours(subject: Subject, tmp_path: Path) -> None:
    other = record("GHSA-9")
    other["affected"][0]["package"]["ecosystem"] = "npm"
    assert judged(subject, put(tmp_path / "list", other)).verdict == "passed"


@pytest.mark.parametrize(
    ("more", "least", "verdict"),
    [
        ({"severity": [{"type": "CVSS_V3", "score": LOW}]}, "medium", "passed"),
        ({"severity": [{"type": "CVSS_V3", "score": LOW}]}, "low", "failed"),
        ({"severity": [{"type": "CVSS_V3", "score": CRITICAL}]}, "critical", "failed"),
        ({"database_specific": {"severity": "MODERATE"}}, "high", "passed"),
        ({"database_specific": {"severity": "MODERATE"}}, "medium", "failed"),
        ({}, "critical", "failed"),  # unknown counts
        ({"severity": [{"type": "CVSS_V3", "score": "nonsense"}]}, "critical", "failed"),
    ],
)
def test_the_policy_says_from_which_level_on(
    subject: Subject, tmp_path: Path, more: dict[str, Any], least: str, verdict: str
) -> None:
    place = put(tmp_path / "list", record("PYSEC-1", **more))
    found = judged(subject, place, advisory_severity_min=least)
    assert found.verdict == verdict and len(found.evidence["holes"]) == 1


def test_accepted_holes_stay_visible(subject: Subject, tmp_path: Path) -> None:
    place = put(tmp_path / "list", record("PYSEC-1", aliases=["CVE-1"]))
    found = judged(subject, place, accepted_advisories={"PYSEC-1": "no templates from outside"})
    assert found.verdict == "passed" and found.evidence["holes"][0]["accepted"] == "no templates from outside"


def test_an_old_list_is_told(subject: Subject, tmp_path: Path) -> None:
    place = put(tmp_path / "list", record("PYSEC-1", "flask"))
    assert judged(subject, place, advisories_days_max=5).reason == ""
    found = judged(subject, place, advisories_days_max=4)
    assert found.verdict == "passed" and "5 days old" in found.reason
    assert judged(subject, place, advisories_days_max=4, advisories_required=True).verdict == "failed"


def test_what_is_not_pinned_is_told_and_no_environment_fails(subject: Subject, tmp_path: Path) -> None:
    place = put(tmp_path / "list", record("PYSEC-1", "flask"))
    requirements = subject.folder / "requirements.txt"
    requirements.write_text("jinja2\nnumpy==2.3.0\n")
    assert judged(subject, place).reason == "not audited, because not pinned: jinja2"
    requirements.unlink()
    assert judged(subject, place).reason.startswith("no environment was recorded")


def test_the_environment_of_the_run_counts_too(subject: Subject, tmp_path: Path) -> None:
    place = put(tmp_path / "list", record("PYSEC-1", "flask"))
    code = tmp_path / "run" / "code"
    code.mkdir(parents=True)
    (code / "requirements.txt").write_text("Flask==2.0\n")
    assert judged(subject, place).verdict == "passed"
    assert judged(dataclasses.replace(subject, run=tmp_path / "run"), place).verdict == "failed"
