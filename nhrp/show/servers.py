"""`show ip nhrp nhs`, `show ip nhrp traffic`, `show ip nhrp redirect`, `show ip nhrp counters`: whom we register with, what was
sent, and what was refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

from nhrp.engine.snapshot import NhsSnapshot, SpeakerSnapshot
from nhrp.show.words import in_order
from nhrp.wire import Kind
from stack.addr import Afi, format_address
from stack.ios.command import Shown
from stack.ios.times import clock

__all__ = ["SUPPRESSED", "counters", "nhs_line", "redirects", "servers", "traffic"]

# --- next hop servers ---------------------------------------------------------------------------------------------------

_LEGEND = "Legend: E=Expecting replies, R=Responding, W=Waiting, D=Dynamic"


def servers(snapshot: SpeakerSnapshot, now: float, afi: Afi, *, interface: str = "", detail: bool = False) -> Shown:
    """`show ip nhrp nhs [INTERFACE] [detail]`."""
    size = 4 if afi == Afi.IPV4 else 16
    found = [one for one in snapshot.nhs if len(one.address) in {0, size} and interface in {"", one.interface}]
    found.sort(key=lambda one: (in_order(one.interface), one.priority, one.address))
    lines = [_LEGEND]
    for name, rows in groupby(found, key=lambda one: one.interface):
        lines += [f"{name}:", *(line for one in rows for line in _server(one, now, detail=detail)), ""]
    return Shown("\n".join(lines), [_plain(one, now) for one in found])


def nhs_line(one: NhsSnapshot) -> str:
    nbma = f"NBMA Address: {format_address(one.nbma)} " if one.nbma else ""
    address = format_address(one.address) if one.address else "dynamic"
    return f"{address}  {one.state:>2}  {nbma}priority = {one.priority} cluster = {one.cluster}"


def _server(one: NhsSnapshot, now: float, *, detail: bool) -> Iterator[str]:
    if not detail:
        yield nhs_line(one)
        return
    last = "" if one.last_reply is None else f" ({clock(now - one.last_reply)} ago)"
    yield f"{nhs_line(one)}  req-sent {one.requests}  req-failed {_failed(one)}  repl-recv {one.replies}{last}"
    if one.next_request is not None:
        yield f" Next registration in {clock(one.next_request - now)}"
    if one.reason:
        yield f" Reason: {one.reason}"


def _failed(one: NhsSnapshot) -> int:
    """Requests without an answer; the last one may yet have one."""
    waiting = one.requests > one.replies and one.state == "E"
    return max(0, one.requests - one.replies - waiting)


def _plain(one: NhsSnapshot, now: float) -> dict[str, Any]:
    return {
        "interface": one.interface,
        "address": format_address(one.address) if one.address else "",
        "nbma-address": format_address(one.nbma) if one.nbma else "",
        "priority": one.priority,
        "cluster": one.cluster,
        "state": one.state,
        "up": one.state == "RE",
        "requests": one.requests,
        "failed": _failed(one),
        "replies": one.replies,
        "last-reply-seconds": None if one.last_reply is None else round(now - one.last_reply, 3),
        "next-request-seconds": None if one.next_request is None else max(0, round(one.next_request - now, 3)),
        "reason": one.reason,
    }


# --- packets ------------------------------------------------------------------------------------------------------------

_ROWS = (
    (Kind.RESOLUTION_REQUEST, Kind.RESOLUTION_REPLY, Kind.REGISTRATION_REQUEST),
    (Kind.REGISTRATION_REPLY, Kind.PURGE_REQUEST, Kind.PURGE_REPLY),
    (Kind.ERROR_INDICATION, Kind.TRAFFIC_INDICATION),
)
SUPPRESSED = "redirect-suppress"
"""In SpeakerSnapshot.traffic, direction `out`: redirects that were not sent, because the pair was told a short time ago."""


def traffic(snapshot: SpeakerSnapshot, interface: str = "") -> Shown:
    """`show ip nhrp traffic [interface NAME]`: packets by kind, ours and theirs. A limit of 0: there is none."""
    names = sorted({*snapshot.networks, *(name for name, _, _ in snapshot.traffic)}, key=in_order)
    lines, value = [], []
    for name in names:
        if interface not in {"", name}:
            continue
        sent, received = _counts(snapshot.traffic, name, "out"), _counts(snapshot.traffic, name, "in")
        lines += [f"{name}: Max-send limit:0Pkts/10Sec, Usage:0%", *_table("Sent", sent), *_table("Rcvd", received)]
        value.append({"interface": name, "sent": sent, "received": received})
    return Shown("\n".join(lines), value)


def _counts(packets: Mapping[tuple[str, str, str], int], interface: str, direction: str) -> dict[str, int]:
    names = [*(_key(kind) for row in _ROWS for kind in row), SUPPRESSED]
    return {name: packets.get((interface, direction, name), 0) for name in names}


def _key(kind: Kind) -> str:
    return kind.name.lower().replace("_", "-")


def _table(title: str, counts: Mapping[str, int]) -> Iterator[str]:
    yield f"   {title}: Total {sum(counts.values()) - counts[SUPPRESSED]}"
    for row in _ROWS:
        words = [f"{counts[_key(kind)]} {kind.name.replace('_', ' ').title()}" for kind in row]
        if len(words) < 3:
            words.append(f"{counts[SUPPRESSED]} Redirect Suppress")
        yield f"         {'  '.join(words)}"


# --- counters -----------------------------------------------------------------------------------------------------------


def redirects(snapshot: SpeakerSnapshot) -> Shown:
    """`show ip nhrp redirect`: redirects sent, taken, and left out, by reason."""
    return _named(snapshot.counters, lambda name: "redirect" in name, "Redirects")


def counters(snapshot: SpeakerSnapshot, failures: int = 0) -> Shown:
    """`show ip nhrp counters`: what was refused and why, and what was done."""
    held = {**snapshot.counters, **({"messages that the speaker could not take": failures} if failures else {})}
    return _named(held, lambda _name: True, "Counters")


def _named(held: Mapping[str, int], wanted: Any, title: str) -> Shown:
    rows: Iterable[tuple[str, int]] = sorted((name, count) for name, count in held.items() if wanted(name))
    rows = list(rows)
    lines = [f"{title}: {len(rows)}", *(f"  {count:>10}  {name}" for name, count in rows)]
    return Shown("\n".join(lines), dict(rows))
