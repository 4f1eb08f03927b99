"""Looking into frames, read independently of the data plane: built here by hand, octet by octet."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.addr import parse_address as a
from stack.lab.frames import Seen, look

ONE, TWO, PE1, PE2 = a("10.1.1.10"), a("10.1.2.10"), a("192.0.2.1"), a("192.0.2.2")
ONE6, TWO6 = a("2001:db8:1::10"), a("2001:db8:2::10")
MACS = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01"


def v4(payload: bytes, protocol: int = 1, ends: tuple[bytes, bytes] = (ONE, TWO), options: bytes = b"") -> bytes:
    size = 20 + len(options)
    head = struct.pack(">BBHHHBBH", 0x40 | size // 4, 0, size + len(payload), 0, 0, 64, protocol, 0)
    return head + ends[0] + ends[1] + options + payload


def v6(payload: bytes, protocol: int = 58) -> bytes:
    return struct.pack(">IHBB", 0x60000000, len(payload), protocol, 64) + ONE6 + TWO6 + payload


def echo(kind: int, size: int) -> bytes:
    return struct.pack(">BBHHH", kind, 0, 0, 1, 1) + bytes(size)


def labels(*values: int) -> bytes:
    last = len(values) - 1
    return b"".join((value << 12 | (index == last) << 8 | 64).to_bytes(4) for index, value in enumerate(values))


def gre(kind: int, payload: bytes, *, checksum: bool = False, key: int | None = None, sequence: bool = False) -> bytes:
    flags = checksum << 15 | (key is not None) << 13 | sequence << 12
    options = bytes(4) * checksum + (b"" if key is None else key.to_bytes(4)) + bytes(4) * sequence
    return struct.pack(">HH", flags, kind) + options + payload


def frame(ethertype: int, payload: bytes, vlan: int | None = None) -> bytes:
    tag = b"" if vlan is None else struct.pack(">HH", 0x8100, vlan)
    return MACS + tag + ethertype.to_bytes(2) + payload


IN = (ONE, TWO)
OUT = (PE1, PE2)
INNER = v4(echo(8, 100))

CASES = [
    ("ARP", frame(0x0806, bytes(28)), Seen(0x0806)),
    ("an echo", frame(0x0800, INNER), Seen(0x0800, IN, 1, inner=IN, echo=100)),
    ("an answer", frame(0x0800, v4(echo(0, 7))), Seen(0x0800, IN, 1, inner=IN, echo=7)),
    ("behind options", frame(0x0800, v4(echo(8, 9), options=bytes(12))), Seen(0x0800, IN, 1, inner=IN, echo=9)),
    ("padded by Ethernet", frame(0x0800, v4(echo(8, 1)) + bytes(17)), Seen(0x0800, IN, 1, inner=IN, echo=1)),
    ("an ICMP error is no echo", frame(0x0800, v4(echo(11, 100))), Seen(0x0800, IN, 1, inner=IN)),
    ("TCP", frame(0x0800, v4(bytes(20), 6)), Seen(0x0800, IN, 6, inner=IN)),
    ("tagged", frame(0x0800, INNER, 10), Seen(0x0800, IN, 1, inner=IN, echo=100)),
    ("IPv6", frame(0x86DD, v6(echo(128, 140))), Seen(0x86DD, (ONE6, TWO6), 58, inner=(ONE6, TWO6), echo=140)),
    ("IPv6 answer", frame(0x86DD, v6(echo(129, 3))), Seen(0x86DD, (ONE6, TWO6), 58, inner=(ONE6, TWO6), echo=3)),
    ("IPv6 discovery", frame(0x86DD, v6(echo(135, 16))), Seen(0x86DD, (ONE6, TWO6), 58, inner=(ONE6, TWO6))),
    ("a label", frame(0x8847, labels(17) + INNER), Seen(0x8847, labels=(17,), inner=IN, echo=100)),
    ("two labels", frame(0x8847, labels(502, 17) + INNER, 5), Seen(0x8847, labels=(502, 17), inner=IN, echo=100)),
    ("labelled IPv6", frame(0x8847, labels(2, 9) + v6(echo(128, 5))), Seen(0x8847, labels=(2, 9), inner=(ONE6, TWO6), echo=5)),
    (
        "labelled GRE",
        frame(0x0800, v4(gre(0x8847, labels(17) + INNER), 47, OUT)),
        Seen(0x0800, OUT, 47, 0x8847, None, (17,), IN, 100),
    ),
    (
        "with key",
        frame(0x0800, v4(gre(0x8847, labels(17) + INNER, key=1234), 47, OUT)),
        Seen(0x0800, OUT, 47, 0x8847, 1234, (17,), IN, 100),
    ),
    (
        "with checksum, key and sequence",
        frame(0x0800, v4(gre(0x8847, labels(17, 18) + v6(echo(128, 9)), checksum=True, key=0, sequence=True), 47, OUT)),
        Seen(0x0800, OUT, 47, 0x8847, 0, (17, 18), (ONE6, TWO6), 9),
    ),
    (
        "clear IP in GRE: no label covers it",
        frame(0x0800, v4(gre(0x0800, INNER), 47, OUT)),
        Seen(0x0800, OUT, 47, 0x0800, None, (), IN, 100),
    ),
    (
        "MPLS in IP",
        frame(0x0800, v4(labels(17) + INNER, 137, OUT)),
        Seen(0x0800, OUT, 137, -1, None, (17,), IN, 100),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("octets", "seen"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_is_seen_in_a_frame(octets: bytes, seen: Seen) -> None:
    assert look(octets) == seen


@given(st.binary(max_size=120), st.sampled_from(range(len(CASES))), st.integers(0, 100), st.integers(0, 255))
def test_any_octets_give_an_answer(noise: bytes, case: int, at: int, octet: int) -> None:
    look(noise)
    whole = bytearray(CASES[case][1])
    look(bytes(whole[:at]))
    whole[at % len(whole)] = octet
    look(bytes(whole))
    look(bytes(whole[:at]) + noise)
