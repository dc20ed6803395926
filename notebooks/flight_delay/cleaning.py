"""How the flights' clock readings become moments: HHMM on a local clock in, UTC out."""

from typing import Literal

import polars as pl

NEW_YORK = "America/New_York"

# The airports file leaves out the four Caribbean airports that New York flies to. Their clocks are no secret.
CARIBBEAN = {
    "BQN": ("Rafael Hernández, Aguadilla", "America/Puerto_Rico"),
    "PSE": ("Mercedita, Ponce", "America/Puerto_Rico"),
    "SJU": ("Luis Muñoz Marín, San Juan", "America/Puerto_Rico"),
    "STT": ("Cyril E. King, Charlotte Amalie", "America/St_Thomas"),
}


def with_caribbean(airports: pl.DataFrame) -> pl.DataFrame:
    """The airports and the four that are missing; coordinates stay unknown."""
    rows = [(faa, name, zone) for faa, (name, zone) in CARIBBEAN.items() if faa not in airports["faa"]]
    added = pl.DataFrame(rows, schema={"faa": pl.String, "name": pl.String, "tzone": pl.String}, orient="row")
    return pl.concat([airports, added], how="diagonal")


def clock_minutes(column: str) -> pl.Expr:
    """Minutes since midnight of a reading such as 517 (05:17); 2400, the end of a day, is 0 of the next."""
    reading = pl.col(column) % 2400
    return reading // 100 * 60 + reading % 100


def _first_shown(zone: str | None) -> pl.Expr:
    """The first moment from departure on at which the clock in `zone` shows arr_time."""
    if zone is None:
        return pl.lit(None, pl.Datetime("us", "UTC"))
    departed = pl.col("departed_at").dt.convert_time_zone(zone).dt.replace_time_zone(None)
    same_day = departed.dt.truncate("1d") + pl.duration(minutes=clock_minutes("arr_time"))
    shown = pl.when(same_day < departed).then(same_day.dt.offset_by("1d")).otherwise(same_day)
    # In autumn an hour is shown twice. In spring one is never: its reader had not put the clock forward.
    early, late = _moment(shown, zone, "earliest"), _moment(shown, zone, "latest")
    not_forward = _moment(shown.dt.offset_by("-1h"), zone, "latest").dt.offset_by("1h")
    return pl.coalesce(pl.when(early >= pl.col("departed_at")).then(early).otherwise(late), not_forward)


def _moment(local: pl.Expr, zone: str, ambiguous: Literal["earliest", "latest"]) -> pl.Expr:
    return local.dt.replace_time_zone(zone, ambiguous=ambiguous, non_existent="null").dt.convert_time_zone(
        "UTC"
    )


def with_moments(flights: pl.DataFrame, airports: pl.DataFrame) -> pl.DataFrame:
    """The flights with event_timestamp, departed_at and arrived_at, all UTC.

    Scheduled departure is a local time in New York. Actual departure is that plus the delay, which needs no
    clock and so does not stumble over midnight. Actual arrival is known only as a reading of the clock at the
    destination: it is the first moment after departure at which that clock shows it.
    """
    zones = dict(airports.select("faa", "tzone").drop_nulls().iter_rows())
    scheduled = pl.datetime(  # a timetable does not say which of two 01:30 it means; the first
        "year", "month", "day", "hour", "minute", time_zone=NEW_YORK, time_unit="us", ambiguous="earliest"
    )
    flights = flights.with_row_index("position").with_columns(
        event_timestamp=scheduled.dt.convert_time_zone("UTC"),
        zone=pl.col("dest").replace_strict(zones, default=None, return_dtype=pl.String),
    )
    flights = flights.with_columns(
        departed_at=pl.col("event_timestamp") + pl.duration(minutes=pl.col("dep_delay"))
    )
    by_zone = [
        group.with_columns(arrived_at=_first_shown(zone)) for (zone,), group in flights.group_by("zone")
    ]
    return pl.concat(by_zone).sort("position").drop("position", "zone")


def minutes_between(start: str, end: str) -> pl.Expr:
    """Minutes from one moment to another."""
    return (pl.col(end) - pl.col(start)).dt.total_minutes()


def month_bounds(months: list[int]) -> list[int]:
    """The months in order, once each; raises ValueError for one that is not in the year."""
    if wrong := sorted(set(months) - set(range(1, 13))):
        raise ValueError(f"months = {months}: {wrong} are not months; write numbers from 1 to 12")
    return sorted(set(months))
