"""What the flight-delay model looks at, by name; `views` says how it is computed."""

LATE_MINUTES = 30  # a flight that arrives later than this is late
TARGET = "late"

# The order is part of the model's signature.
CATEGORICAL = ["carrier", "origin", "dest"]
SCHEDULE = ["month", "day_of_week", "scheduled_hour", "scheduled_minute", "distance"]
PLANE = ["plane_age", "seats"]
WEATHER = ["temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
WINDOWS_HOURS = (3, 24)
ORIGIN_DELAY = [f"origin_{kind}_delay_{hours}h" for kind in ("dep", "arr") for hours in WINDOWS_HOURS]
CARRIER_DELAY = [f"carrier_{kind}_delay_{hours}h" for kind in ("dep", "arr") for hours in WINDOWS_HOURS]
NUMERIC = [*SCHEDULE, *PLANE, *WEATHER, *ORIGIN_DELAY, *CARRIER_DELAY]
MODEL_FEATURES = [*CATEGORICAL, *NUMERIC]

VIEWS = {"plane": PLANE, "weather": WEATHER, "origin_delay": ORIGIN_DELAY, "carrier_delay": CARRIER_DELAY}
FEATURE_VIEWS = list(VIEWS)
REFERENCES = [f"{view}:{name}" for view, names in VIEWS.items() for name in names]
