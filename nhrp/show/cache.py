"""`show ip nhrp`, `show ipv6 nhrp`: the mapping entries, and the resolutions that wait for an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nhrp.engine.snapshot import BindingKind, BindingSnapshot, SpeakerSnapshot
from nhrp.show.words import in_order, label_words, short_name, vrf_mark
from stack.addr import Afi, Prefix, format_address
from stack.ios.command import Shown
from stack.ios.times import age, clock

__all__ = ["KINDS", "binding_value", "bindings", "brief", "chosen"]

Bindings = Iterable[BindingSnapshot]

_INCOMPLETE = (BindingKind.INCOMPLETE, BindingKind.NEGATIVE)
_INSTALLED = frozenset({"rib", "nho"})

KINDS: dict[str, Callable[[BindingSnapshot], bool]] = {
    "dynamic": lambda one: one.kind is BindingKind.DYNAMIC,
    "static": lambda one: one.kind is BindingKind.STATIC,
    "local": lambda one: one.kind is BindingKind.LOCAL,
    "incomplete": lambda one: one.kind in _INCOMPLETE,
    "shortcut": lambda one: bool(_INSTALLED.intersection(one.flags)),
}
"""The word behind `show ip nhrp` -> the entries it means."""


def chosen(
    snapshot: SpeakerSnapshot,
    afi: Afi,
    *,
    vrf: str | None = None,
    address: bytes | None = None,
    interface: str = "",
    kind: str = "",
) -> list[BindingSnapshot]:
    """The entries that a command means, in order; `vrf` None: of all. An `address`: entries whose prefix it is in."""
    found = [
        one
        for one in (*snapshot.bindings, *_unanswered(snapshot))
        if one.prefix.afi == afi
        and (vrf is None or one.vrf == vrf)
        and (address is None or one.prefix.covers(address))
        and interface in {"", one.interface}
        and (not kind or KINDS[kind](one))
    ]
    return sorted(found, key=lambda one: (one.vrf, one.prefix, in_order(one.interface), one.kind.value))


def _unanswered(snapshot: SpeakerSnapshot) -> Iterator[BindingSnapshot]:
    """Resolutions that wait, as IOS has them: entries that are not complete."""
    told = {(one.vrf, one.prefix) for one in snapshot.bindings if one.kind in _INCOMPLETE}
    for one in snapshot.pending:
        prefix = Prefix.host(one.destination)
        if (one.vrf, prefix) not in told:
            yield BindingSnapshot(
                one.interface,
                one.vrf,
                prefix,
                BindingKind.INCOMPLETE,
                created=one.since,
                flags=("negative",),
                request_id=one.request_id,
                reason=f"no answer yet, asked {one.tries} times" if one.tries > 1 else "",
            )


def bindings(entries: Bindings, now: float, *, detail: bool = False, marked: bool = True) -> Shown:
    """`show ip nhrp [detail]`. `marked`: with the names of VRFs, which a command that names one does not repeat."""
    rows = list(entries)
    lines = [line for one in rows for line in _lines(one, now, detail=detail, marked=marked)]
    return Shown("\n".join(lines), [binding_value(one, now) for one in rows])


def _lines(one: BindingSnapshot, now: float, *, detail: bool, marked: bool) -> Iterator[str]:
    via = f" via {format_address(one.next_hop)}" if one.next_hop else ""
    yield f"{one.prefix}{vrf_mark(one.vrf) if marked else ''}{via}"
    ends = "never expire" if one.expires is None else f"expire {age(one.expires - now)}"
    if one.expires is None and one.kind in _INCOMPLETE:
        ends = "expire when it is answered"
    yield f"   {one.interface} created {age(now - one.created)}, {ends}"
    # IOS has its own prefixes, and those of NAKs, under the types that made them.
    kind = {BindingKind.LOCAL: "dynamic", BindingKind.NEGATIVE: "incomplete"}.get(one.kind, one.kind.value)
    yield f"   Type: {kind}, Flags: {' '.join(_flags(one))}".rstrip()
    if one.nbma:
        yield f"   NBMA address: {format_address(one.nbma)}"
    if one.claimed:
        yield f"    (Claimed NBMA address: {format_address(one.claimed)})"
    if detail and one.kind not in _INCOMPLETE:
        yield "   Preference: 255"
    if one.labels:
        yield f"   Label Info: outgoing {label_words(one.labels)}"
    if one.local_label is not None:
        yield f"   Label Info: local {label_words((one.local_label,))}"
    if one.kind is BindingKind.LOCAL:
        yield "    (no-socket)"
    if detail:
        number = f" Request ID: {one.request_id}" if one.request_id else ""
        yield from (f"  Requester: {format_address(overlay)}{number}" for overlay, _ in one.requesters)
        yield from _times(one)
    if one.reason:
        yield f"   Reason: {one.reason}"


def _times(one: BindingSnapshot) -> Iterator[str]:
    """How long it took (ours, not IOS's)."""
    if one.took is None:
        return
    took = f"{one.took * 1e3:.1f} ms"
    if one.kind is not BindingKind.LOCAL:
        yield f"   Resolved in {took}"
    elif one.waited is None:
        yield f"   Answered in {took}"
    else:
        yield f"   Answered in {took}, {one.waited * 1e3:.1f} ms for the tunnel"


def _flags(one: BindingSnapshot) -> list[str]:
    implied = {BindingKind.LOCAL: "local", BindingKind.INCOMPLETE: "negative", BindingKind.NEGATIVE: "negative"}
    flag = implied.get(one.kind)
    return [*one.flags, *([flag] if flag is not None and flag not in one.flags else [])]


# --- brief --------------------------------------------------------------------------------------------------------------

_STARS = "*" * 76
_BRIEF = (
    _STARS,
    "    NOTE: Link-Local, No-socket and Incomplete entries are not displayed",
    _STARS,
    "Legend: Type --> S - Static, D - Dynamic",
    "        Flags --> u - unique, r - registered, e - temporary, c - claimed",
    "        a - authoritative, t - route",
    "=" * 76,
    "",
    f"{'Intf':<8} {'NextHop Address':<43} {'':<6} NBMA Address",
    f"{'':<8} {'Target Network':<43} T/Flag",
    f"{'-' * 8} {'-' * 43} {'-' * 6} {'-' * 16}",
)


def brief(entries: Bindings, now: float) -> Shown:
    """`show ip nhrp brief`: two lines an entry that packets can follow."""
    rows = [one for one in entries if one.kind in (BindingKind.STATIC, BindingKind.DYNAMIC)]
    lines = list(_BRIEF)
    for one in rows:
        letters = [
            *("u" if "unique" in one.flags else ""),
            *("r" if "registered" in one.flags else ""),
            *("c" if one.claimed else ""),
            *("a" if "authoritative" in one.flags else ""),
            *("t" if _INSTALLED.intersection(one.flags) else ""),
        ]
        kind = "S" if one.kind is BindingKind.STATIC else "D"
        lines.append(
            f"{short_name(one.interface):<8} {format_address(one.next_hop):<43} {'':<6} {format_address(one.nbma)}"
        )
        target = f"{one.prefix}{vrf_mark(one.vrf)}"
        lines.append(f"{'':<8} {target:<43} {kind}/{''.join(letters)}")
    return Shown("\n".join(lines), [binding_value(one, now) for one in rows])


def binding_value(one: BindingSnapshot, now: float) -> dict[str, Any]:
    """An entry as plain values."""
    return {
        "prefix": str(one.prefix),
        "vrf": one.vrf,
        "interface": one.interface,
        "type": one.kind.value,
        "next-hop": format_address(one.next_hop) if one.next_hop else "",
        "nbma-address": format_address(one.nbma) if one.nbma else "",
        "claimed-nbma-address": format_address(one.claimed) if one.claimed else "",
        "age-seconds": round(now - one.created, 3),
        "expires-seconds": None if one.expires is None else max(0, round(one.expires - now, 3)),
        "expires": "never" if one.expires is None else clock(one.expires - now),
        "flags": _flags(one),
        "labels": list(one.labels),
        "local-label": one.local_label,
        "requesters": [
            {"address": format_address(overlay), "nbma-address": format_address(nbma)}
            for overlay, nbma in one.requesters
        ],
        "request-id": one.request_id,
        "took-seconds": None if one.took is None else round(one.took, 6),
        "tunnel-seconds": None if one.waited is None else round(one.waited, 6),
        "reason": one.reason,
    }
