"""How the features are computed, and the views that hold them: one definition for training and serving."""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl
from cleaning import NEW_YORK
from feast import Entity, FeatureView, Field, FileSource
from feast.types import Float64, UnixTimestamp
from feast.value_type import ValueType
from features import VIEWS, WEATHER, WINDOWS_HOURS

# A reading labelled 07:00 may have been taken at 07:59, so it is counted from 08:00 on.
READING_TAKES = timedelta(hours=1)


def weather_rows(weather: pl.DataFrame) -> pl.DataFrame:
    """One row an hour and airport, counting from the moment at which the hour's reading is surely known."""
    known = pl.col("observed_at") + READING_TAKES
    return weather.select("origin", *WEATHER, event_timestamp=known, weather_known_at=known)


def plane_rows(planes: pl.DataFrame, years: list[int]) -> pl.DataFrame:
    """One row a plane and year: age is counted on 1 January."""
    new_year = pl.datetime("counted", 1, 1, time_zone=NEW_YORK, time_unit="us").dt.convert_time_zone("UTC")
    counted = planes.join(pl.DataFrame({"counted": years}), how="cross")
    return counted.select(
        "tailnum",
        plane_age=(pl.col("counted") - pl.col("year")).cast(pl.Float64),
        seats=pl.col("seats").cast(pl.Float64),
        event_timestamp=new_year,
    )


def delay_rows(flights: pl.DataFrame, key: str, every: str = "30m") -> pl.DataFrame:
    """Mean delays of the last hours for each value of `key`, every half hour, from what was over by then.

    A departure delay is known when the plane departs, an arrival delay when it arrives. A mean over no
    flights is null.
    """
    ticks = _ticks(flights, every)
    grid = flights.select(pl.col(key).unique()).join(ticks, how="cross").sort("event_timestamp", key)
    for kind, known in (("dep", "departed_at"), ("arr", "arrived_at")):
        outcomes = flights.select(key, known=pl.col(known), delay=pl.col(f"{kind}_delay").cast(pl.Float64))
        totals = _running_totals(outcomes, key)
        for hours in WINDOWS_HOURS:
            name = f"{key}_{kind}_delay_{hours}h"
            grid = _with_window(grid, totals, key, timedelta(hours=hours), name)
    return grid.with_columns(pl.col("event_timestamp").alias(f"{key}_delay_known_at"))


def _ticks(flights: pl.DataFrame, every: str) -> pl.DataFrame:
    first, last = flights["departed_at"].min(), flights["arrived_at"].max()
    span = pl.datetime_range(
        pl.lit(first).dt.truncate(every), pl.lit(last).dt.truncate(every), every, time_zone="UTC"
    )
    return pl.select(event_timestamp=span.dt.cast_time_unit("us"))


def _running_totals(outcomes: pl.DataFrame, key: str) -> pl.DataFrame:
    at_once = outcomes.group_by(key, "known").agg(total=pl.col("delay").sum(), flights=pl.len())
    return at_once.sort("known").with_columns(pl.col("total", "flights").cum_sum().over(key))


def _with_window(
    grid: pl.DataFrame, totals: pl.DataFrame, key: str, window: timedelta, name: str
) -> pl.DataFrame:
    """The mean of what became known in (tick - window, tick]: the running total now less that back then."""
    back = grid.select(key, then=pl.col("event_timestamp") - window)
    now = _as_of(grid.select(key, then="event_timestamp"), totals, key)
    then = _as_of(back, totals, key)
    flights = now["flights"] - then["flights"]
    mean = (now["total"] - then["total"]) / flights
    return grid.with_columns(pl.select(pl.when(flights > 0).then(mean)).to_series().alias(name))


def _as_of(questions: pl.DataFrame, totals: pl.DataFrame, key: str) -> pl.DataFrame:
    found = questions.join_asof(
        totals, left_on="then", right_on="known", by=key, strategy="backward", check_sortedness=False
    )
    return found.select(pl.col("total").fill_null(0.0), pl.col("flights").cast(pl.Int64).fill_null(0))


def views(sources: Mapping[str, FileSource]) -> list[Entity | FeatureView]:
    """The entities and feature views, over their sources."""
    keys = {"plane": "tailnum", "weather": "origin", "origin_delay": "origin", "carrier_delay": "carrier"}
    entities = {
        key: Entity(name=key, join_keys=[key], value_type=ValueType.STRING)
        for key in sorted({*keys.values()})
    }
    # how long a value counts: one missed reading or computation is bridged, a longer silence is not
    counts = {
        "plane": timedelta(days=366),
        "weather": timedelta(hours=2),
        "origin_delay": timedelta(hours=1),
        "carrier_delay": timedelta(hours=1),
    }
    described = {
        "plane": "Age and size of a plane",
        "weather": "The last complete hour of weather at an airport",
        "origin_delay": "Mean delays of flights from an airport, over the last hours",
        "carrier_delay": "Mean delays of flights of an airline, over the last hours",
    }
    expected_every = {"plane": "8784", "weather": "1", "origin_delay": "0.5", "carrier_delay": "0.5"}
    return [
        *entities.values(),
        *(
            FeatureView(
                name=name,
                entities=[entities[key]],
                ttl=counts[name],
                schema=[Field(name=each, dtype=Float64) for each in VIEWS[name]] + _known_at(name),
                source=sources[name],
                description=described[name],
                tags={"expected_every_hours": expected_every[name]},
                owner="flight operations",
            )
            for name, key in keys.items()
        ),
    ]


def _known_at(view: str) -> list[Field]:
    """When the values were known travels with them, so that a leak can be seen."""
    return [] if view == "plane" else [Field(name=f"{view}_known_at", dtype=UnixTimestamp)]


def schedule(flights: pl.DataFrame) -> pl.DataFrame:
    """The flights with what the timetable alone says."""
    local = pl.col("event_timestamp").dt.convert_time_zone(NEW_YORK)
    return flights.with_columns(
        month=local.dt.month().cast(pl.Float64),
        day_of_week=local.dt.weekday().cast(pl.Float64),
        scheduled_hour=local.dt.hour().cast(pl.Float64),
        scheduled_minute=local.dt.minute().cast(pl.Float64),
        distance=pl.col("distance").cast(pl.Float64),
    )
