"""Every test of the path runs with ports that take packets one by one, and with ports that take batches."""

from __future__ import annotations

import pytest

from tests.tunnel.io.world import World


@pytest.fixture(params=["one by one", "batch", "bare frames"])
def world(request):
    made = World(headroom=0 if request.param == "bare frames" else 10, batch=request.param == "batch")
    yield made
    for port in made.ports.values():
        port.close()
