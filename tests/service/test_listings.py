"""What a long list costs the database: as much as a short one; and how a person pages through it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import event, text
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from majlis import clock
from majlis.control.identity import LocalIdentity
from majlis.control.pages import Pages
from majlis.control.service import ControlPlane
from majlis.control.wanted import Wanted
from majlis.registry import versions
from majlis.registry.versions import DeploymentRow, ReleaseRow, RevisionRow, Stage, State, VersionRow
from majlis.settings import load
from tests.support.council import PEOPLE, columns, in_review

PREFIX = "/services/majlis/"
ROWS = 2  # on a page
WHO = PEOPLE["amira"]


@pytest.fixture
def control(tmp_path: Path, store_url: str) -> Iterator[ControlPlane]:
    """A control plane on each kind of database, with short pages."""
    environ = {"MAJLIS_WORKBENCH_HOME": str(tmp_path / "home"), "MAJLIS_STORE_URL": store_url}
    made = ControlPlane(load(environ=environ | {"MAJLIS_API_PAGE_ROWS": str(ROWS)})).open()
    yield made
    made.close()


@contextmanager
def asked(control: ControlPlane) -> Iterator[list[str]]:
    """The statements that the block makes."""
    made: list[str] = []

    def listen(connection: object, cursor: object, statement: str, *rest: object) -> None:
        made.append(statement)

    event.listen(control.store.engine, "before_cursor_execute", listen)
    try:
        yield made
    finally:
        event.remove(control.store.engine, "before_cursor_execute", listen)


def waiting(control: ControlPlane, numbers: range) -> None:
    """Versions that wait for people."""
    with control.store.session() as session:
        for number in numbers:
            in_review(control, session, number)


def released(session: Session, model: str, number: int) -> ReleaseRow:
    """A version with a release."""
    facts = columns(state=State.RELEASED.value, stage=Stage.STAGING.value)
    row = versions.add(session, model, number, "amira", **facts)
    now = clock.now()
    row.releases.append(
        ReleaseRow(id=f"{model}-{number}", digest="", issued_at=now, expires_at=now.replace(year=2999))
    )
    session.flush()
    return row.releases[-1]


def deployed(control: ControlPlane, numbers: range) -> None:
    """Deployments, each of a model of its own with two revisions."""
    with control.store.session() as session:
        for number in numbers:
            name, now = f"flights-{number:02}", clock.now()
            ids = [released(session, name, version).id for version in (1, 2)]
            row = DeploymentRow(name=name, model=name, created_by="amira", created_at=now, updated_at=now)
            row.revisions = [
                RevisionRow(number=n, release=id, weight=n - 1.0, created_by="amira", created_at=now)
                for n, id in enumerate(ids, start=1)
            ]
            session.add(row)


def test_the_inbox_asks_as_much_for_many_as_for_one(control: ControlPlane) -> None:
    waiting(control, range(1, 2))
    with asked(control) as few:
        (first,) = control.council.inbox(WHO)
    waiting(control, range(2, 30))
    with asked(control) as many:
        assert len(control.council.inbox(WHO)) == 29
    assert len(many) == len(few)
    assert not any(re.search(r"signature|digests|check_result", statement) for statement in many)
    assert "signature" not in first and first["waits_for"] == "engineer, owner, compliance"


def test_what_waits_is_found_by_the_index(control: ControlPlane) -> None:
    waiting(control, range(1, 3))
    explain = "EXPLAIN QUERY PLAN" if control.store.lite else "EXPLAIN"
    wanted = "SELECT id FROM model_version WHERE state = 'in review' AND id > 0 ORDER BY id LIMIT 100"
    with control.store.reading() as session:
        if not control.store.lite:  # a small table is read as it is
            session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = "\n".join(str(row) for row in session.execute(text(f"{explain} {wanted}")))
    assert "ix_model_version_state" in plan and not re.search("sort|TEMP B-TREE", plan, re.I)


def test_a_list_of_deployments_asks_as_much_for_many_as_for_one(control: ControlPlane) -> None:
    deployed(control, range(1, 2))
    with asked(control) as few:
        assert [each["version"] for each in control.deployments.list(WHO)[0]["revisions"]] == [1, 2]
    deployed(control, range(2, 12))
    with asked(control) as many:
        assert len(control.deployments.list(WHO)) == 11
    assert len(many) == len(few)


def test_deploying_looks_at_its_own_model_only(control: ControlPlane) -> None:
    def switched(name: str) -> list[str]:
        with asked(control) as made:
            control.deployments.deploy(WHO, name, Wanted(release=f"{name}-1"))
        return made

    deployed(control, range(1, 4))
    few = switched("flights-01")
    deployed(control, range(4, 12))
    assert len(switched("flights-02")) <= len(few)
    with control.store.reading() as session:
        found = {row.version: row.stage for row in versions.of_model(session, "flights-02")}
    assert found == {1: Stage.PRODUCTION, 2: Stage.STAGING}
    control.deployments.deploy(WHO, "flights-02", Wanted(release="flights-02-2"))
    with control.store.reading() as session:
        row = session.get_one(versions.ModelRow, "flights-02")
        found = {row.version: row.stage for row in versions.of_model(session, "flights-02")}
    assert found == {1: Stage.ARCHIVED, 2: Stage.PRODUCTION} and row.production == 2


PAGES = [("", "flights-01"), ("reviews", "flights 1"), ("deployments", 'id="flights-01"')]


@pytest.mark.parametrize(("page", "first"), PAGES, ids=["models", "reviews", "deployments"])
def test_a_person_pages_through_a_list_and_searches_it(control: ControlPlane, page: str, first: str) -> None:
    deployed(control, range(1, 4)) if page != "reviews" else waiting(control, range(1, 4))
    app = FastAPI()
    Pages(control, LocalIdentity(WHO), PREFIX).install(app)
    browser = TestClient(app, base_url=f"http://majlis{PREFIX}")
    begin = browser.get(page).text
    links = re.findall(r'rel="next" href="([^"]+)"', begin)
    assert first in begin and "flights-03" not in begin and len(links) == 1
    rest = browser.get(f"http://majlis{links[0]}".replace("&amp;", "&")).text
    assert first not in rest and ("flights-03" in rest or "flights 3" in rest)
    assert 'rel="next"' not in rest and f'<a href="{PREFIX}{page}">First</a>' in rest
    assert first in browser.get(page, params={"search": "FLIGHTS"}).text
    nothing = browser.get(page, params={"search": "<b>%"})
    assert "&lt;b&gt;%" in nothing.text and "Show all" in nothing.text and first not in nothing.text
    assert browser.get(page, params={"cursor": "made-up"}).status_code == 422


def test_what_came_to_be_overdue_is_told_once(control: ControlPlane) -> None:
    waiting(control, range(1, 3))
    with control.store.session() as session:
        row = versions.find(session, "flights", 1)
        assert isinstance(row, VersionRow) and row.due_at is not None
        row.due_at = clock.now().replace(year=2000)
    for _ in range(2):
        control.remind()
    found = [(each.subject, each.detail) for each in control.trail(WHO, action="review.overdue")]
    assert found == [("flights/1", {"waiting_for": ["review", "own", "comply"]})]
