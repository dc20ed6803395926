"""What registration finds out by itself: the views that a training asked, its run, MLflow being away."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import nbformat
import pandas as pd
import polars as pl
import pytest
from feast import Entity, FeatureView, Field
from feast.types import Float64
from feast.value_type import ValueType

from majlis.client import Version, Workbench
from majlis.data.catalog import Catalog
from majlis.data.lake import read_here
from majlis.data.lineage import Lineage, Thing
from majlis.errors import Unavailable
from majlis.features.sources import sources_of
from majlis.features.store import EVENT, asked_here
from majlis.registry.artifacts import Tracking
from majlis.settings import Settings
from majlis.training.tracking import bounded
from tests.support.embedded import flights, logged, opened, registered, settings_in, submitted

PERSON = Entity(name="person", join_keys=["person"], value_type=ValueType.INT64)
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def wb(settings: Settings) -> Iterator[Workbench]:
    with opened(settings) as workbench:
        yield workbench
        for row in workbench.models():  # whose checks nobody waited for
            version = workbench.version(row["name"])
            if version.state == "registered":
                version.withdraw("The test is over.")
            version.wait(120)


@pytest.fixture(scope="module")
def rows(wb: Workbench) -> pd.DataFrame:
    """Flights; and two views of people, one of which keeps a column that the table's owner calls personal."""
    rows = flights(600)
    wb.lake.write(rows, "gold.flights", mode="overwrite")
    people = pl.DataFrame({"person": [1, 2], "cohort": [1974.0, 1990.0], "visits": [3.0, 5.0]})
    wb.lake.write(people, "silver.people")
    Catalog(wb.lake).describe("silver.people", classes={"cohort": "pii"})
    with process():
        read = wb.lake.read("silver.people")
        for name, feature in (("visits", "visits"), ("ages", "cohort")):
            moments = read.select("person", feature).with_columns(pl.lit(MOMENT).alias(EVENT))
            schema = [Field(name=feature, dtype=Float64)]
            source = wb.features.source(name, moments)
            wb.features.apply(
                [PERSON, FeatureView(name=name, entities=[PERSON], schema=schema, source=source)]
            )
    return rows


@contextmanager
def process() -> Iterator[None]:
    """As if the block ran in a process of its own: it has read nothing before, and leaves nothing behind."""
    before = read_here.copy(), asked_here.copy()
    read_here.clear()
    asked_here.clear()
    try:
        yield
    finally:
        for known, had in zip((read_here, asked_here), before, strict=True):
            known.clear()
            known.update(had)  # type: ignore[arg-type]


def asked(wb: Workbench, *features: str) -> None:
    """What a training does that wants features."""
    entities = pl.DataFrame({"person": [1, 2], EVENT: [MOMENT, MOMENT]})
    assert wb.features.training_set(entities, features).height == 2


def lineage(version: Version) -> tuple[list[str], list[str]]:
    """The views that a version carries, and the personal data that was found."""
    known = version.record["lineage"]
    return known["feature_views"], known["personal_columns"]


def review(wb: Workbench, version: Version) -> str:
    """What the review notebook shows."""
    content = wb.api.bytes("GET", f"{version.path}/review.ipynb").content.decode()
    cells = nbformat.reads(content, as_version=4).cells
    return "\n".join(str(cell.get("outputs", "")) for cell in cells)


@pytest.mark.timeout(300)
def test_a_view_that_was_asked_is_carried_and_decides_the_tier(wb: Workbench, rows: pd.DataFrame) -> None:
    with process(), wb.track("flights"):
        asked(wb, "ages:cohort")
        uri = logged(rows)
    version = registered(wb, uri, "curious", lineage={"feature_views": []})
    assert version.tier == "high"
    assert lineage(version) == (["ages"], ["ages → silver.people.cohort"])
    assert "ages → silver.people.cohort" in review(wb, version)
    assert "ages → silver.people.cohort" in version.card()


@pytest.mark.timeout(300)
def test_a_view_without_personal_data_leaves_the_tier(wb: Workbench, rows: pd.DataFrame) -> None:
    with process(), wb.track("flights"):
        asked(wb, "visits:visits")
        uri = logged(rows)
    version = submitted(wb, uri, "modest")
    assert (version.tier, lineage(version)) == ("low", (["visits"], []))


@pytest.mark.timeout(300)
def test_a_view_that_feeds_the_model_is_carried(wb: Workbench, rows: pd.DataFrame) -> None:
    with process(), wb.track("flights"):
        uri = logged(rows, metadata=sources_of(wb.features, ["ages:cohort"]).metadata())
    version = submitted(wb, uri, "fed")
    assert version.tier == "high" and lineage(version) == (["ages"], ["ages → silver.people.cohort"])


@pytest.mark.timeout(300)
def test_a_view_behind_a_table_is_carried(wb: Workbench, rows: pd.DataFrame) -> None:
    made = wb.lake.write(rows.head(10), "gold.joined", mode="overwrite")
    Lineage(wb.lake).record("flights.join", [Thing("features", "ages")], [made])
    with process(), wb.track("flights"):
        wb.lake.read("gold.joined")
        uri = logged(rows)
    version = submitted(wb, uri, "behind")
    assert version.tier == "high" and lineage(version)[0] == ["ages"]


@pytest.mark.timeout(300)
def test_a_version_keeps_what_mlflow_knew_about_its_run(wb: Workbench, rows: pd.DataFrame) -> None:
    with process(), wb.track("flights", params={"depth": 3}, principal="noor") as run:
        run.log({"pr_auc": 0.5, "broken": float("nan")})
        uri = logged(rows)
    mlflow.MlflowClient().log_param(run.id, "late", "written while the run was not over")
    version = submitted(wb, uri, "kept")
    training = version.record["training"]
    assert training["parameters"]["depth"] == "3" and training["by"] == ["noor"]
    assert training["metrics"]["pr_auc"] == 0.5 and training["metrics"]["broken"] is None
    assert "noor" in version.record["makers"]
    mlflow.MlflowClient().delete_run(run.id)
    assert wb.version("kept").record["training"] == training


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:  # the test is over
                    return

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in taken:
                connection.close()


@contextmanager
def stopped() -> Iterator[str]:
    """An address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mlflow_is", [stopped, silent])
def test_without_mlflow_a_registration_is_refused_soon_and_can_be_tried_again(
    wb: Workbench,
    rows: pd.DataFrame,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mlflow_is: type,
) -> None:
    with process(), wb.track("flights"):
        uri = logged(rows)
    for name in ("TIMEOUT", "MAX_RETRIES"):
        monkeypatch.delenv(f"MLFLOW_HTTP_REQUEST_{name}", raising=False)
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{name}", "")
        monkeypatch.delenv(f"MLFLOW_HTTP_REQUEST_{name}")
    quick = {"TRACKING_TIMEOUT_SECONDS": 1, "TRACKING_RETRIES": 0}
    with mlflow_is() as address:
        away = settings_in(tmp_path / "home", TRACKING_URL=address, LAKE_URI=settings.lake.uri, **quick)
        bounded(away)
        with opened(away) as other:
            with pytest.raises(Unavailable, match="MLflow does not say") as refusal:
                submitted(other, uri, "flights")
            assert "again in a moment" in refusal.value.remedy
            assert [path.name for path in (away.control / "staging").iterdir()] == []
            assert other.models() == []
    assert submitted(wb, uri, f"again-{mlflow_is.__name__}").version == 1


def test_a_run_is_not_mistaken_for_gone_when_mlflow_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with stopped() as address, pytest.raises(Unavailable, match="the run abc"):
        Tracking(address, str(tmp_path)).trained("abc")
    here = Tracking(f"sqlite:///{tmp_path}/mlflow.sqlite", str(tmp_path))
    assert here.trained("0" * 32).by == []
