"""`labelspan run --metrics ADDRESS:PORT`: what the node's services count, in Prometheus' text format.

The page is made from the services' snapshots when it is asked for, on the node's own loop; nothing is kept. The server
speaks just enough HTTP for a scraper: GET, one answer, close. Connections, request size and time are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator

from attrs import define
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from stack.router import Router
from stack.samples import Sample

__all__ = ["MetricsServer", "node_samples", "page", "parse_endpoint"]

MAX_CONNECTIONS = 16
MAX_REQUEST = 8_192
WITHIN = 5.0
"""Seconds for a request to arrive."""


def parse_endpoint(text: str) -> tuple[str, int]:
    """`127.0.0.1:9100`, `[::1]:9100` or `:9100` (loopback). Raises ValueError with what was expected."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r}: ADDRESS:PORT expected, e.g. 127.0.0.1:9100")
    return host.strip("[]") or "127.0.0.1", int(port)


def node_samples(router: Router) -> Iterator[Sample]:
    """What the node counts itself, and then what its running services do."""
    for process in router.processes():
        labels = {"service": process.name}
        yield Sample("labelspan_service_up", process.state == "running", "Whether the service runs.", labels)
        yield Sample(
            "labelspan_service_restarts_total", process.restarts, "Restarts after a failure.", labels, counter=True
        )
    for use in router.bus.snapshot():
        labels = {"topic": use.topic, "owner": use.owner}
        yield Sample("labelspan_bus_rows", use.rows, "Rows that an owner holds of a topic.", labels)
        yield Sample("labelspan_bus_stale_rows", use.stale, "Rows left from before a restart.", labels)
    for name, dropped in router.bus.dropped().items():
        yield Sample(
            "labelspan_bus_facts_dropped_total",
            dropped,
            "Facts that a full mailbox lost.",
            {"reader": name},
            counter=True,
        )
    for spec in router.specs:
        service = router.service(spec.name)
        if spec.samples is not None and service is not None:
            yield from spec.samples(service)


class _Families:
    """A collector of prometheus_client over samples, grouped by name."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for sample in self._samples:
            family = families.get(sample.name)
            if family is None:
                make = CounterMetricFamily if sample.counter else GaugeMetricFamily
                family = families[sample.name] = make(sample.name, sample.help)
            family.add_sample(sample.name, dict(sample.labels), float(sample.value))
        yield from families.values()


def page(samples: Iterable[Sample]) -> bytes:
    """The samples in the text exposition format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(samples))
    return generate_latest(registry)


@define(eq=False)
class MetricsServer:
    """Answers `GET /metrics` for one router."""

    router: Router
    host: str
    port: int
    _server: asyncio.Server | None = None
    _open: int = 0

    async def start(self) -> None:
        """Raises OSError if the address cannot be had."""
        self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=MAX_REQUEST)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > MAX_CONNECTIONS:
                answer = _answer(503, b"too many connections\n")
            else:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WITHIN)
                answer = self._answer(head)
            writer.write(answer)
            await asyncio.wait_for(writer.drain(), WITHIN)
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # a client that asks for nothing gets nothing
        finally:
            self._open -= 1
            with contextlib.suppress(OSError):
                writer.close()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method != b"GET":
            return _answer(405, b"GET only\n")
        if path not in (b"/metrics", b"/"):
            return _answer(404, b"/metrics is here\n")
        try:
            return _answer(200, page(node_samples(self.router)), b"text/plain; version=0.0.4; charset=utf-8")
        except Exception:
            self.router.context.log.exception("metrics failed")
            return _answer(500, b"it is in the log\n")


_REASONS = {200: b"OK", 404: b"Not Found", 405: b"Method Not Allowed", 500: b"Internal Server Error", 503: b"Busy"}


def _answer(code: int, body: bytes, kind: bytes = b"text/plain") -> bytes:
    head = b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    return head % (code, _REASONS[code], kind, len(body)) + body
