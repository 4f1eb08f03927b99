"""The packet path's figures for monitoring."""

from __future__ import annotations

from collections.abc import Iterator

from stack.samples import Sample
from tunnel.io.counters import CountersSnapshot

__all__ = ["samples"]


def samples(snapshot: CountersSnapshot) -> Iterator[Sample]:
    for reason, interface, count in snapshot.drops:
        labels = {"reason": reason.name.lower(), "interface": interface}
        yield Sample("labelspan_drops_total", count, "Packets dropped, by reason.", labels, counter=True)
    for what, count in snapshot.slow:
        yield Sample(
            "labelspan_slow_path_total", count, "Packets off the fast path.", {"why": what.name.lower()}, counter=True
        )
    for port, name, count in snapshot.errors:
        labels = {"port": port, "error": name}
        yield Sample("labelspan_port_errors_total", count, "Errors that ports reported.", labels, counter=True)
    for row in snapshot.interfaces:
        for direction, packets, octets in (
            ("in", row.packets_in, row.octets_in),
            ("out", row.packets_out, row.octets_out),
        ):
            labels = {"interface": row.interface, "direction": direction}
            yield Sample("labelspan_packets_total", packets, "Packets by interface.", labels, counter=True)
            yield Sample("labelspan_octets_total", octets, "Octets by interface.", labels, counter=True)
