"""How the flights' clock readings become moments: HHMM on a local clock in, UTC out."""

import polars as pl

NEW_YORK = "America/New_York"
DAY_MINUTES = 24 * 60

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


def _local_minutes(moment: str, zone: str | None) -> pl.Expr:
    if zone is None:
        return pl.lit(None, pl.Int64)
    local = pl.col(moment).dt.convert_time_zone(zone)
    return local.dt.hour().cast(pl.Int64) * 60 + local.dt.minute()


def with_moments(flights: pl.DataFrame, airports: pl.DataFrame) -> pl.DataFrame:
    """The flights with event_timestamp, departed_at and arrived_at, all UTC.

    Scheduled departure is a local time in New York. Actual departure is that plus the delay, which needs no
    clock and so does not stumble over midnight. Actual arrival is known only as a reading of the clock at the
    destination: it is the first moment after departure at which that clock shows it.
    """
    zones = dict(airports.select("faa", "tzone").drop_nulls().iter_rows())
    scheduled = pl.datetime("year", "month", "day", "hour", "minute", time_zone=NEW_YORK, time_unit="us")
    flights = flights.with_row_index("position").with_columns(
        event_timestamp=scheduled.dt.convert_time_zone("UTC"),
        zone=pl.col("dest").replace_strict(zones, default=None, return_dtype=pl.String),
    )
    flights = flights.with_columns(
        departed_at=pl.col("event_timestamp") + pl.duration(minutes=pl.col("dep_delay"))
    )
    by_zone = [
        group.with_columns(shown=_local_minutes("departed_at", zone))
        for (zone,), group in flights.group_by("zone")
    ]
    under_way = (clock_minutes("arr_time") - pl.col("shown")) % DAY_MINUTES
    return (
        pl.concat(by_zone)
        .sort("position")
        .with_columns(arrived_at=pl.col("departed_at") + pl.duration(minutes=under_way))
        .drop("position", "zone", "shown")
    )


def minutes_between(start: str, end: str) -> pl.Expr:
    """Minutes from one moment to another."""
    return (pl.col(end) - pl.col(start)).dt.total_minutes()


def month_bounds(months: list[int]) -> list[int]:
    """The months in order, once each; raises ValueError for one that is not in the year."""
    if wrong := sorted(set(months) - set(range(1, 13))):
        raise ValueError(f"months = {months}: {wrong} are not months; write numbers from 1 to 12")
    return sorted(set(months))
