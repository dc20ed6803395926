"""Somebody with an account, as their browser meets the hub: they log in, open pages, and decide."""

from types import MappingProxyType

import httpx

from majlis.errors import Unavailable

SECONDS = 90.0
API = "/services/majlis/api/v1"
HTML = MappingProxyType({"Accept": "text/html"})


class Visitor:
    """Somebody with an account, logged in to the hub at `url`."""

    def __init__(self, url: str, decisions: str, name: str, password: str) -> None:
        self.url, self.decisions_url, self.name = url, decisions, name
        self.browser = httpx.Client(base_url=url, timeout=SECONDS, trust_env=False, follow_redirects=True)
        self.browser.get("/hub/login").raise_for_status()
        form = {"username": name, "password": password, "_xsrf": self.xsrf}
        self.browser.post("/hub/login", data=form).raise_for_status()

    @property
    def xsrf(self) -> str:
        """The token against forged requests that the hub's pages carry."""
        return next(
            one.value or ""
            for one in self.browser.cookies.jar
            if one.name == "_xsrf" and one.path.endswith("/hub/")
        )

    def page(self, path: str) -> httpx.Response:
        """A page, as the person's browser gets it, through logins on the way."""
        return self.browser.get(path, headers=HTML)

    def decisions(self) -> httpx.Client:
        """The person's browser on the decisions origin, logged in there."""
        page = self.page(f"{self.decisions_url}{API}/whoami")
        if not str(page.url).startswith(self.decisions_url):
            raise Unavailable(f"{self.name} did not get to {self.decisions_url}, but to {page.url}")
        there = httpx.URL(self.decisions_url)
        headers = {"Origin": f"{there.scheme}://{there.netloc.decode()}"}
        return httpx.Client(
            base_url=self.decisions_url,
            cookies=self.browser.cookies,
            headers=headers,
            timeout=SECONDS,
            trust_env=False,
        )
