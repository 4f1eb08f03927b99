"""Classic BPF programs for sockets: which frames a packet socket is given. See bpf(4), socket(7) SO_ATTACH_FILTER."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection, Iterable

from stack.addr import Prefix

__all__ = [
    "accept_all",
    "attach",
    "esp_in_udp",
    "labelled_filter",
    "marked",
    "reject_all",
    "reject_devices",
    "reject_far",
    "untagged_filter",
    "vlan_filter",
]

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand."""

_SO_ATTACH_FILTER = 26
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30
_AND, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY, _RETURN = 0x54, 0x15, 0x35, 0x45, 0x06
_LOAD_LENGTH, _SUBTRACT_X = 0x80, 0x1C
_INDEX_HEADER = 0xB1
"""X becomes four times the low half of an octet: the length of the IPv4 header there."""
_LOAD_WORD_X, _LOAD_HALF_X = 0x40, 0x48

# Ancillary loads (include/uapi/linux/filter.h): facts about a packet that its octets do not hold.
_ANCILLARY = 0xFFFFF000
_PACKET_TYPE, _IFINDEX, _VLAN_TAG, _VLAN_PRESENT, _VLAN_TPID = (_ANCILLARY + n for n in (4, 8, 44, 48, 60))
_NETWORK_HEADER = 0xFFF00000
"""Added to an offset: from the IP header on, wherever the socket's octets begin."""
_OTHER_HOST = 3
_VLAN_ID = 0x0FFF

_WHOLE = 0x40000
_ACCEPT: Instruction = (_RETURN, 0, 0, _WHOLE)
_REJECT: Instruction = (_RETURN, 0, 0, 0)

_DOT1Q, _MPLS, _ARP, _IPV6 = 0x8100, 0x8847, 0x0806, 0x86DD
_ICMPV6, _ROUTER_SOLICITATION, _REDIRECT = 58, 133, 137

# A frame for another station's MAC is seen in promiscuous mode (a capture runs): it is not for this router.
_FOR_US: list[Instruction] = [(_LOAD_WORD, 0, 0, _PACKET_TYPE), (_JUMP_EQUAL, 0, 1, _OTHER_HOST), _REJECT]


def attach(sock: socket.socket, program: list[Instruction]) -> None:
    """Give `sock` its filter; one it had is replaced."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


def reject_all() -> list[Instruction]:
    return [_REJECT]


def accept_all() -> list[Instruction]:
    return [_ACCEPT]


def untagged_filter() -> list[Instruction]:
    """Frames without an 802.1Q tag, and priority-tagged ones (VLAN 0), which are untagged by IEEE 802.1Q 6.9.1."""
    return [
        *_FOR_US,
        (_LOAD_WORD, 0, 0, _VLAN_PRESENT),
        (_JUMP_EQUAL, 3, 0, 0),
        (_LOAD_WORD, 0, 0, _VLAN_TAG),
        (_AND, 0, 0, _VLAN_ID),
        (_JUMP_EQUAL, 0, 1, 0),
        _ACCEPT,
        _REJECT,
    ]


def vlan_filter(vlan: int) -> list[Instruction]:
    """Frames of one VLAN. The kernel has taken the tag off and keeps it beside the frame, where a filter sees it."""
    return [
        *_FOR_US,
        (_LOAD_WORD, 0, 0, _VLAN_PRESENT),
        (_JUMP_EQUAL, 6, 0, 0),
        (_LOAD_WORD, 0, 0, _VLAN_TPID),
        (_JUMP_EQUAL, 0, 4, _DOT1Q),
        (_LOAD_WORD, 0, 0, _VLAN_TAG),
        (_AND, 0, 0, _VLAN_ID),
        (_JUMP_EQUAL, 0, 1, vlan),
        _ACCEPT,
        _REJECT,
    ]


def labelled_filter() -> list[Instruction]:
    """Untagged frames of EtherType 0x8847 for us, ARP, and IPv6 neighbour discovery (ICMPv6 133 to 137)."""
    return [
        *_FOR_US,
        (_LOAD_WORD, 0, 0, _VLAN_PRESENT),
        (_JUMP_EQUAL, 0, 9, 0),
        (_LOAD_HALF, 0, 0, 12),
        (_JUMP_EQUAL, 8, 0, _MPLS),
        (_JUMP_EQUAL, 7, 0, _ARP),
        (_JUMP_EQUAL, 0, 5, _IPV6),
        (_LOAD_BYTE, 0, 0, 20),
        (_JUMP_EQUAL, 0, 3, _ICMPV6),
        (_LOAD_BYTE, 0, 0, 54),
        (_JUMP_AT_LEAST, 0, 1, _ROUTER_SOLICITATION),
        (_JUMP_AT_LEAST, 0, 1, _REDIRECT + 1),
        _REJECT,
        _ACCEPT,
    ]


def reject_far(rules: Iterable[tuple[Prefix, int]], octets: int) -> list[Instruction]:
    """For a TCP socket: packets of a source that came in with a smaller TTL, or hop limit, than its rule allows (RFC 5082
    3). The most specific rule counts; rules of addresses of another size than `octets` are left out. It ends by accepting.
    """
    program: list[Instruction] = []
    for prefix, least in sorted(rules, key=lambda rule: -rule[0].length):
        if len(prefix.network) == octets:
            ttl, source = (8, 12) if octets == 4 else (7, 8)
            verdict = [(_LOAD_BYTE, 0, 0, _NETWORK_HEADER + ttl), (_JUMP_AT_LEAST, 0, 1, least), _ACCEPT, _REJECT]
            program += [*_unless_from(prefix, source, len(verdict)), *verdict]
    return [*program, _ACCEPT]


def _unless_from(prefix: Prefix, source: int, skipped: int) -> list[Instruction]:
    """Jump over the `skipped` instructions that follow unless the packet's source is in `prefix`."""
    words: list[tuple[int, int, int]] = []
    for at in range(0, len(prefix.network), 4):
        bits = min(max(prefix.length - at * 8, 0), 32)
        if bits:
            words.append((source + at, bits, int.from_bytes(prefix.network[at : at + 4])))
    program: list[Instruction] = []
    for at, bits, value in reversed(words):
        load = [(_LOAD_WORD, 0, 0, _NETWORK_HEADER + at)]
        mask = [(_AND, 0, 0, 0xFFFFFFFF << 32 - bits & 0xFFFFFFFF)] if bits < 32 else []
        program = [*load, *mask, (_JUMP_EQUAL, 0, len(program) + skipped, value), *program]
    return program


def marked() -> list[Instruction]:
    """For a UDP socket, whose octets begin with the UDP header: datagrams that begin with the non-ESP marker, four octets of
    zero (RFC 3948 2.2). One that is too short to load ends the program, as a rejection."""
    return [(_LOAD_WORD, 0, 0, 8), (_JUMP_EQUAL, 0, 1, 0), _ACCEPT, _REJECT]


def esp_in_udp(port: int) -> list[Instruction]:
    """For a raw UDP socket, whose octets begin with the IPv4 header: whole datagrams to `port` of one octet at least (a NAT
    keepalive, RFC 3948 2.3) that do not begin with the non-ESP marker. Octets are counted by IP: a UDP length may lie."""
    return [
        (_LOAD_HALF, 0, 0, 6),
        (_JUMP_ANY, 9, 0, 0x3FFF),  # more fragments, or an offset
        (_INDEX_HEADER, 0, 0, 0),
        (_LOAD_HALF_X, 0, 0, 2),
        (_JUMP_EQUAL, 0, 6, port),
        (_LOAD_LENGTH, 0, 0, 0),
        (_SUBTRACT_X, 0, 0, 0),
        (_JUMP_AT_LEAST, 0, 3, 9),
        (_JUMP_AT_LEAST, 0, 3, 12),
        (_LOAD_WORD_X, 0, 0, 8),
        (_JUMP_EQUAL, 0, 1, 0),
        _REJECT,
        _ACCEPT,
    ]


def reject_devices(indexes: Collection[int], rest: list[Instruction] | None = None) -> list[Instruction]:
    """All packets that came in by one of these devices; `rest` judges the others (it is accepting, unless given). The kernel
    takes at most 4096 instructions, two a device (E2BIG, EINVAL)."""
    program: list[Instruction] = [(_LOAD_WORD, 0, 0, _IFINDEX)] if indexes else []
    for index in indexes:
        program += [(_JUMP_EQUAL, 0, 1, index), _REJECT]
    return [*program, *(rest or [_ACCEPT])]
