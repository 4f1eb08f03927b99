"""BGP's figures for monitoring: configured sessions and whether they are up, so that the difference can be alerted on."""

from __future__ import annotations

from collections.abc import Iterator

from bgp.engine.fsm import State
from bgp.engine.speaker import SpeakerSnapshot
from stack.addr import format_address
from stack.samples import Sample

__all__ = ["samples"]


def samples(speaker: SpeakerSnapshot) -> Iterator[Sample]:
    up = sum(peer.state is State.ESTABLISHED for peer in speaker.peers)
    yield Sample("labelspan_bgp_sessions_configured", len(speaker.peers), "Neighbours, configured and dynamic.")
    yield Sample("labelspan_bgp_sessions_established", up, "Neighbours whose session is up.")
    for peer in speaker.peers:
        labels = {"vrf": peer.key[0] or "default", "neighbor": format_address(peer.key[1])}
        established = peer.state is State.ESTABLISHED
        yield Sample("labelspan_bgp_session_up", established, "Whether the session is established.", labels)
        yield Sample("labelspan_bgp_session_drops_total", peer.dropped, "Sessions that ended.", labels, counter=True)
        for direction, kinds in (("in", peer.received), ("out", peer.sent)):
            for kind, count in kinds.items():
                yield Sample(
                    "labelspan_bgp_messages_total",
                    count,
                    "Messages by direction and type.",
                    {**labels, "direction": direction, "type": kind},
                    counter=True,
                )
