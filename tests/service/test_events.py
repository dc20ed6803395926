"""Notifications reach real receivers, and a channel that is dead holds nobody up."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from majlis.errors import SettingsError
from majlis.events import Event, Notifier, notifier
from majlis.settings import Notify
from tests.support.receivers import DEADLINE_SECONDS, Mail, Web, serving, until


@contextmanager
def told(*urls: str, **settings: float) -> Iterator[Notifier]:
    """A notifier of some addresses."""
    made = notifier(Notify.model_validate({"urls": urls, "retry_seconds": 0.01, **settings}))
    try:
        yield made
    finally:
        made.close()
        until(lambda: not any(thread.name.startswith("notify ") for thread in threading.enumerate()))


def test_a_mail_arrives() -> None:
    mail = Mail()
    with serving(mail) as port:
        address = f"mailto://127.0.0.1:{port}/?from=majlis@example.org&to=omar@example.org&mode=insecure"
        with told(address) as everyone:
            everyone.publish("review.requested", "flight_delay/3", "amira asks for your review.")
    (message,) = mail.messages
    assert "To: omar@example.org" in message
    assert "Majlis: flight_delay/3: review requested" in message
    assert "amira asks for your review." in message


def test_a_webhook_is_called() -> None:
    web = Web()
    with serving(web) as port, told(f"json://127.0.0.1:{port}/majlis") as everyone:
        everyone.publish("release.revoked", "flight_delay/3", "It is no longer served.")
        everyone.close()
        assert [counts.delivered for counts in everyone.counts().values()] == [1]
    (body,) = web.bodies
    assert body["title"] == "Majlis: flight_delay/3: release revoked"
    assert body["message"].startswith("It is no longer served.")


def test_a_channel_that_recovers_gets_the_event_again() -> None:
    web = Web(503, 503)
    with serving(web) as port, told(f"json://127.0.0.1:{port}", attempts=3) as everyone:
        everyone.publish("release.revoked", "m/1", "Gone.")
        until(lambda: everyone.lines[0].counts.delivered)
        assert (len(web.bodies), everyone.lines[0].counts.error) == (3, "")


def test_a_channel_that_stays_away_is_given_up_and_counted() -> None:
    web = Web(500, 500, 500)
    with serving(web) as port, told(f"json://127.0.0.1:{port}", attempts=3) as everyone:
        everyone.publish("release.revoked", "m/1", "Gone.")
        until(lambda: everyone.lines[0].counts.failed)
        everyone.publish("release.revoked", "m/2", "Gone.")
        until(lambda: everyone.lines[0].counts.delivered)
    assert len(web.bodies) == 4


def test_dead_channels_hold_up_neither_the_caller_nor_the_others() -> None:
    web = Web()
    with socket.socket() as silent, serving(web) as port:  # takes connections, never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        quiet = silent.getsockname()[1]
        addresses = [
            f"json://127.0.0.1:{quiet}",
            f"mailto://127.0.0.1:{quiet}/?from=a@example.org&to=b@example.org&mode=insecure",
            "json://127.0.0.1:1",  # refuses connections
            f"json://127.0.0.1:{port}",
        ]
        with told(*addresses, timeout_seconds=0.5, attempts=1, queue=20) as everyone:
            begun = time.monotonic()
            for number in range(100):
                everyone.publish("deployment.changed", f"m/{number}", "Moved.")
                until(lambda count=number + 1: len(web.bodies) == count)  # type: ignore[misc]
            assert time.monotonic() - begun < DEADLINE_SECONDS
            assert [line.counts.dropped > 0 for line in everyone.lines] == [True, True, False, False]
    assert [body["title"] for body in web.bodies] == [
        f"Majlis: m/{n}: deployment changed" for n in range(100)
    ]


def test_closing_does_not_wait_for_a_dead_channel() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with told(f"json://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.3, attempts=1) as everyone:
            for number in range(50):
                everyone.publish("deployment.changed", f"m/{number}", "Moved.")
            begun = time.monotonic()
            everyone.close()
            assert time.monotonic() - begun < 5
            assert everyone.lines[0].counts.dropped > 0
            everyone.publish(
                "deployment.changed", "m/late", "Moved."
            )  # into a closed line: dropped, not lost in it
            everyone.close()


def test_whatever_a_channel_raises_stays_in_its_line() -> None:
    class Broken:
        name = "broken"

        def deliver(self, event: Event) -> bool:
            raise RuntimeError(event.subject)

    everyone = Notifier([Broken()], Notify(attempts=1))
    everyone.publish("a.b", "m/1", "x")
    everyone.publish("a.b", "m/2", "x")
    everyone.close()
    assert everyone.lines[0].counts.failed == 2
    assert everyone.lines[0].counts.error == "RuntimeError: m/2"


def test_an_address_that_nobody_understands_stops_the_start_without_its_secret() -> None:
    with pytest.raises(SettingsError, match="starts with 'slakc'") as raised:
        notifier(Notify(urls=("slakc://hunter2/",)))
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["json://user:hunter2@host/", "mailto://u:hunter2@example.org/?to=a@b.org", "jsons://h/?+X=hunter2"],
)
def test_a_channels_name_hides_its_secrets(url: str) -> None:
    with told(url) as everyone:
        assert "hunter2" not in str(everyone.counts())


def test_without_addresses_nobody_is_told() -> None:
    with told() as everyone:
        assert everyone.publish("a.b", "m/1", "x").subject == "m/1"
        assert everyone.counts() == {}
