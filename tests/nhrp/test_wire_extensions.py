"""Extensions: passwords, lists of CIEs, and Cisco's type 9 that RFC 2735 has for something else."""

from __future__ import annotations

import pytest
from attrs import evolve

from nhrp.wire import (
    Cie,
    DoesNotFitError,
    Extension,
    ExtensionKind,
    WireError,
    authentication,
    capabilities_of,
    cie_extension,
    cies_of,
    decode,
    encode,
    is_authentic,
    nat_addresses_of,
    offset_of,
    password_of,
)
from stack.addr import parse_address as a
from tests.nhrp.wire_values import REGISTRATION_CISCO, REGISTRATION_V6, RESOLUTION_REPLY

SOURCE = a("10.0.0.2")


def auth(value: str) -> Extension:
    return Extension(ExtensionKind.AUTHENTICATION, bytes.fromhex(value))


# --- passwords ----------------------------------------------------------------------------------------------------------


def test_ciscos_password_stands_there_as_it_is():
    extension = authentication(b"NHRPAUTH")
    assert extension == auth("00000001 4e48525041555448")
    assert extension.compulsory
    assert password_of(extension) == b"NHRPAUTH"
    assert password_of(decode(REGISTRATION_CISCO).extension(7) or auth(""), SOURCE) == b"CISCO"


def test_rfc2332_5_3_4_in_the_rfcs_form_the_source_address_stands_before_it():
    extension = auth("00000001 0a000002 434953434f")
    assert password_of(extension, SOURCE) == b"CISCO"
    assert is_authentic(extension, b"CISCO", SOURCE)
    assert not is_authentic(extension, b"CISCO", a("10.0.0.3"))
    v6 = Extension(7, b"\0\0\0\1" + a("fd00::2") + b"CISCO")
    assert is_authentic(v6, b"CISCO", a("fd00::2"))


def test_a_password_that_looks_like_the_source_address_is_still_ciscos():
    """49.50.51.52 is `1234`: the form is not to be guessed, both are compared."""
    source = a("49.50.51.52")
    assert is_authentic(authentication(b"1234abcd"), b"1234abcd", source)
    assert is_authentic(authentication(b"1234"), b"1234", source)
    assert is_authentic(Extension(7, b"\0\0\0\1" + source + b"1234"), b"1234", source)


@pytest.mark.parametrize(
    "extension",
    [
        None,
        auth(""),
        auth("000000"),
        auth("00000001"),
        auth("00000001 434953"),
        auth("00000001 434953434f00"),
        auth("00000001 434953434f434953434f"),
        auth("00000001 636973636f"),
        auth("00000002 434953434f"),
        auth("00010000 434953434f"),
        auth("00000001 0a000003 434953434f"),
        auth("00000001 0a000002 0a000002 434953434f"),
        auth("00000001" + "ff" * 400),
    ],
    ids=str,
)
def test_N02_none_wrong_short_and_long_passwords_are_none_of_ours(extension):
    assert not is_authentic(extension, b"CISCO", SOURCE)
    assert not is_authentic(extension, b"", SOURCE)


@pytest.mark.parametrize("extension", [auth(""), auth("000000"), auth("00000002 43"), auth("0000ffff 43")])
def test_what_is_no_cleartext_password_is_an_error(extension):
    with pytest.raises(WireError) as caught:
        password_of(extension)
    assert caught.value.field.startswith("authentication")


@pytest.mark.parametrize("password", [b"", b"123456789"])
def test_a_password_has_one_to_eight_octets(password):
    with pytest.raises(DoesNotFitError) as caught:
        authentication(password)
    assert password.decode() == "" or password.decode() not in str(caught.value)


# --- lists of CIEs ------------------------------------------------------------------------------------------------------


def test_a_responder_address_is_a_list_of_cies_and_empty_in_a_request():
    packet = decode(RESOLUTION_REPLY)
    assert cies_of(packet.extensions[0], packet) == ()
    responder = cies_of(packet.extensions[2], packet)
    assert responder == (Cie(0, 32, 1400, 7200, a("172.16.2.1"), a("10.0.0.12")),)
    assert cie_extension(ExtensionKind.RESPONDER_ADDRESS, responder) == packet.extensions[2]


def test_transit_records_grow_and_nat_addresses_are_not_compulsory():
    packet = decode(RESOLUTION_REPLY)
    one, two = Cie(nbma=a("192.0.2.1"), protocol=a("10.0.0.1")), Cie(nbma=a("192.0.2.2"), protocol=a("10.0.0.2"))
    assert cies_of(cie_extension(ExtensionKind.FORWARD_TRANSIT, (one, two)), packet) == (one, two)
    assert cie_extension(ExtensionKind.FORWARD_TRANSIT).compulsory
    assert not cie_extension(ExtensionKind.NAT_ADDRESS).compulsory
    assert cie_extension(ExtensionKind.NAT_ADDRESS, compulsory=True).compulsory


def test_lists_have_the_addresses_of_their_packet():
    v6 = decode(REGISTRATION_V6)
    one = Cie(nbma=a("2001:db8::9"), protocol=a("fd00::9"))
    extension = cie_extension(ExtensionKind.FORWARD_TRANSIT, (one,))
    assert cies_of(extension, v6) == (one,)
    with pytest.raises(WireError, match="extension CIE lengths"):
        cies_of(extension, decode(RESOLUTION_REPLY))


def test_N01_a_broken_list_says_where_in_the_packet():
    packet = decode(RESOLUTION_REPLY)
    cut = Extension(4, packet.extensions[2].octets[:-1])
    packet = decode(encode(evolve(packet, extensions=(Extension(5), cut, Extension(3)))))
    with pytest.raises(WireError) as caught:
        cies_of(packet.extensions[1], packet)
    at = encode(packet).index(cut.octets)
    assert offset_of(packet.extensions[1], packet) == at
    assert (caught.value.offset, caught.value.field) == (at + 12, "extension CIE addresses")


@pytest.mark.parametrize(
    ("octets", "offset"),
    [("00" * 11, 0), ("00" * 13, 12), ("00" * 8 + "05" + "00" * 20, 8), ("00" * 10 + "03" + "00" * 20, 8)],
)
def test_N01_no_list(octets, offset):
    packet = evolve(decode(RESOLUTION_REPLY), extensions=(Extension(4, bytes.fromhex(octets)),))
    with pytest.raises(WireError) as caught:
        cies_of(packet.extensions[0], packet)
    assert caught.value.offset == offset_of(packet.extensions[0], packet) + offset


def test_N01_a_list_has_255_cies_at_most():
    packet = decode(RESOLUTION_REPLY)
    assert len(cies_of(cie_extension(4, (Cie(),) * 255), packet)) == 255
    with pytest.raises(WireError, match="extension CIE count"):
        cies_of(cie_extension(4, (Cie(),) * 256), packet)


# --- type 9 ---------------------------------------------------------------------------------------------------------------


def test_rfc2735_eight_octets_of_type_9_are_device_capabilities():
    packet = decode(RESOLUTION_REPLY)
    capabilities = Extension(ExtensionKind.NAT_ADDRESS, bytes.fromhex("00000001 00000000"), compulsory=False)
    assert capabilities_of(capabilities) == (1, 0)
    packet = evolve(packet, extensions=(capabilities,))
    assert nat_addresses_of(packet) is None
    with pytest.raises(WireError, match="device capabilities"):
        cies_of(capabilities, packet)


def test_all_else_of_type_9_are_nat_addresses():
    packet = decode(RESOLUTION_REPLY)
    behind = Cie(prefix_length=32, nbma=a("198.51.100.7"), protocol=a("10.0.0.2"))
    extension = cie_extension(ExtensionKind.NAT_ADDRESS, (behind,))
    assert capabilities_of(extension) is None
    assert nat_addresses_of(packet) is None
    assert nat_addresses_of(evolve(packet, extensions=(Extension(9),))) == ()
    assert nat_addresses_of(evolve(packet, extensions=(Extension(3), extension))) == (behind,)
