"""The page for scrapers: what it holds, and that nothing which a client sends hurts the node."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stack.config import Config
from stack.metrics import MAX_CONNECTIONS, MAX_REQUEST, MetricsServer, node_samples, page, parse_endpoint
from stack.router import Router
from stack.samples import Sample
from stack.testing import MemoryNetwork, VirtualClock, run

TEXT = """
hostname pe
router bgp 65000
 bgp router-id 192.0.2.1
 neighbor 198.51.100.2 remote-as 65000
 neighbor 198.51.100.2 password 7days-canary
"""


def values(octets: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(octets.decode())
        for sample in family.samples
    }


def test_a_page_is_what_prometheus_reads() -> None:
    found = values(
        page(
            [
                Sample("a_total", 3, "An a.", {"x": '"quoted"\nline'}, counter=True),
                Sample("a_total", 4, "An a.", {"x": "other"}, counter=True),
                Sample("b", True, "A b."),
            ]
        )
    )
    assert found == {
        ("a_total", (("x", '"quoted"\nline'),)): 3.0,
        ("a_total", (("x", "other"),)): 4.0,
        ("b", ()): 1.0,
    }


def test_a_node_tells_configured_and_established_sessions_and_no_secret() -> None:
    async def main() -> bytes:
        router = Router(Config.from_ios(TEXT), network=MemoryNetwork().node("pe"), clock=VirtualClock())
        async with router:
            await asyncio.sleep(1)
            return page(node_samples(router))

    octets = run(main(), strict=False)
    found = values(octets)
    assert found["labelspan_bgp_sessions_configured", ()] == 1
    assert found["labelspan_bgp_sessions_established", ()] == 0
    assert found["labelspan_service_up", (("service", "forwarder"),)] == 1
    assert b"canary" not in octets


class _Silent:
    """A router with nothing to tell."""

    specs: tuple[Any, ...] = ()
    bus: Any = type("Bus", (), {"snapshot": staticmethod(tuple), "dropped": staticmethod(dict)})
    processes = staticmethod(tuple)


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    if request:
        writer.write_eof()
    try:
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_", "begins"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"GET /etc/passwd HTTP/1.1\r\n\r\n", b"HTTP/1.1 404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 405"),
        (b"\xff" * 100, b""),
        (b"GET /" + b"x" * (2 * MAX_REQUEST), b""),
    ],
)
def test_S09_whatever_is_asked(request_: bytes, begins: bytes) -> None:
    async def main() -> tuple[bytes, bytes]:
        server = MetricsServer(_Silent(), "127.0.0.1", 0)  # type: ignore[arg-type]
        await server.start()
        port = server._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        first = await ask(port, request_)
        again = await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
        await server.stop()
        return first, again

    first, again = asyncio.run(main())
    assert first.startswith(begins)
    assert bool(first) == bool(begins)
    assert again.startswith(b"HTTP/1.1 200 OK")


def test_S09_connections_are_bounded() -> None:
    async def main() -> bytes:
        server = MetricsServer(_Silent(), "127.0.0.1", 0)  # type: ignore[arg-type]
        await server.start()
        port = server._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
        while server._open < MAX_CONNECTIONS:  # noqa: ASYNC110  (the server runs on this loop)
            await asyncio.sleep(0)
        refused = await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
        for _, writer in idle:
            writer.close()
        await server.stop()
        return refused

    assert asyncio.run(main()).startswith(b"HTTP/1.1 503")


@pytest.mark.parametrize(
    ("text", "found"),
    [("127.0.0.1:9100", ("127.0.0.1", 9100)), ("[::1]:9", ("::1", 9)), (":9100", ("127.0.0.1", 9100))],
)
def test_where_to_serve(text: str, found: tuple[str, int]) -> None:
    assert parse_endpoint(text) == found


@pytest.mark.parametrize("text", ["9100", "host:", "host:0", "host:65536", "host:http"])
def test_where_to_serve_says_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="ADDRESS:PORT expected"):
        parse_endpoint(text)
