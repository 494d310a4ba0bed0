"""Sockets are tried on both kinds of loop."""

from tests.conformance.conftest import pytest_asyncio_loop_factories  # noqa: F401 - pytest finds it here
