"""The figures for monitoring."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from nhrp.engine.snapshot import BindingKind, SpeakerSnapshot
from stack.samples import Sample

__all__ = ["samples"]

_REFUSED = "refused: "


def samples(snapshot: SpeakerSnapshot, failures: int = 0) -> Iterator[Sample]:
    """Entries, resolutions, servers, packets and refusals. No label comes from a peer."""
    kinds = Counter(one.kind for one in snapshot.bindings)
    for kind in BindingKind:
        yield Sample("labelspan_nhrp_cache_entries", kinds[kind], "Mapping entries, by kind.", {"kind": kind.value})
    shortcuts = sum("rib" in one.flags or "nho" in one.flags for one in snapshot.bindings)
    yield Sample("labelspan_nhrp_shortcuts", shortcuts, "Shortcut routes installed.")
    yield Sample("labelspan_nhrp_pending", len(snapshot.pending), "Resolutions that were not answered yet.")
    up = sum(one.state == "RE" for one in snapshot.nhs)
    waiting = sum(one.state == "W" for one in snapshot.nhs)
    yield Sample("labelspan_nhrp_servers", len(snapshot.nhs), "Next hop servers configured.")
    yield Sample(
        "labelspan_nhrp_servers_down",
        len(snapshot.nhs) - up - waiting,
        "Next hop servers that should answer and do not.",
    )
    yield Sample("labelspan_nhrp_peers_up", sum(one.up for one in snapshot.peers), "Far ends that can be sent to.")
    packets: Counter[tuple[str, str]] = Counter()
    for (_, direction, kind_name), count in snapshot.traffic.items():
        packets[direction, kind_name] += count
    for (direction, kind_name), count in sorted(packets.items()):
        labels = {"direction": direction, "kind": kind_name}
        yield Sample("labelspan_nhrp_packets_total", count, "NHRP packets, by kind.", labels, counter=True)
    for name, count in sorted(snapshot.counters.items()):
        if name.startswith(_REFUSED):
            labels = {"reason": name.removeprefix(_REFUSED)}
            yield Sample("labelspan_nhrp_refused_total", count, "What was refused, by reason.", labels, counter=True)
        else:
            yield Sample("labelspan_nhrp_events_total", count, "What was done.", {"event": name}, counter=True)
    yield Sample("labelspan_nhrp_failures_total", failures, "Messages that the speaker could not take.", counter=True)
