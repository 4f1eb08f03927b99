"""Words and columns that the commands share: times, short names of interfaces, a packet as a line of text."""

from __future__ import annotations

import re

from nhrp.wire import Cie, MplsBinding, Packet, WireError, cies_of, mpls_of, nat_addresses_of
from nhrp.wire.packet import ExtensionKind, Kind
from stack.addr import DEFAULT_VRF, format_address

__all__ = ["explain", "in_order", "label_words", "short_name", "vrf_mark"]

IMPLICIT_NULL = 3


_SHORT = {"Tunnel": "Tu", "Virtual-Access": "Vi", "Virtual-Template": "Vt", "Ethernet": "Et", "Loopback": "Lo"}
_NUMBERED = re.compile(r"([A-Za-z-]+)(\d.*)")


def short_name(interface: str) -> str:
    """`Tu0`, `Vi12`."""
    found = _NUMBERED.fullmatch(interface)
    if found is None:
        return interface
    return _SHORT.get(found[1], found[1]) + found[2]


def in_order(interface: str) -> tuple[str, tuple[int, ...]]:
    """Sorts Tunnel2 before Tunnel10."""
    return re.split(r"\d", interface, maxsplit=1)[0], tuple(map(int, re.findall(r"\d+", interface)))


def vrf_mark(vrf: str) -> str:
    """` (red)` behind a prefix of a VRF."""
    return "" if vrf == DEFAULT_VRF else f" ({vrf})"


def label_words(labels: tuple[int, ...]) -> str:
    return " ".join("implicit-null" if label == IMPLICIT_NULL else str(label) for label in labels)


# --- packets ------------------------------------------------------------------------------------------------------------


def explain(packet: Packet, oui: bytes = b"\x02\x4d\x46") -> str:
    """One line of what a packet says. A password is not among it."""
    who = f"{format_address(packet.source)} ({format_address(packet.source_nbma)}) to {format_address(packet.destination)}"
    words = [packet.kind.name.lower().replace("_", " "), f"id {packet.request_id}", who, f"hops {packet.hop_count}"]
    if packet.kind in (Kind.ERROR_INDICATION, Kind.TRAFFIC_INDICATION):
        words[1] = f"code {packet.code}"
    if packet.flags:
        words.append(f"flags {packet.flags:#06x}")
    words += [_cie(cie) for cie in packet.cies]
    words += [_extension(one.kind, one.octets) for one in packet.extensions if one.kind in _NAMED]
    try:
        words += _passed(packet)
        binding = mpls_of(packet, oui)
    except WireError as error:
        words.append(f"malformed {error.field}")
    else:
        words += [_binding(binding)] if binding is not None else []
    return ", ".join(words)


_NAMED = frozenset({ExtensionKind.AUTHENTICATION, ExtensionKind.MOBILE_AUTHENTICATION})


def _extension(kind: int, octets: bytes) -> str:
    return f"{ExtensionKind(kind).name.lower().replace('_', ' ')} ({len(octets)} octets)"


def _cie(cie: Cie) -> str:
    length = "" if cie.prefix_length in (0, 255) else f"/{cie.prefix_length}"
    where = f" {format_address(cie.protocol)}{length}" if cie.protocol else length
    nbma = f" at {format_address(cie.nbma)}" if cie.nbma else ""
    return f"CIE code {cie.code}{where}{nbma} for {cie.holding_time} s"


def _passed(packet: Packet) -> list[str]:
    """By whom a packet has come, and what is known of NATs."""
    words = []
    for one in packet.extensions:
        if one.kind in (ExtensionKind.FORWARD_TRANSIT, ExtensionKind.REVERSE_TRANSIT):
            hops = [format_address(cie.protocol) for cie in cies_of(one, packet)]
            words += [f"by {' '.join(hops)}"] if hops else []
    for cie in nat_addresses_of(packet) or ():
        words.append(f"NAT {format_address(cie.protocol)} at {format_address(cie.nbma)}")
    return words


def _binding(binding: MplsBinding) -> str:
    words = [f"MPLS {binding.role.name.lower()}"]
    if binding.context is not None:
        words.append(f"context {binding.context.label} of {format_address(binding.context.allocator)}")
    words += [f"label {label_words(one.labels)} for CIE {one.index}" for one in binding.fec]
    words += [f"next hop label {label_words((one.label,))}" for one in binding.next_hop]
    return " ".join(words)
