"""Fixtures of the service tests: real servers, on the loopback."""

from tests.service.databases import emptied_database, postgresql, redis, store, store_url  # noqa: F401
