"""`show crypto ikev2 sa`, `show crypto ikev2 session`: IKE SAs, and the CHILD_SAs under them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ikev2.engine.snapshot import ChildSnapshot, IkeSnapshot, IkeStatus, SpeakerSnapshot
from ikev2.show.words import cipher_words, either, end, form_words, hash_word, plain_selector, selector_text, spi_text
from stack.addr import format_address, netmask
from stack.esp import Selector
from stack.ios.command import Shown

__all__ = ["child_value", "ike_value", "of_peer", "sas", "sessions", "status_word"]

_HEADER = "Tunnel-id Local                 Remote                fvrf/ivrf            Status "


def of_peer(snapshot: SpeakerSnapshot, remote: bytes | None, local: bytes | None = None) -> list[IkeSnapshot]:
    """IKE SAs in order of their numbers, of one peer or all."""
    found = (ike for ike in snapshot.ikes if remote in (None, ike.ends.remote) and local in (None, ike.ends.local))
    return sorted(found, key=lambda ike: ike.number)


def children_of(ike: IkeSnapshot) -> list[ChildSnapshot]:
    return sorted(ike.children, key=lambda child: child.number)


# --- IKE SAs ----------------------------------------------------------------------------------------------------------------


def sas(snapshot: SpeakerSnapshot, ikes: Iterable[IkeSnapshot], *, detailed: bool = False) -> Shown:
    """`show crypto ikev2 sa [detailed]`."""
    ikes = list(ikes)
    lines = [" IPv4 Crypto IKEv2  SA ", ""]
    for ike in ikes:
        lines += [_HEADER, *_row(ike), *_terms(ike, snapshot.now)]
        lines.append(f"      CE id: {1000 + ike.number}, Session-id: {ike.number}")
        lines += _detail(ike) if detailed else [_spis(ike)]
        lines.append("")
    lines.append(" IPv6 Crypto IKEv2  SA ")
    return Shown("\n".join(lines), [ike_value(ike, snapshot.now) for ike in ikes])


def _row(ike: IkeSnapshot) -> Iterator[str]:
    local, remote = end(ike.ends.local, ike.ends.local_port), end(ike.ends.remote, ike.ends.remote_port)
    vrfs = f"{ike.ends.vrf or 'none'}/none"
    yield f"{ike.number:<9} {local:<21} {remote:<21} {vrfs:<20} {ike.status.value:<6} "


def _terms(ike: IkeSnapshot, now: float) -> Iterator[str]:
    cipher, bits = cipher_words(ike.encryption)
    yield (
        f"      Encr: {cipher}, keysize: {bits}, PRF: {hash_word(ike.prf, none='Unknown')}, "
        f"Hash: {hash_word(ike.integrity)}, DH Grp:{ike.group}, "
        f"Auth sign: {ike.auth_local or 'Unknown'}, Auth verify: {ike.auth_remote or 'Unknown'}"
    )
    if ike.additional_groups:
        yield f"      Additional key exchanges: {' '.join(map(str, ike.additional_groups))}"
    yield f"      Life/Active Time: {int(ike.lifetime)}/{_active(ike, now)} sec"


def _active(ike: IkeSnapshot, now: float) -> int:
    return max(0, int(now - (ike.since if ike.established is None else ike.established)))


def _spis(ike: IkeSnapshot) -> str:
    return f"      Local spi: {ike.local_spi.hex().upper()}       Remote spi: {ike.remote_spi.hex().upper()}"


def _pair(what: str, ours: int, theirs: int) -> str:
    local, remote = f"Local {what}:", f"Remote {what}:"
    return f"      {local:<18} {ours:<14} {remote:<19} {theirs:<10}"


def _detail(ike: IkeSnapshot) -> Iterator[str]:
    yield f"      Status Description: {ike.description or 'Negotiation done'}"
    yield _spis(ike)
    yield f"      Local id: {ike.local_identity or '(none)'}"
    yield f"      Remote id: {ike.remote_identity or '(none)'}"
    yield _pair("req msg id", ike.next_request, ike.next_expected)
    yield _pair("next msg id", ike.next_request, ike.next_expected)
    yield _pair("req queued", ike.queued, 0)
    yield _pair("window", 1, ike.window)
    if ike.dpd is None:
        yield "      DPD not configured"
    else:
        yield f"      DPD configured for {ike.dpd.interval} seconds, retry {ike.dpd.retry}"
    if ike.fragmentation:
        yield "      IETF Std Fragmentation  configured."
        yield f"      IETF Std Fragmentation MTU in use: {ike.fragmentation_mtu} bytes."
    else:
        yield "      Fragmentation not  configured."
    yield "      Dynamic Route Update: enabled"
    yield "      Extended Authentication not configured."
    yield f"      NAT-T is {_nat(ike)}"
    yield "      Cisco Trust Security SGT is disabled"
    if ike.assigned:
        yield f"      Assigned host addr: {' '.join(map(format_address, ike.assigned))}"
    yield f"      Initiator of SA : {'Yes' if ike.initiator else 'No'}"
    yield from _pushed(ike)


def _nat(ike: IkeSnapshot) -> str:
    """Where the NAT is, as we see it."""
    sides = [word for word, there in (("inside", ike.nat_local), ("outside", ike.nat_remote)) if there]
    return f"detected  {' and '.join(sides)}" if sides else "not detected"


def _pushed(ike: IkeSnapshot) -> Iterator[str]:
    yield from (f"      Pushed IP address: {format_address(address)}" for address in ike.pushed)
    if ike.def_domain:
        yield f"      Default Domain: {ike.def_domain}"
    if ike.dns:
        yield f"      DNS Primary: {' '.join(map(format_address, ike.dns))}"
    if ike.banner:
        yield f"      Banner: {ike.banner}"
    if ike.remote_subnets:
        yield "      Remote subnets:"
        for prefix in ike.remote_subnets:
            mask = netmask(prefix.length) if len(prefix.network) == 4 else f"/{prefix.length}"
            yield f"      {format_address(prefix.network)} {mask}"
    for prefix, reason in ike.refused_subnets.items():
        yield f"      Refused subnet: {prefix} ({reason})"
    yield f"      PEER TYPE: {'FlexVPN' if ike.flexvpn else ike.peer_version or 'Other'}"


def ike_value(ike: IkeSnapshot, now: float) -> dict[str, Any]:
    return {
        "number": ike.number,
        "initiator": ike.initiator,
        "status": ike.status.value,
        "description": ike.description,
        "local-address": format_address(ike.ends.local),
        "local-port": ike.ends.local_port,
        "remote-address": format_address(ike.ends.remote),
        "remote-port": ike.ends.remote_port,
        "local-spi": ike.local_spi.hex(),
        "remote-spi": ike.remote_spi.hex(),
        "profile": ike.profile,
        "local-identity": ike.local_identity,
        "remote-identity": ike.remote_identity,
        "encryption": ike.encryption,
        "integrity": ike.integrity,
        "prf": ike.prf,
        "group": ike.group,
        "additional-groups": list(ike.additional_groups),
        "auth-local": ike.auth_local,
        "auth-remote": ike.auth_remote,
        "established": ike.established is not None,
        "lifetime-seconds": ike.lifetime,
        "active-seconds": _active(ike, now),
        "dpd": None
        if ike.dpd is None
        else {"interval": ike.dpd.interval, "retry": ike.dpd.retry, "on-demand": ike.dpd.on_demand},
        "fragmentation-mtu": ike.fragmentation_mtu if ike.fragmentation else None,
        "nat": {"local": ike.nat_local, "remote": ike.nat_remote},
        "next-request": ike.next_request,
        "next-expected": ike.next_expected,
        "queued": ike.queued,
        "retransmissions": ike.retransmissions,
        "interface": ike.interface,
        "virtual-template": ike.template,
        "assigned": [format_address(one) for one in ike.assigned],
        "pushed": [format_address(one) for one in ike.pushed],
        "remote-subnets": [str(one) for one in ike.remote_subnets],
        "refused-subnets": {str(prefix): why for prefix, why in ike.refused_subnets.items()},
        "flexvpn": ike.flexvpn,
        "child-sas": [child_value(child, now) for child in children_of(ike)],
    }


# --- sessions -----------------------------------------------------------------------------------------------------------------


def status_word(ike: IkeSnapshot | None, children: Iterable[ChildSnapshot]) -> str:
    """`UP-ACTIVE`, `UP-IDLE`, `UP-NO-IKE`, `DOWN-NEGOTIATING`, `DOWN`."""
    carries = any(child.inbound or child.outbound for child in children)
    if ike is None:
        return "UP-NO-IKE" if carries else "DOWN"
    if ike.status is IkeStatus.NEGOTIATING:
        return "DOWN-NEGOTIATING"
    return "UP-ACTIVE" if carries else "UP-IDLE"


def sessions(snapshot: SpeakerSnapshot, ikes: Iterable[IkeSnapshot], *, detailed: bool = False) -> Shown:
    """`show crypto ikev2 session [detailed]`: each IKE SA with its CHILD_SAs."""
    lines = [" IPv4 Crypto IKEv2 Session ", ""]
    value = []
    for ike in ikes:
        children = children_of(ike)
        status = status_word(ike, children)
        lines.append(f"Session-id:{ike.number}, Status:{status}, IKE count:1, CHILD count:{len(children)}")
        lines += ["", _HEADER, *_row(ike), *_terms(ike, snapshot.now)]
        if detailed:
            lines += [f"      CE id: {1000 + ike.number}, Session-id: {ike.number}", *_detail(ike)]
        for child in children:
            lines += _child(child, detailed=detailed)
        lines.append("")
        value.append({"session-status": status, **ike_value(ike, snapshot.now)})
    lines.append(" IPv6 Crypto IKEv2 Session ")
    return Shown("\n".join(lines), value)


def _child(child: ChildSnapshot, *, detailed: bool) -> Iterator[str]:
    one = either(child)
    nothing: tuple[Selector, ...] = ()
    own, far = (one.own, one.far) if one is not None else (nothing, nothing)
    start = "Child sa: local selector  "
    for selector in own:
        yield start + selector_text(selector)
        start = "          local selector  "
    yield from (f"          remote selector {selector_text(selector)}" for selector in far)
    yield f"          ESP spi in/out: {_spi(child.inbound)}/{_spi(child.outbound)}  "
    if detailed and one is not None:
        cipher, bits, hmac = form_words(one.form)
        yield "          AH spi in/out: 0x0/0x0  "
        yield "          CPI in/out: 0x0/0x0  "
        yield f"          Encr: {cipher}, keysize: {bits}, esp_hmac: {hmac}"
        yield f"          ah_hmac: None, comp: IPCOMP_NONE, mode {one.form.mode.value}"


def _spi(one: Any) -> str:
    return "0x0" if one is None else spi_text(one.spi)


def child_value(child: ChildSnapshot, now: float) -> dict[str, Any]:
    """A CHILD_SA as plain values; both directions with their counters."""
    one = either(child)
    return {
        "number": child.number,
        "ike": child.ike,
        "interface": child.key.interface,
        "remote": format_address(child.key.remote) if child.key.remote else "",
        "carries": child.carries,
        "identity": child.identity,
        "ipsec-profile": child.profile,
        "pfs-group": child.group,
        "age-seconds": round(now - child.since, 3),
        "local-selectors": [plain_selector(selector) for selector in one.own] if one else [],
        "remote-selectors": [plain_selector(selector) for selector in one.far] if one else [],
        "inbound": _direction(child.inbound, now),
        "outbound": _direction(child.outbound, now),
    }


def _direction(one: Any, now: float) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "spi": one.spi,
        "cipher": one.form.cipher.text,
        "integrity": one.form.integrity.text,
        "mode": one.form.mode.value,
        "udp-encapsulation": one.form.udp,
        "esn": one.esn,
        "replay-window": one.window,
        "sequence": one.sequence,
        "packets": one.packets,
        "octets": one.octets,
        "idle-seconds": None if one.last is None else round(now - one.last, 3),
        "integrity-failures": one.integrity_failures,
        "replays": one.replays,
        "refused": one.refused,
        "remaining-octets": max(0, one.hard_octets - one.octets) if one.hard_octets else None,
        "remaining-packets": max(0, one.hard_packets - one.packets) if one.hard_packets else None,
        "remaining-seconds": max(0, round(one.hard_time - now, 3)) if one.hard_time else None,
    }
