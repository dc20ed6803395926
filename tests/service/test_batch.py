"""Batch inference: on a Dask cluster, resumed, and by nothing but a release that may be served."""

from pathlib import Path

import mlflow.pyfunc
import polars as pl
import pytest
from distributed import Client, LocalCluster

from majlis.data.lake import Lake
from majlis.data.lineage import Lineage
from majlis.errors import SchemaMismatch, Tampered
from majlis.registry.release import Expired, Revoked
from majlis.serving import batch
from majlis.serving.batch import predict_table
from majlis.settings import Settings, load
from tests.service.gateways import World, linear
from tests.service.planes import control, environment, released
from tests.service.test_gateway_worker import MODEL

ROWS, PART = 1_000, 128


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.release("flights-1", linear(2.0))
    return made


@pytest.fixture
def settings(world: World) -> Settings:
    """The workbench's settings, with a table to predict."""
    found = load(environ=environment(world) | {"MAJLIS_SERVING_BATCH_PART_ROWS": str(PART)})
    Lake(found.lake.uri).write(
        pl.DataFrame({"flight": range(ROWS), "x": [float(n) for n in range(ROWS)], "note": "on time"}),
        "silver.flights",
    )
    return found


def scored(settings: Settings) -> dict[int, float]:
    """The predictions by flight."""
    frame = Lake(settings.lake.uri).read("gold.scored")
    assert frame["flight"].n_unique() == len(frame)
    return dict(zip(frame["flight"], frame["prediction"], strict=True))


EXPECTED = {n: 2.0 * n for n in range(ROWS)}


@pytest.mark.timeout(180)
def test_a_cluster_does_the_parts(settings: Settings) -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        made = predict_table(
            settings, "flights-1", "silver.flights", "gold.scored", keep=["flight"], client=client
        )
    assert (made.rows, made.parts) == (ROWS, 8) and scored(settings) == EXPECTED
    upstream = {str(each) for each in Lineage(Lake(settings.lake.uri)).graph().upstream(made.table)}
    assert upstream == {"table:silver.flights@0", "model:flights@1"}
    [event] = Lineage(Lake(settings.lake.uri)).events()
    digest = batch.statement_digest(settings.release.folder, "flights-1")
    assert event["job"]["name"] == f"batch.flights-1.{digest[:16]}"


def test_a_job_that_was_stopped_goes_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = batch.done, list[int]()

    def dying(job: batch.Job, place: batch.Place, number: int) -> int:
        seen.append(number)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return real(job, place, number)

    monkeypatch.setattr(batch, "done", dying)
    with pytest.raises(KeyboardInterrupt):
        predict_table(settings, "flights-1", "silver.flights", "gold.scored", keep=["flight"])
    assert not Lake(settings.lake.uri).exists("gold.scored")  # all of it or nothing
    asked = list[int]()
    shelf_load = batch.Shelf.load

    async def counting(self: batch.Shelf, *arguments: object) -> object:
        asked.append(1)
        return await shelf_load(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(batch.Shelf, "load", counting)
    made = predict_table(settings, "flights-1", "silver.flights", "gold.scored", keep=["flight"])
    assert made.resumed == 4 and len(asked) == 4  # of eight parts
    assert scored(settings) == EXPECTED
    assert predict_table(settings, "flights-1", "silver.flights", "gold.scored", keep=["flight"]).resumed == 0
    assert scored(settings) == EXPECTED  # once


def test_a_newer_version_of_the_table_is_another_job(settings: Settings) -> None:
    first = predict_table(settings, "flights-1", "silver.flights", "gold.scored", keep=["flight"])
    more = pl.DataFrame({"flight": [ROWS], "x": [1.0], "note": ["late"]})
    Lake(settings.lake.uri).write(more, "silver.flights")
    old = predict_table(settings, "flights-1", "silver.flights", "gold.old", keep=["flight"], version=0)
    assert old.rows == ROWS
    second = predict_table(settings, "flights-1", "silver.flights", "gold.new", keep=["flight"])
    assert second.rows == ROWS + 1 and second.job != first.job


def test_only_a_release_that_may_be_served_predicts(world: World, settings: Settings) -> None:
    asked = ("silver.flights", "gold.scored")
    world.release("flights-2", linear(2.0), seconds=-1)
    with pytest.raises(Expired):
        predict_table(settings, "flights-2", *asked, keep=["flight"])
    world.release("flights-3", inputs=[{"name": "z", "type": "double", "required": True}])
    with pytest.raises(SchemaMismatch, match="missing 'z'"):
        predict_table(settings, "flights-3", *asked, keep=["flight"])
    world.revoked = ("flights-1",)
    world.publish()
    with pytest.raises(Revoked):
        predict_table(settings, "flights-1", *asked, keep=["flight"])
    world.revoked = ()
    world.publish()
    (world.folder("flights-1") / "model" / "MLmodel").write_text("flavors: {}")
    with pytest.raises(Tampered, match="MLmodel"):
        predict_table(settings, "flights-1", *asked, keep=["flight"])
    assert not Lake(settings.lake.uri).exists("gold.scored")


def test_what_is_revoked_while_it_runs_is_not_written(settings: Settings) -> None:
    told = iter([(), (), ("flights-1",)])
    with pytest.raises(Revoked):
        predict_table(
            settings,
            "flights-1",
            "silver.flights",
            "gold.scored",
            keep=["flight"],
            withdrawn=lambda _: next(told),
        )
    assert not Lake(settings.lake.uri).exists("gold.scored")


def test_a_model_that_is_code_answers_too(world: World, settings: Settings, tmp_path: Path) -> None:
    source = tmp_path / "model.py"
    source.write_text(MODEL)
    world.release(
        "pyfunc-1",
        native=lambda folder: mlflow.pyfunc.save_model(folder, python_model=source, pip_requirements=[]),
    )
    small = Lake(settings.lake.uri).read("silver.flights").head(5)
    Lake(settings.lake.uri).write(small, "silver.small")
    predict_table(settings, "pyfunc-1", "silver.small", "gold.scored", keep=["flight"])
    found = Lake(settings.lake.uri).read("gold.scored").sort("flight")
    assert found["prediction_0"].to_list() == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_the_client_offers_it(world: World, settings: Settings) -> None:
    with control(world) as (plane, wb):
        released(plane, world, 2, linear(3.0))
        made = wb.predict_table("flights-2", "silver.flights", "gold.scored", keep=["flight"])
    assert made.rows == ROWS and scored(settings) == {n: 3.0 * n for n in range(ROWS)}
