"""`show dmvpn`: the far ends of tunnels that NHRP knows, by interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import frozen

from nhrp.engine.snapshot import BindingKind, BindingSnapshot, PeerSnapshot, SpeakerSnapshot
from nhrp.show.cache import binding_value
from nhrp.show.servers import nhs_line
from nhrp.show.words import in_order, vrf_mark
from stack.addr import Afi, format_address
from stack.events import Interface, SaKey, SaRow, TunnelRow
from stack.ios.command import Shown
from stack.ios.times import age

__all__ = ["Setting", "dmvpn"]

_LEGEND = (
    "Legend: Attrb --> S - Static, D - Dynamic, I - Incomplete",
    "        N - NATed, L - Local, X - No Socket",
    "        T1 - Route Installed, T2 - Nexthop-override",
    "        # Ent --> Number of NHRP entries with same NBMA peer",
    "        NHS Status: E --> Expecting Replies, R --> Responding, W --> Waiting",
    "        UpDn Time --> Up or Down Time for a Tunnel",
    "=" * 74,
)

_LETTERS = {
    BindingKind.STATIC: "S",
    BindingKind.DYNAMIC: "D",
    BindingKind.LOCAL: "DL",
    BindingKind.INCOMPLETE: "I",
    BindingKind.NEGATIVE: "I",
}


@frozen
class Setting:
    """What the node says of its interfaces: the interface, its tunnel ends, its security associations, its NHRP role."""

    interfaces: Mapping[str, Interface]
    tunnels: Mapping[str, TunnelRow]
    sas: Mapping[SaKey, SaRow]
    shortcut: Callable[[str], bool] = lambda _interface: False


@frozen
class _Row:
    """A line: one entry of a far end. `target`: what it leads to."""

    overlay: bytes
    attributes: str
    target: str


@frozen
class _End:
    """A far end with its lines, and all entries that go there (`entries` of them)."""

    peer: PeerSnapshot
    rows: tuple[_Row, ...]
    entries: int


def dmvpn(
    snapshot: SpeakerSnapshot, setting: Setting, now: float, *, interface: str = "", detail: bool = False
) -> Shown:
    """`show dmvpn [interface NAME] [detail]`."""
    lines, value = list(_LEGEND), []
    entries = _by_end(snapshot)
    names = sorted({*snapshot.networks, *(peer.interface for peer in snapshot.peers)}, key=in_order)
    for name in names:
        if interface not in {"", name}:
            continue
        peers = [peer for peer in snapshot.peers if peer.interface == name]
        for afi in Afi:
            ends = [end for peer in peers if (end := _end(peer, entries.get((name, peer.nbma), []), afi)).rows]
            if ends:
                kind = _type(snapshot, setting, name)
                lines += ["", *(_detailed if detail else _plain)(snapshot, setting, name, afi, kind, ends, now)]
                value.append(_value(name, afi, kind, ends, entries, setting, now))
    if detail:
        lines += ["", *_sessions(snapshot, setting, names, interface, now)]
    return Shown("\n".join(lines), value)


def _by_end(snapshot: SpeakerSnapshot) -> dict[tuple[str, bytes], list[BindingSnapshot]]:
    found: dict[tuple[str, bytes], list[BindingSnapshot]] = {}
    for one in snapshot.bindings:
        if one.kind is not BindingKind.LOCAL:
            found.setdefault((one.interface, one.nbma), []).append(one)
    return found


def _end(peer: PeerSnapshot, entries: list[BindingSnapshot], afi: Afi) -> _End:
    """The entries that lead to a far end; one of which nothing is entered has its overlay addresses only."""
    size = 4 if afi == Afi.IPV4 else 16
    mine = [one for one in entries if one.prefix.afi == afi]
    rows = [
        _Row(one.next_hop or one.prefix.network, _attributes(one, peer), f"{one.prefix}{vrf_mark(one.vrf)}")
        for one in sorted(mine, key=lambda one: (-one.prefix.length, one.prefix, one.vrf))
    ]
    told = {row.overlay for row in rows}
    rows += [
        _Row(overlay, peer.attributes or "D", f"{format_address(overlay)}/{size * 8}")
        for overlay in peer.overlays
        if len(overlay) == size and overlay not in told
    ]
    return _End(peer, tuple(rows), len(rows))


def _attributes(one: BindingSnapshot, peer: PeerSnapshot) -> str:
    letters = _LETTERS[one.kind] + ("N" if one.claimed else "") + ("X" if "X" in peer.attributes else "")
    return letters + ("T2" if "nho" in one.flags else "T1" if "rib" in one.flags else "")


def _type(snapshot: SpeakerSnapshot, setting: Setting, name: str) -> str:
    """What this node is there: who registers is a spoke, and who makes shortcuts; who is registered with is a hub."""
    if any(one.interface == name for one in snapshot.nhs):
        return "Spoke"
    interface = setting.interfaces.get(name)
    registered = any("registered" in one.flags for one in snapshot.bindings if one.interface == name)
    if registered or (interface is not None and interface.row.redirect):
        return "Hub"
    return "Spoke" if setting.shortcut(name) else "Unknown"


# --- text ---------------------------------------------------------------------------------------------------------------

_HEADER = "# Ent  Peer NBMA Addr Peer Tunnel Add State  UpDn Tm Attrb"
_RULER = "----- --------------- --------------- ----- -------- -----"


def _plain(
    _snapshot: SpeakerSnapshot, _setting: Setting, name: str, afi: Afi, kind: str, ends: list[_End], now: float
) -> Iterator[str]:
    yield f"Interface: {name}, {_version(afi)} NHRP Details"
    yield f"Type:{kind}, NHRP Peers:{len(ends)},"
    yield ""
    if afi == Afi.IPV6:
        yield from _sixes(ends, now)
        return
    yield f" {_HEADER}"
    yield f" {_RULER}"
    yield from (f" {line}" for line, _ in _fours(ends, now))


def _version(afi: Afi) -> str:
    return "IPv4" if afi == Afi.IPV4 else "IPv6"


def _fours(ends: list[_End], now: float) -> Iterator[tuple[str, _Row]]:
    """Lines of IPv4 overlay addresses; of the second entry of a far end on, without that one's address."""
    for end in ends:
        lead = f"{end.entries:>5} {format_address(end.peer.nbma):<15}"
        for row in end.rows:
            state = f"{end.peer.state:>5} {_time(end.peer, now):>8}"
            yield f"{lead} {format_address(row.overlay):>15} {state} {row.attributes:>5}", row
            lead = " " * 21


def _sixes(ends: list[_End], now: float) -> Iterator[str]:
    number = 0
    for end in ends:
        for row in end.rows:
            number += 1
            yield f"    {number}.Peer NBMA Address: {format_address(end.peer.nbma)}"
            yield f"        Tunnel IPv6 Address: {format_address(row.overlay)}"
            yield f"        IPv6 Target Network: {row.target}"
            time = _time(end.peer, now)
            yield (
                f"        # Ent: {end.entries}, Status: {end.peer.state}, UpDn Time: {time}, "
                f"Cache Attrib: {row.attributes}"
            )


def _time(peer: PeerSnapshot, now: float) -> str:
    return "never" if not peer.up and not peer.since else age(now - peer.since)


def _detailed(
    snapshot: SpeakerSnapshot, setting: Setting, name: str, afi: Afi, kind: str, ends: list[_End], now: float
) -> Iterator[str]:
    yield from _interface(setting, name, afi)
    servers = [one for one in snapshot.nhs if one.interface == name and len(one.address) in {0, 4 if afi == 1 else 16}]
    if servers:
        yield ""
        yield f"{_version(afi)} NHS:"
        yield from (nhs_line(one) for one in servers)
    yield f"Type:{kind}, Total NBMA Peers (v4/v6): {len(ends)}"
    yield ""
    if afi == Afi.IPV6:
        yield from _sixes(ends, now)
        return
    yield f"{_HEADER}    Target Network"
    yield f"{_RULER} -----------------"
    yield from (f"{line} {row.target:>17}" for line, row in _fours(ends, now))
    reasons = {one.reason for one in snapshot.bindings if one.interface == name and one.reason}
    yield from (f"Reason: {reason}" for reason in sorted(reasons))


def _interface(setting: Setting, name: str, afi: Afi) -> Iterator[str]:
    interface, tunnel = setting.interfaces.get(name), setting.tunnels.get(name)
    if interface is None:
        yield f"Interface {name} is gone"
        return
    size = 4 if afi == Afi.IPV4 else 16
    own = next((format_address(one) for one in interface.addresses if len(one) == size), "unassigned")
    state = "up/up" if interface.up else "up/down" if interface.row.admin_up else "administratively down/down"
    yield f'Interface {name} is {state}, Addr. is {own}, VRF "{interface.vrf}"'
    if tunnel is not None:
        far = format_address(tunnel.remote) if tunnel.remote else "Multipoint"
        yield f'   Tunnel Src./Dest. addr: {format_address(tunnel.local)}/{far}, Tunnel VRF "{tunnel.vrf}"'
        mode = "GRE/IP" if tunnel.remote else "multi-GRE/IP"
        yield f'   Protocol/Transport: "{mode}", Protect "{tunnel.profile}"'
    yield "   Interface State Control: Disabled"
    yield "   nhrp event-publisher : Disabled"


def _sessions(snapshot: SpeakerSnapshot, setting: Setting, names: list[str], wanted: str, now: float) -> Iterator[str]:
    """The security associations under those interfaces, and the resolutions that wait."""
    yield "Crypto Session Details:"
    yield "-" * 80
    for name in names:
        if wanted not in {"", name}:
            continue
        for key, row in sorted(setting.sas.items()):
            if key.interface == name and row.access in {"", name}:  # else it is shown under the interface that was made
                remote = key.remote or (setting.tunnels[name].remote if name in setting.tunnels else b"")
                yield ""
                yield f"Interface: {name}"
                yield f"Session status: {'UP-ACTIVE' if row.up else 'DOWN'}" + ("" if row.up else f" ({row.reason})")
                yield f"Peer: {format_address(remote)}, identity: {row.identity or '(none)'}"
    yield ""
    yield "Pending DMVPN Sessions:"
    for one in snapshot.pending:
        if wanted in {"", one.interface}:
            asked = f"asked {'once' if one.tries == 1 else f'{one.tries} times'} in {age(now - one.since)}"
            yield f"  {format_address(one.destination)}{vrf_mark(one.vrf)} by {one.interface}: {asked}"


# --- values -------------------------------------------------------------------------------------------------------------


def _value(
    name: str,
    afi: Afi,
    kind: str,
    ends: list[_End],
    entries: Mapping[tuple[str, bytes], list[BindingSnapshot]],
    setting: Setting,
    now: float,
) -> dict[str, Any]:
    tunnel = setting.tunnels.get(name)
    return {
        "interface": name,
        "family": _version(afi).lower(),
        "type": kind,
        "source": format_address(tunnel.local) if tunnel is not None else "",
        "protection": tunnel.profile if tunnel is not None else "",
        "peers": [
            {
                "nbma-address": format_address(end.peer.nbma) if end.peer.nbma else "",
                "tunnel-addresses": list(dict.fromkeys(format_address(row.overlay) for row in end.rows)),
                "state": end.peer.state,
                "up": end.peer.up,
                "since-seconds": round(now - end.peer.since, 3) if end.peer.up or end.peer.since else None,
                "attributes": list(dict.fromkeys(row.attributes for row in end.rows)),
                "entries": [
                    binding_value(one, now) for one in entries.get((name, end.peer.nbma), []) if one.prefix.afi == afi
                ],
            }
            for end in ends
        ],
    }
