"""A service on loopback for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from grid_server import GridServer


@pytest.fixture
def server() -> Iterator[GridServer]:
    with GridServer() as running:
        yield running
