"""The label extension: what it says, what is none of ours, what is malformed."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from nhrp.wire import (
    Capability,
    Cie,
    ContextLabel,
    DoesNotFitError,
    Extension,
    ExtensionKind,
    FecLabel,
    Kind,
    MplsBinding,
    NextHopLabel,
    Packet,
    Role,
    WireError,
    decode,
    encode,
    error_of,
    mpls_extension,
    mpls_of,
    offset_of,
)
from nhrp.wire.packet import ErrorCode
from stack.addr import RD
from stack.addr import parse_address as a
from tests.nhrp.wire_values import (
    ECHOED_REQUEST,
    REGISTRATION_CISCO,
    RESOLUTION_REPLY,
    RESOLUTION_REQUEST,
    TRAFFIC_INDICATION,
)

OUI = b"\x02\x4d\x46"
HUB = a("10.0.0.1")
CONTEXT = ContextLabel(30, HUB)
REPLY = MplsBinding(Role.REPLY, fec=(FecLabel(0, (40,)),), next_hop=(NextHopLabel(0),))

REFERENCE = [
    (
        RESOLUTION_REQUEST,
        MplsBinding(Role.REQUEST, CONTEXT, rd=bytes.fromhex("0000000100000001"), capability=1),
    ),
    (RESOLUTION_REPLY, REPLY),
    (TRAFFIC_INDICATION, MplsBinding(Role.INDICATION, CONTEXT)),
    (ECHOED_REQUEST, MplsBinding(Role.REQUEST, CONTEXT)),
]


@pytest.mark.parametrize(("octets", "binding"), REFERENCE, ids=["request", "reply", "indication", "echo"])
def test_reference_packets_say_what_they_say(octets, binding):
    assert mpls_of(decode(octets), OUI) == binding


def test_the_documents_own_reply():
    """192.168.2.0/24, label 40, 10.0.0.12, 172.16.2.1, [implicit-NULL]."""
    packet = decode(RESOLUTION_REPLY)
    extension = mpls_extension(REPLY, OUI)
    assert extension == packet.extensions[3]
    assert not extension.compulsory
    assert REPLY.fec_of(0) == (40,)
    assert REPLY.next_hop_of(0) == 3
    assert (REPLY.fec_of(1), REPLY.next_hop_of(1)) == (None, None)


def test_an_echoed_request_is_told_from_a_reply_by_its_role():
    packet = decode(ECHOED_REQUEST)
    binding = mpls_of(packet, OUI)
    assert packet.kind is Kind.RESOLUTION_REPLY
    assert binding is not None
    assert binding.role is Role.REQUEST


def with_extension(octets: bytes, *, compulsory: bool = False, cies: int = 1) -> Packet:
    vendor = Extension(ExtensionKind.VENDOR_PRIVATE, octets, compulsory)
    packet = Packet(Kind.RESOLUTION_REPLY, HUB, HUB, HUB, cies=(Cie(),) * cies, extensions=(Extension(4), vendor))
    return decode(encode(packet))


HEAD = "024d46 01 01 02 0000"


@pytest.mark.parametrize(
    "octets",
    ["", "024d46", "024d4601", "00000c 01 01 02 0000", "024d46 02 01 02 0000", "024d46 01 02 02 0000"],
    ids=["nothing", "an OUI", "a subtype", "another vendor's", "another subtype", "another version"],
)
def test_what_is_not_ours_says_nothing(octets):
    assert mpls_of(with_extension(bytes.fromhex(octets)), OUI) is None


def test_no_extension_and_another_oui():
    assert mpls_of(decode(REGISTRATION_CISCO), OUI) is None
    assert mpls_of(decode(RESOLUTION_REPLY), b"\x02\x4d\x47") is None
    assert mpls_of(evolve(decode(RESOLUTION_REPLY), extensions=(mpls_extension(REPLY, b"abc"),)), b"abc") == REPLY


def test_unknown_tlvs_are_skipped_and_a_compulsory_one_is_the_same():
    octets = bytes.fromhex(HEAD + "0063 0003 ffffff0002 0008 00010000 000281000000 0000")
    expected = MplsBinding(Role.REPLY, fec=(FecLabel(0, (40,)),))
    assert mpls_of(with_extension(octets), OUI) == expected
    assert mpls_of(with_extension(octets, compulsory=True), OUI) == expected


MALFORMED = [
    ("role 3", "024d46 01 01 03 0000", 5, "role"),
    ("no role", "024d46 01 01", 0, "header"),
    ("half a TLV", HEAD + "0002 00", 8, "TLV"),
    ("TLV past the end", HEAD + "0002 0009 00010000 00028100", 12, "TLV length"),
    ("TLV too long", HEAD + "0002 0009 00010000 00028100 00", 20, "TLV length"),
    ("FEC too short", HEAD + "0002 0004 00010000", 16, "FEC-LABEL label stack entry"),
    ("no label", HEAD + "0002 0004 00000000", 13, "FEC-LABEL count"),
    ("five labels", HEAD + "0002 0018 00050000" + "00028000" * 4 + "00028100", 13, "FEC-LABEL count"),
    ("S missing", HEAD + "0002 0008 00010000 00028000", 16, "FEC-LABEL label stack entry"),
    ("S too early", HEAD + "0002 000c 00020000 00028100 00029100", 16, "FEC-LABEL label stack entry"),
    ("implicit null to push", HEAD + "0002 0008 00010000 00003100", 16, "FEC-LABEL"),
    ("router alert", HEAD + "0002 0008 00010000 00001100", 16, "FEC-LABEL"),
    ("a CIE that is not there", HEAD + "0002 0008 01010000 00028100", 12, "FEC-LABEL CIE"),
    ("a CIE twice", HEAD + "0002 0008 00010000 00028100" * 2, 24, "FEC-LABEL CIE"),
    ("two next hop labels", HEAD + "0003 000c 00020000 00028000 00028100", 13, "NEXTHOP-LABEL count"),
    ("a reserved next hop label", HEAD + "0003 0008 00010000 0000f100", 16, "NEXTHOP-LABEL"),
    ("a reserved context", HEAD + "0001 000a 00003100 0001 0a000001", 12, "CONTEXT-LABEL"),
    ("context without S", HEAD + "0001 000a 0001e000 0001 0a000001", 12, "CONTEXT-LABEL label stack entry"),
    ("context of AFI 3", HEAD + "0001 000a 0001e100 0003 0a000001", 16, "CONTEXT-LABEL AFI"),
    ("context of AFI 2, short", HEAD + "0001 000a 0001e100 0002 0a000001", 18, "CONTEXT-LABEL allocator"),
    ("two contexts", HEAD + "0001 000a 0001e100 0001 0a000001" * 2, 26, "CONTEXT-LABEL"),
    ("VPN-ID of 6", HEAD + "0004 0006 000000000000", 12, "VPN_ID"),
    ("two RDs", HEAD + "0005 0008 0000000000000000" * 2, 24, "RD"),
    ("capability of 5", HEAD + "0006 0005 0000000001", 16, "TLV length"),
]


@pytest.mark.parametrize(
    ("octets", "offset", "field"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
def test_N01_a_malformed_binding_is_an_invalid_extension(octets, offset, field):
    packet = with_extension(bytes.fromhex(octets))
    with pytest.raises(WireError) as caught:
        mpls_of(packet, OUI)
    assert caught.value.offset == offset_of(packet.extensions[1], packet) + offset
    assert caught.value.field == f"extension MPLS binding {field}"
    assert error_of(caught.value) is ErrorCode.INVALID_EXTENSION


def test_N01_two_bindings_in_one_packet():
    packet = decode(RESOLUTION_REPLY)
    packet = evolve(packet, extensions=(*packet.extensions, mpls_extension(MplsBinding(Role.REQUEST, CONTEXT), OUI)))
    with pytest.raises(WireError, match="a second one"):
        mpls_of(packet, OUI)


def test_label_stacks_and_explicit_nulls():
    binding = MplsBinding(
        Role.REPLY,
        ContextLabel(1_048_575, a("fd00::1")),
        (FecLabel(0, (16, 17, 1_048_575, 2)), FecLabel(1, (0,))),
        (NextHopLabel(0, 0), NextHopLabel(1, 16)),
        bytes(range(7)),
        bytes(RD.parse("1:1")),
        Capability.MPLS_IN_GRE,
    )
    extension = mpls_extension(binding, OUI)
    assert mpls_of(with_extension(extension.octets, cies=2), OUI) == binding


@pytest.mark.parametrize(
    "binding",
    [
        MplsBinding(Role.REPLY, ContextLabel(16, b"")),
        MplsBinding(Role.REPLY, ContextLabel(1 << 20, HUB)),
        MplsBinding(Role.REPLY, fec=(FecLabel(0, ()),)),
        MplsBinding(Role.REPLY, fec=(FecLabel(0, (16,) * 5),)),
        MplsBinding(Role.REPLY, fec=(FecLabel(255, (16,)),)),
        MplsBinding(Role.REPLY, fec=(FecLabel(0, (-1,)),)),
        MplsBinding(Role.REPLY, next_hop=(NextHopLabel(-1),)),
        MplsBinding(Role.REPLY, rd=b"1"),
        MplsBinding(Role.REPLY, vpn_id=bytes(8)),
    ],
    ids=str,
)
def test_a_binding_that_nobody_could_read_is_an_error_of_ours(binding):
    with pytest.raises(DoesNotFitError):
        mpls_extension(binding, OUI)
    with pytest.raises(DoesNotFitError):
        mpls_extension(MplsBinding(Role.REPLY), b"\0\0")


labels = st.integers(16, (1 << 20) - 1) | st.sampled_from([0, 2])
stacks = st.lists(labels, min_size=1, max_size=4).map(tuple)
contexts = st.builds(
    ContextLabel, st.integers(16, (1 << 20) - 1), st.binary(min_size=4, max_size=4) | st.just(bytes(16))
)
bindings = st.builds(
    MplsBinding,
    st.sampled_from(Role),
    st.none() | contexts,
    st.dictionaries(st.integers(0, 4), stacks).map(lambda held: tuple(FecLabel(*one) for one in held.items())),
    st.dictionaries(st.integers(0, 4), labels | st.just(3)).map(
        lambda d: tuple(NextHopLabel(*one) for one in d.items())
    ),
    st.sampled_from([b"", b"1234567"]),
    st.sampled_from([b"", b"12345678"]),
    st.integers(0, 0xFFFFFFFF),
)


@given(bindings)
def test_bindings_come_back_as_they_were(binding):
    extension = mpls_extension(binding, OUI)
    packet = with_extension(extension.octets, cies=5)
    assert mpls_of(packet, OUI) == binding
    assert mpls_extension(binding, OUI) == packet.extensions[1]


@given(st.binary(max_size=60), st.integers(0, 3))
def test_N01_any_octets_are_a_binding_or_one_error(octets, cies):
    packet = with_extension(b"\x02\x4d\x46\x01\x01" + octets, cies=cies)
    try:
        binding = mpls_of(packet, OUI) or MplsBinding(Role.REQUEST)
    except WireError as problem:
        holds = offset_of(packet.extensions[1], packet) <= problem.offset <= len(encode(packet))
    else:
        holds = mpls_of(with_extension(mpls_extension(binding, OUI).octets, cies=cies), OUI) == binding
    assert holds
