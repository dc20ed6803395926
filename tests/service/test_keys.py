"""An API key that is withdrawn opens nothing any more: a real gateway, client, command line and page."""

from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from majlis import cli
from majlis.access import Principal, Scope
from majlis.client import Workbench
from majlis.control.identity import LocalIdentity
from majlis.control.pages import Pages
from majlis.control.service import ControlPlane
from majlis.errors import Conflict
from tests.service.gateways import World, linear
from tests.service.planes import control, environment, released

PREFIX = "/services/majlis/"
BODY = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1.0]}]}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def asked(world: World, key: str) -> int:
    """The status of a prediction with this key."""
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{world.url}/v2/models/flights/infer", json=BODY, headers=headers).status_code


def issued(wb: Workbench) -> tuple[str, str]:
    """A new key: its id, and the key."""
    made = wb.api("POST", "/deployments/flights/keys", json={"days": 1})
    return made["id"], made["key"]


def portal(plane: ControlPlane, who: str, *scopes: Scope) -> TestClient:
    """The pages, as somebody sees them."""
    held = frozenset(scope.value for scope in (Scope.READ, *scopes))
    app = FastAPI()
    Pages(plane, LocalIdentity(Principal(who, scopes=held)), PREFIX).install(app)
    return TestClient(app, base_url=f"http://majlis{PREFIX}", follow_redirects=False)


@pytest.mark.timeout(180)
def test_a_withdrawn_key_is_refused_by_the_gateway_when_the_answer_comes(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with control(world) as (plane, wb):
        released(plane, world, 1, linear(2.0))
        deployment = wb.deploy("flights-1")
        with world.gateway():
            deployment.wait(60)
            keys = [issued(wb) for _ in range(4)]
            assert [asked(world, key) for _, key in keys] == [200] * 4

            wb.withdraw_key("flights", keys[0][0], "it stands in a public repository")
            assert [asked(world, key) for _, key in keys] == [401, 200, 200, 200]
            with pytest.raises(Conflict, match="was withdrawn by"):
                wb.withdraw_key("flights", keys[0][0], "again")

            page = portal(plane, "amira", Scope.DEPLOY)
            assert page.get("deployments/flights/keys").text.count("Withdraw it") == 3
            assert (
                "Withdraw it" not in portal(plane, "omar", Scope.DEPLOY).get("deployments/flights/keys").text
            )
            form = f"deployments/flights/keys/{keys[1][0]}/withdraw"
            refused = portal(plane, "omar", Scope.DEPLOY).post(form, data={"reason": "mine now"})
            assert refused.status_code == HTTPStatus.FORBIDDEN and "Ask its owner" in refused.text
            assert page.post(form, data={"reason": " "}).status_code == HTTPStatus.UNPROCESSABLE_ENTITY
            done = page.post(form, data={"reason": "<b>lost</b>"})
            assert done.headers["location"] == f"{PREFIX}deployments/flights/keys"
            assert "amira: &lt;b&gt;lost&lt;/b&gt;" in page.get("deployments/flights/keys").text
            assert [asked(world, key) for _, key in keys] == [401, 401, 200, 200]

            mine = wb.key("flights")
            held = next(row for row in wb.keys("flights") if row["id"] not in {id for id, _ in keys})
            wb.withdraw_key("flights", held["id"], "the session is over")
            assert wb.key("flights") != mine and asked(world, wb.key("flights")) == 200
            assert not any(key in str(list(wb.keys("flights"))) for _, key in keys)
    for name, value in environment(world).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MAJLIS_URL", raising=False)
    for arguments in (["withdraw", "flights", keys[2][0], "--reason", "not used"], ["list", "flights"]):
        with pytest.raises(SystemExit) as end:
            cli.main(["keys", *arguments])
        assert end.value.code == 0
    told = capsys.readouterr().out
    assert "not used" in told and keys[3][0] in told
