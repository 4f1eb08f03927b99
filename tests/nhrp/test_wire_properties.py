"""What holds of any packet and of any octets."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nhrp.wire import (
    Packet,
    WireError,
    capabilities_of,
    cies_of,
    decode,
    encode,
    is_authentic,
    mpls_of,
    nat_addresses_of,
    password_of,
)
from stack.wire import internet_checksum
from tests.nhrp.wire_values import REAL, packets

OUI = b"\x02\x4d\x46"


@given(packets())
def test_packets_come_back_as_they_were(packet):
    octets = encode(packet)
    assert decode(octets) == packet
    assert encode(decode(octets)) == octets
    assert internet_checksum(octets) == 0


def total(octets: bytes) -> Packet | None:
    """decode, held to its promise: a value that can be encoded again, or one WireError inside the octets."""
    try:
        packet = decode(octets)
    except WireError as problem:
        good = 0 <= problem.offset <= max(len(octets), 28) and problem.field and problem.rfc.startswith("RFC ")
        if not good:
            raise AssertionError(f"{problem!r} of {octets.hex()}") from problem
        return None
    again = encode(packet)
    if decode(again) != packet:
        raise AssertionError(octets.hex())
    return packet


def look_into(packet: Packet) -> None:
    """Everything that somebody may ask of a packet."""
    for extension in packet.extensions:
        is_authentic(extension, b"password", packet.source)
        capabilities_of(extension)
        for ask in (
            lambda one=extension: cies_of(one, packet),
            lambda one=extension: password_of(one, packet.source),
            lambda: mpls_of(packet, OUI),
            lambda: nat_addresses_of(packet),
        ):
            try:
                ask()
            except WireError as problem:
                if not 0 <= problem.offset <= len(encode(packet)):
                    raise AssertionError(f"{problem!r} of {packet!r}") from problem


def checked(octets: bytes) -> bytes:
    """With the right checksum, and the right length: else mutations get no further than those."""
    changed = bytearray(octets)
    changed[10:12] = min(len(changed), 0xFFFF).to_bytes(2)
    changed[12:14] = b"\0\0"
    changed[12:14] = internet_checksum(bytes(changed)).to_bytes(2)
    return bytes(changed)


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_N01_any_octets_are_a_packet_or_one_error(octets):
    total(octets)


@given(
    st.binary(min_size=28, max_size=200),
    st.sampled_from(["0001", "0002"]),
    st.sampled_from(["0800", "86dd"]),
    st.integers(1, 8),
)
@settings(max_examples=400)
def test_N01_any_octets_behind_a_right_header(octets, afn, protocol, kind):
    sizes = {"0001": 4, "0002": 16, "0800": 4, "86dd": 16}
    head = (
        bytes.fromhex(afn + protocol)
        + bytes(5)
        + octets[9:14]
        + bytes((0, octets[15]))
        + bytes((1, kind, sizes[afn], 0))
    )
    packet = total(checked(head + bytes((sizes[protocol],) * 2) + octets[22:]))
    if packet is not None:
        look_into(packet)


@pytest.mark.parametrize("octets", REAL.values(), ids=REAL)
def test_N01_every_octet_of_a_real_packet_at_every_value(octets):
    seen = 0
    for at in range(len(octets)):
        if at in range(10, 14):
            continue
        for value in {
            0,
            1,
            2,
            3,
            4,
            7,
            8,
            11,
            12,
            13,
            15,
            16,
            63,
            64,
            127,
            128,
            254,
            255,
            octets[at] ^ 1,
            octets[at] ^ 0x80,
        }:
            changed = octets[:at] + bytes((value,)) + octets[at + 1 :]
            packet = total(checked(changed))
            if packet is not None:
                look_into(packet)
                seen += 1
    assert seen > len(octets)


@pytest.mark.parametrize("octets", REAL.values(), ids=REAL)
def test_N01_a_real_packet_cut_off_anywhere(octets):
    for size in range(len(octets)):
        if total(octets[:size]) is not None:
            raise AssertionError(size)
        packet = total(checked(octets[:size])) if size >= 28 else None
        if packet is not None:
            look_into(packet)


@given(
    st.sampled_from(sorted(REAL.values())),
    st.lists(st.tuples(st.integers(0, 140), st.binary(max_size=4), st.integers(0, 4)), min_size=1, max_size=4),
)
@settings(max_examples=500)
def test_N01_real_packets_with_octets_put_in_and_taken_out(octets, changes):
    for at, new, gone in changes:
        octets = octets[:at] + new + octets[at + gone :]
    octets += bytes(max(0, 28 - len(octets)))
    packet = total(checked(octets))
    if packet is not None:
        look_into(packet)
