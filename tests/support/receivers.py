"""Receivers of notifications: a mail server and a web server that keep what they are given."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support import waiting

DEADLINE_SECONDS = 20.0


until = partial(waiting.until, seconds=DEADLINE_SECONDS)


class Mailbox(socketserver.StreamRequestHandler):
    """As much SMTP as a client needs to hand over a message."""

    server: "Mail"

    def handle(self) -> None:
        self.say(b"220 mailbox")
        for line in self.rfile:
            word = line[:4].upper()
            if word == b"DATA":
                self.say(b"354 go on")
                message = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.messages.append(message.decode())
            if word == b"QUIT":
                return self.say(b"221 bye")
            self.say(b"250 ok")

    def say(self, line: bytes) -> None:
        self.wfile.write(line + b"\r\n")


class Mail(socketserver.ThreadingTCPServer):
    """A mail server that keeps what it is given."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Mailbox)
        self.messages: list[str] = []


class Hook(BaseHTTPRequestHandler):
    """A webhook that keeps what it is sent, and answers with the next of its statuses."""

    server: "Web"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(json.loads(body))
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if statuses else 200)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Say nothing."""


class Web(ThreadingHTTPServer):
    """A web server that keeps what it is sent."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        self.bodies: list[dict[str, str]] = []
        self.statuses = list(statuses)


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[int]:
    """Serve while the block runs; gives the port."""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
