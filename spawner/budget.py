"""Before a server starts: what its person has left of this month's budget, as the control plane knows it.

The question is asked with the new server's own token, so a person is only ever told of their own. A control
plane that does not answer holds nobody up: better that somebody works over budget than that nobody works.
"""

from dataclasses import dataclass
from typing import Any

import httpx

from majlis.errors import Forbidden
from majlis.settings import Budgets, Settings


@dataclass(frozen=True)
class Balance:
    """A person's month."""

    spent: float
    limit: float
    currency: str

    @property
    def left(self) -> float:
        """What may still be spent."""
        return self.limit - self.spent

    def __str__(self) -> str:
        return f"{self.left:.2f} of {self.limit:.2f} {self.currency} are left of this month's budget"


@dataclass(frozen=True)
class Purse:
    """Asks what is left."""

    url: str  # of the control plane, such as http://127.0.0.1:8082/services/majlis
    budgets: Budgets
    currency: str

    async def balance(self, name: str, token: str) -> Balance | None:
        """The balance of a person, whose server has this token; None where nobody tells."""
        headers = {"Authorization": f"Bearer {token}"}
        try:
            async with httpx.AsyncClient(timeout=self.budgets.ask_seconds, trust_env=False) as client:
                answer = await client.get(f"{self.url}/api/v1/costs", params={"by": "user"}, headers=headers)
            charges = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError):
            return None
        spent = sum(
            each["amount"] for each in charges if each["name"] == name and each["currency"] == self.currency
        )
        return Balance(spent, self.budgets.default_monthly, self.currency)

    async def open(self, spawner: Any) -> str:
        """What the spawner's person is told as their server starts; `Forbidden` when nothing is left."""
        balance = await self.balance(str(spawner.user.name), spawner.api_token)
        if balance is None:
            spawner.log.warning("%s starts: the control plane did not tell what is left", spawner.user.name)
            return "What is left of this month's budget is not known: the control plane does not answer."
        if balance.left <= 0:
            raise Forbidden(
                f"No server starts for {spawner.user.name}: {balance.spent:.2f} of {balance.limit:.2f} "
                f"{balance.currency} are spent this month, and 0.00 are left",
                remedy="Wait for the next month, or ask an administrator to raise [budgets] in settings.ini.",
            )
        spawner.log.info("%s starts: %s", spawner.user.name, balance)
        return f"{balance}."


def purse(settings: Settings, address: str) -> Purse:
    """Asks the control plane that listens at `address`."""
    url = f"{address}{settings.workbench.base_url}services/majlis"
    return Purse(url, settings.budgets, settings.costs.currency)
