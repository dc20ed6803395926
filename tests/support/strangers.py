"""What nobody who means well asks a spawner for: every answer is a refusal, and none a failure of ours."""

from typing import Any

LONG = "x" * 100_000
BODIES: dict[str, Any] = {  # of a start through the REST API
    "a list": ["profile", "cpu-small"],
    "a text": "cpu-small",
    "a number": 7,
    "true": True,
    "a list of options": {"user_options": ["cpu-small"]},
    "options that are a text": {"user_options": "cpu-small"},
    "a profile that is a list": {"profile": ["cpu-small"]},
    "a profile that is a number": {"profile": 7},
    "a profile that is an object": {"profile": {"cpu-small": True}},
    "a profile that is true": {"profile": True},
    "an unknown profile": {"profile": "nope"},
    "a path": {"profile": "../../etc/passwd"},
    "percent signs": {"profile": "%s%n%(x)d"},
    "a line break": {"profile": "cpu-small\r\nX-Evil: 1"},
    "no text at all": {"profile": "\u0000"},
    "another alphabet": {"profile": "صغير"},
    "a long profile": {"profile": LONG},
    "a long option": {LONG: "x"},
    "an unknown option": {"profile": "cpu-small", "memory_limit_gib": 1000},
    "a trait of the spawner": {"profile": "cpu-small", "cmd": ["sh"], "environment": {"PATH": "/tmp"}},
    "an empty option": {"": ""},
    "an image": {"profile": "cpu-small", "image": {"name": "evil"}},
    "a capacity": {"profile": "cpu-small", "capacity": ["spot"]},
}
TOLD_AT_MOST = 2000  # characters of an answer, whatever was asked
