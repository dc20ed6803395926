"""What a start does with the control plane's answer about costs, and without one."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from majlis.errors import Forbidden
from majlis.settings import Budgets
from spawner.budget import Purse

TOKEN = "the server's own"


def charge(name: str, amount: float, currency: str = "USD") -> dict[str, Any]:
    """A line of the control plane's report."""
    return {"name": name, "amount": amount, "currency": currency}


def opened(answer: Any, status: int = 200, patience: float = 3, wait: bool = False) -> str:
    """What a start of ana's server tells her, when the control plane answers so."""

    async def costs(request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        assert request.query == {"by": "user"}
        if wait:
            await asyncio.Event().wait()
        return web.json_response(answer, status=status)

    async def story() -> str:
        app = web.Application()
        app.router.add_get("/services/majlis/api/v1/costs", costs)
        server = TestServer(app, shutdown_timeout=0)
        await server.start_server()
        try:
            url = f"http://{server.host}:{server.port}/services/majlis"
            purse = Purse(url, Budgets(default_monthly=10, ask_seconds=patience), "USD")
            user = SimpleNamespace(name="ana")
            return await purse.open(SimpleNamespace(user=user, api_token=TOKEN, log=logging.getLogger()))
        finally:
            await server.close()

    return asyncio.run(story())


def test_what_is_left_is_told() -> None:
    charges = [charge("ana", 2.5), charge("bo", 100), charge("ana", 100, "EUR")]
    assert opened(charges) == "7.50 of 10.00 USD are left of this month's budget."
    assert opened([]).startswith("10.00 of 10.00")


@pytest.mark.parametrize("spent", [10, 12.34])
def test_nothing_starts_when_nothing_is_left(spent: float) -> None:
    with pytest.raises(Forbidden, match=f"{spent:.2f} of 10.00 USD are spent this month, and 0.00 are left"):
        opened([charge("ana", spent)])


def test_a_control_plane_that_does_not_tell_holds_nobody_up() -> None:
    assert "not known" in opened([], status=503)
    assert "not known" in opened([], patience=0.05, wait=True)
