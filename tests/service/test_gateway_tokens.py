"""People's tokens at a real gateway: what is accepted, what is not, and what a new snapshot changes."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from majlis import clock
from majlis.serving.tokens import ALGORITHM, AUDIENCE, ISSUER, mint, public_half
from tests.service.gateways import World, wait_until

pytestmark = pytest.mark.timeout(120)

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
KID = {"kid": public_half(KEY).id}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway that knows one key for tokens, and no API key."""
    world = World(tmp_path_factory.mktemp("tokens"), log_flush_seconds=0.2)
    world.release("adder-1")
    world.token_keys, world.keys = (public_half(KEY),), []
    world.deploy("adder", adder_1=1.0)
    world.deploy("second", adder_1=1.0)
    with world.gateway():
        yield world


def token(subject: str = "amira", seconds: float = 600, *, deployments: tuple[str, ...] = ("adder",)) -> str:
    """A token of ours."""
    return mint(KEY, subject, deployments, clock.now(), seconds)


def claims(**changed: Any) -> dict[str, Any]:
    """The claims of a good token, changed; None takes one out."""
    now = clock.now()
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "amira",
        "iat": now.timestamp(),
        "exp": now + timedelta(seconds=600),
        "deployments": ["adder"],
    }
    return {name: value for name, value in (good | changed).items() if value is not None}


def test_a_token_opens_what_it_names_and_is_logged_by_name(world: World) -> None:
    """Without an API key, and nobody was asked about it."""
    mine = token()
    assert world.ask(3.0, key=mine).json()["outputs"][0]["data"] == [6.0]
    assert world.ask(3.0, key=mine).status_code == 200  # from memory
    foreign = world.ask(3.0, key=mine, name="second")
    assert foreign.status_code == 403 and "not for deployment 'second'" in foreign.json()["detail"]
    wait_until(lambda: any(world.home.glob("predictions/adder/**/*.parquet")))
    import pyarrow.parquet as pq

    assert {row["client"] for row in pq.read_table(world.home / "predictions/adder").to_pylist()} == {"amira"}


def test_it_ends_on_time_even_when_it_is_remembered(world: World) -> None:
    """The end is looked at each time."""
    short = token(seconds=2)
    assert world.ask(1.0, key=short).status_code == 200
    ended = wait_until(lambda: (r := world.ask(1.0, key=short)).status_code == 401 and r)
    assert "expired" in ended.json()["detail"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: mint(KEY, "amira", ["adder"], clock.now() - timedelta(hours=1), 600), "has expired"),
        (lambda: jwt.encode(claims(aud="mlflow"), KEY, ALGORITHM, headers=KID), "Audience"),
        (lambda: jwt.encode(claims(aud=None), KEY, ALGORITHM, headers=KID), "aud"),
        (lambda: jwt.encode(claims(iss="hub"), KEY, ALGORITHM, headers=KID), "issuer"),
        (lambda: jwt.encode(claims(exp=None), KEY, ALGORITHM, headers=KID), "exp"),
        (lambda: jwt.encode(claims(deployments="adder"), KEY, ALGORITHM, headers=KID), "no deployments"),
        (lambda: jwt.encode(claims(), OTHER, ALGORITHM, headers=KID), "ignature"),
        (lambda: mint(OTHER, "amira", ["adder"], clock.now(), 600), "not, or no longer, ours"),
        (lambda: jwt.encode(claims(), KEY, ALGORITHM), "not, or no longer, ours"),
        (lambda: jwt.encode(claims(), "", "none", headers=KID), "not valid"),
        (lambda: jwt.encode(claims(), public_half(KEY).public, "HS256", headers=KID), "not valid"),
        (lambda: "a.b.c", "not valid"),
        (lambda: "..", "not valid"),
    ],
)
def test_others_are_refused(world: World, made: Any, said: str) -> None:
    """A 401 that says why: another time, audience, issuer, key, algorithm; or no token at all."""
    response = world.ask(1.0, key=made())
    assert response.status_code == 401 and said in response.json()["detail"], response.text
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_snapshot_withdraws_what_was_issued_before_it(world: World) -> None:
    """Within a poll, though the token was remembered; a newer token of the same person counts."""
    before, others = token("badr"), token("chen")
    assert world.ask(1.0, key=before).status_code == world.ask(1.0, key=others).status_code == 200
    world.tokens_revoked = {"badr": clock.now()}
    world.publish()
    refused = wait_until(lambda: (r := world.ask(1.0, key=before)).status_code == 401 and r)
    assert "tokens of badr were withdrawn" in refused.json()["detail"]
    assert world.ask(1.0, key=others).status_code == world.ask(1.0, key=token("badr")).status_code == 200


def test_a_new_key_takes_the_place_of_the_old(world: World) -> None:
    """Tokens of the old key stop with it."""
    old = token()
    world.token_keys = (public_half(OTHER),)
    world.publish()
    wait_until(lambda: world.ask(1.0, key=old).status_code == 401)
    assert world.ask(1.0, key=mint(OTHER, "amira", ["adder"], clock.now(), 600)).status_code == 200
    world.token_keys = (public_half(KEY),)
    world.publish()
    wait_until(lambda: world.ask(1.0, key=token()).status_code == 200)


def test_the_rate_is_the_persons(tmp_path: Path) -> None:
    """A second token does not bring a second rate; another person has one of their own."""
    world = World(tmp_path, token_requests_per_second=2)
    world.release("adder-1")
    world.token_keys = (public_half(KEY),)
    world.deploy(adder_1=1.0)
    with world.gateway():
        codes = [world.ask(1.0, key=token()).status_code for _ in range(20)]
        assert codes[0] == 200 and 429 in codes
        assert world.ask(1.0, key=token("badr")).status_code == 200
