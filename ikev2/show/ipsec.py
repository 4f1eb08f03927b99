"""`show crypto ipsec sa`, `show crypto session`: CHILD_SAs by interface, and who stands behind them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from ikev2.engine.snapshot import ChildSnapshot, EspSnapshot, IkeSnapshot, IkeStatus, SpeakerSnapshot, WantSnapshot
from ikev2.show.sas import child_value, ike_value, status_word
from ikev2.show.words import either, end, mask_of, spi_text, transform_text
from stack.addr import format_address
from stack.esp import EspMode, Selector
from stack.ios.command import Shown
from stack.ios.times import age, clock

__all__ = ["Link", "ipsec_sas", "sessions"]

Link = Callable[[bytes], tuple[str, int]]
"""An address of ours -> the interface that has it, and its MTU ('' and 0 if there is none)."""


def _in_order(name: str) -> tuple[str, tuple[int, ...]]:
    """Sorts Tunnel2 before Tunnel10."""
    return re.split(r"\d", name, maxsplit=1)[0], tuple(map(int, re.findall(r"\d+", name)))


def _tag(interface: str) -> str:
    """IOS makes a crypto map of each protected tunnel, and calls it so."""
    return f"{interface}-head-0"


# --- show crypto ipsec sa ---------------------------------------------------------------------------------------------


def ipsec_sas(
    snapshot: SpeakerSnapshot,
    link: Link,
    vrf: Callable[[str], str],
    *,
    interface: str = "",
    peer: bytes | None = None,
    detail: bool = False,
) -> Shown:
    """`show crypto ipsec sa [interface IF | peer A] [detail]`. `vrf`: of an interface."""
    found = [
        child
        for child in snapshot.children
        if (one := either(child)) is not None and interface in ("", child.key.interface) and peer in (None, one.remote)
    ]
    found.sort(key=lambda child: (_in_order(child.key.interface), child.key.remote, child.number))
    lines: list[str] = []
    before = ""
    for child in found:
        one = either(child)
        assert one is not None
        if child.key.interface != before:
            before = child.key.interface
            lines += ["", f"interface: {before}"]
            lines += [f"    Crypto map tag: {_tag(before)}, local addr {format_address(one.local)}"]
        lines += ["", f"   protected vrf: {vrf(before) or '(none)'}", *_flow(child, one, detail=detail)]
        lines += _ends(child, one, link)
        lines += _direction("inbound", child, child.inbound, snapshot.now, detail=detail)
        lines += _direction("outbound", child, child.outbound, snapshot.now, detail=detail)
    text = "\n".join(lines) if found else "No SAs found"
    return Shown(text, [child_value(child, snapshot.now) for child in found])


def _ident(selector: Selector) -> str:
    return f"({format_address(selector.first)}/{mask_of(selector)}/{selector.protocol}/{selector.first_port})"


def _flow(child: ChildSnapshot, one: EspSnapshot, *, detail: bool) -> Iterator[str]:
    inbound, outbound = child.inbound, child.outbound
    sent = outbound.packets if outbound else 0
    taken = inbound.packets if inbound else 0
    whole = Selector(bytes(len(one.local)), b"\xff" * len(one.local))
    yield f"   local  ident (addr/mask/prot/port): {_ident(one.own[0] if one.own else whole)}"
    yield f"   remote ident (addr/mask/prot/port): {_ident(one.far[0] if one.far else whole)}"
    yield f"   current_peer {format_address(one.remote)} port {one.ports[1] or 500}"
    yield "     PERMIT, flags={origin_is_acl,}"
    yield f"    #pkts encaps: {sent}, #pkts encrypt: {sent}, #pkts digest: {sent}"
    yield f"    #pkts decaps: {taken}, #pkts decrypt: {taken}, #pkts verify: {taken}"
    yield "    #pkts compressed: 0, #pkts decompressed: 0"
    yield "    #pkts not compressed: 0, #pkts compr. failed: 0"
    yield "    #pkts not decompressed: 0, #pkts decompress failed: 0"
    failed = inbound.integrity_failures if inbound else 0
    replays = inbound.replays if inbound else 0
    refused = inbound.refused if inbound else 0
    unsent = outbound.refused if outbound else 0
    if not detail:
        yield f"    #send errors {unsent}, #recv errors {failed + replays + refused}"
        return
    yield "    #pkts no sa (send) 0, #pkts invalid sa (rcv) 0"
    yield f"    #pkts encaps failed (send) {unsent}, #pkts decaps failed (rcv) 0"
    yield f"    #pkts invalid prot (recv) 0, #pkts verify failed: {failed}"
    yield f"    #pkts invalid identity (recv) {refused}, #pkts invalid len (rcv) 0"
    yield "    #pkts replay rollover (send): 0, #pkts replay rollover (rcv) 0"
    yield f"    ##pkts replay failed (rcv): {replays}"
    yield "    #pkts tagged (send): 0, #pkts untagged (rcv): 0"
    yield "    #pkts not tagged (send): 0, #pkts not untagged (rcv): 0"
    yield "    #pkts internal err (send): 0, #pkts internal err (recv) 0"


def _ends(child: ChildSnapshot, one: EspSnapshot, link: Link) -> Iterator[str]:
    name, mtu = link(one.local)
    spi = child.outbound.spi if child.outbound else 0
    yield ""
    yield f"     local crypto endpt.: {format_address(one.local)}, remote crypto endpt.: {format_address(one.remote)}"
    yield (
        f"     plaintext mtu {max(0, one.form.room(mtu))}, path mtu {mtu}, ip mtu {mtu}, "
        f"ip mtu idb {name or child.key.interface}"
    )
    yield f"     current outbound spi: {spi_text(spi)}({spi})"
    yield f"     PFS (Y/N): {'Y' if child.group else 'N'}, DH group: {f'group{child.group}' if child.group else 'none'}"


def _direction(word: str, child: ChildSnapshot, one: EspSnapshot | None, now: float, *, detail: bool) -> Iterator[str]:
    yield ""
    yield f"     {word} esp sas:"
    if one is not None:
        mode = "Transport" if one.form.mode is EspMode.TRANSPORT else "Tunnel"
        settings = " ".join([mode, *["UDP-Encaps"] * one.form.udp, *["ESN"] * (one.esn and detail)])
        yield f"      spi: {spi_text(one.spi)}({one.spi})"
        yield f"        transform: {transform_text(one.form.cipher, one.form.integrity)} ,"
        yield f"        in use settings ={{{settings}, }}"
        yield (
            f"        conn id: {child.number}, flow_id: SW:{child.number}, sibling_flags 80000000, "
            f"crypto map: {_tag(child.key.interface)}"
        )
        yield from _timing(one, now)
        yield f"        IV size: {one.form.cipher.iv} bytes"
        window = f"  replay window size: {one.window}" if detail and one.window else ""
        yield f"        replay detection support: {'Y' if one.window else 'N'}{window}"
        yield "        Status: ACTIVE(ACTIVE)"
    yield ""
    yield f"     {word} ah sas:"
    yield ""
    yield f"     {word} pcp sas:"


def _timing(one: EspSnapshot, now: float) -> Iterator[str]:
    seconds = max(0, int(one.hard_time - now)) if one.hard_time else 0
    if one.hard_octets:
        kilobytes = max(0, one.hard_octets - one.octets) // 1024
        yield f"        sa timing: remaining key lifetime (k/sec): ({kilobytes}/{seconds})"
    else:
        yield f"        sa timing: remaining key lifetime (sec): {seconds}"
        yield "        Kilobyte Volume Rekey has been disabled"


# --- show crypto session ----------------------------------------------------------------------------------------------

_CODES = (
    "Code: C - IKE Configuration mode, D - Dead Peer Detection     ",
    "K - Keepalives, N - NAT-traversal, T - cTCP encapsulation     ",
    "X - IKE Extended Authentication, F - IKE Fragmentation",
    "R - IKE Auto Reconnect, U - IKE Dynamic Route Update",
    "S - SIP VPN",
    "",
)


def sessions(
    snapshot: SpeakerSnapshot, vrf: Callable[[str], str], *, remote: bytes | None = None, detail: bool = False
) -> Shown:
    """`show crypto session [remote A] [detail]`: by neighbour, those that are wanted and down too."""
    lines = ["Crypto session current status", ""]
    if detail:
        lines += _CODES
    value = []
    for interface, address, ike, children, want in _sessions(snapshot):
        if remote not in (None, address):
            continue
        status = status_word(ike, children)
        lines += _session(snapshot, (interface, address), ike, children, want, detail=detail, vrf=vrf)
        value.append(
            {
                "interface": interface,
                "session-status": status,
                "remote-address": format_address(address) if address else "",
                "reason": want.state if want is not None and not want.up else "",
                "ike": None if ike is None else ike_value(ike, snapshot.now),
                "child-sas": [child_value(child, snapshot.now) for child in children],
            }
        )
    return Shown("\n".join(lines), value)


Session = tuple[str, bytes, IkeSnapshot | None, list[ChildSnapshot], WantSnapshot | None]


def _sessions(snapshot: SpeakerSnapshot) -> Iterator[Session]:
    """(interface, peer, its newest IKE SA, CHILD_SAs, what was wanted)."""
    children: dict[tuple[str, bytes], list[ChildSnapshot]] = {}
    for child in snapshot.children:
        one = either(child)
        if one is not None:
            children.setdefault((child.key.interface, one.remote), []).append(child)
    wants = {(want.access or want.key.interface, want.remote): want for want in snapshot.wants}
    ikes = {ike.number: ike for ike in snapshot.ikes}
    ends: dict[tuple[str, bytes], list[IkeSnapshot]] = {}
    for ike in snapshot.ikes:
        ends.setdefault((ike.interface, ike.ends.remote), []).append(ike)
    told = {child.ike for child in snapshot.children}
    for key in sorted({*children, *wants}, key=lambda key: (_in_order(key[0]), key[1])):
        mine = children.get(key, [])
        made = [ikes[child.ike] for child in mine if child.ike in ikes]
        found = made or ends.get(key, [])
        newest = max(found, key=lambda ike: ike.number, default=None)
        if newest is not None:
            told.add(newest.number)
        yield *key, newest, mine, wants.get(key)
    for ike in ikes.values():
        if ike.number not in told:
            yield ike.interface or "(none)", ike.ends.remote, ike, [], None


def _session(
    snapshot: SpeakerSnapshot,
    who: tuple[str, bytes],
    ike: IkeSnapshot | None,
    children: list[ChildSnapshot],
    want: WantSnapshot | None,
    *,
    detail: bool,
    vrf: Callable[[str], str],
) -> Iterator[str]:
    interface, address = who
    yield f"Interface: {interface}"
    if ike is not None:
        yield f"Profile: {ike.profile}"
    since = min((child.since for child in children), default=None)
    if detail and since is not None:
        yield f"Uptime: {age(snapshot.now - since)}"
    if detail and ike is not None and ike.assigned:
        yield f"Assigned address: {format_address(ike.assigned[0])}"
    yield f"Session status: {status_word(ike, children)}     "
    port = ike.ends.remote_port if ike is not None else 500
    inner = vrf(interface)
    front = ike.ends.vrf if ike is not None else want.vrf if want is not None else ""
    vrfs = f" fvrf: {front or '(none)'} ivrf: {inner or '(none)'}" if detail else " "
    yield f"Peer: {format_address(address)} port {port}{vrfs}"
    if detail:
        identity = ike.remote_identity if ike else next((child.identity for child in children), "")
        yield f"      Phase1_id: {identity or '(none)'}"
        yield f"      Desc: {want.state if want is not None and not want.up else '(none)'}"
    if ike is not None:
        yield f"  Session ID: {ike.number}  "
        yield from _ike_line(ike, snapshot.now, detail=detail)
    yield from _flows(children, want, snapshot.now, detail=detail)
    yield ""


def _ike_line(ike: IkeSnapshot, now: float, *, detail: bool) -> Iterator[str]:
    ends = ike.ends
    state = "Inactive" if ike.status is IkeStatus.NEGOTIATING else "Active"
    yield f"  IKEv2 SA: local {end(ends.local, ends.local_port)} remote {end(ends.remote, ends.remote_port)} {state} "
    if detail:
        codes = (
            ("C", bool(ike.assigned or ike.pushed)),
            ("D", ike.dpd is not None),
            ("N", ike.nat_local or ike.nat_remote),
            ("F", ike.fragmentation),
            ("U", True),
        )
        letters = "".join(letter for letter, there in codes if there)
        left = ike.lifetime - (now - ike.established) if ike.established is not None else 0.0
        yield f"          Capabilities:{letters} connid:{ike.number} lifetime:{clock(left)}"


def _flows(children: Iterable[ChildSnapshot], want: WantSnapshot | None, now: float, *, detail: bool) -> Iterator[str]:
    children = list(children)
    for child in children:
        one = either(child)
        if one is None or not one.own or not one.far:
            continue
        yield f"  IPSEC FLOW: permit {one.own[0].protocol} {_host(one.own[0])} {_host(one.far[0])} "
        count = (child.inbound is not None) + (child.outbound is not None)
        yield f"        Active SAs: {count}, origin: crypto map"
        if detail:
            yield f"        Inbound:  #pkts dec'ed {_packets(child.inbound, now)}"
            yield f"        Outbound: #pkts enc'ed {_packets(child.outbound, now)}"
    if not children and want is not None:
        ours, theirs = format_address(want.local), format_address(want.remote)
        yield f"  IPSEC FLOW: permit 47 host {ours} host {theirs} "
        yield "        Active SAs: 0, origin: crypto map"


def _host(selector: Selector) -> str:
    if selector.first == selector.last:
        return f"host {format_address(selector.first)}"
    return f"{format_address(selector.first)}/{mask_of(selector)}"


def _packets(one: EspSnapshot | None, now: float) -> str:
    if one is None:
        return "0 drop 0 life (KB/Sec) 0/0"
    dropped = one.integrity_failures + one.replays + one.refused
    kilobytes = str(max(0, one.hard_octets - one.octets) // 1024) if one.hard_octets else "KB Vol Rekey Disabled"
    seconds = max(0, int(one.hard_time - now)) if one.hard_time else 0
    return f"{one.packets} drop {dropped} life (KB/Sec) {kilobytes}/{seconds}"
