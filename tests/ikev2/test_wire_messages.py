"""Whole messages: the header, the chain of payloads, and what breaks them."""

from __future__ import annotations

import pytest

from ikev2.wire import (
    MOST_PARTS,
    MOST_PAYLOADS,
    Attribute,
    Auth,
    Certificate,
    Configuration,
    Delete,
    DoesNotFitError,
    Encrypted,
    EncryptedFragment,
    Header,
    Identity,
    IdentityPayload,
    KeyExchange,
    Message,
    Nonce,
    Notify,
    PayloadKind,
    Proposal,
    SecurityAssociation,
    TrafficSelectors,
    Transform,
    Unknown,
    VendorId,
    codec,
    decode,
    decode_payloads,
    describe,
    encode,
    encode_payloads,
    explain,
    explain_payloads,
    sealed,
    split_header,
)
from ikev2.wire.bounds import PayloadReader
from ikev2.wire.text import MAX_TEXT
from stack.esp import Selector
from stack.wire import WireError
from tests.ikev2 import swan_vectors as swan
from tests.ikev2.wire_values import ISPI, RSPI, hexed, message_hex, payload_hex

K = PayloadKind
NONCE = payload_hex(bytes(16))
EMPTY = message_hex(0, b"")


def field_of(octets: bytes) -> str:
    with pytest.raises(WireError) as caught:
        decode(octets)
    assert 0 <= caught.value.offset <= max(len(octets), 28)
    return caught.value.field


# --- the header ------------------------------------------------------------------------------------------------------


def test_rfc7296_3_1_the_header():
    octets = hexed("0102030405060708 1112131415161718 00 20 25 28 00000007 0000001c")
    assert decode(octets) == Message(ISPI, RSPI, 37, 7, True, True)
    assert encode(Message(ISPI, RSPI, 37, 7, True, True)) == octets
    assert split_header(octets) == Header(ISPI, RSPI, 0, 0x20, 37, True, True, 7, 28)
    assert decode(memoryview(octets)) == decode(bytearray(octets)) == decode(octets)


@pytest.mark.parametrize(
    ("flags", "initiator", "response"),
    [(0x00, False, False), (0x08, True, False), (0x20, False, True), (0xFF, True, True), (0xD7, False, False)],
)
def test_rfc7296_3_1_other_flags_are_ignored(flags, initiator, response):
    message = decode(message_hex(0, b"", flags=flags))
    assert (message.initiator, message.response) == (initiator, response)


@pytest.mark.parametrize("version", [0x10, 0x11, 0x30, 0x00, 0xF0])
def test_rfc7296_2_5_another_major_version_is_told_from_other_faults(version):
    octets = EMPTY[:17] + bytes((version,)) + EMPTY[18:]
    assert field_of(octets) == "version"
    assert field_of(octets + b"whatever an IKEv3 has here") == "version"
    # what INVALID_MAJOR_VERSION is answered with
    assert split_header(octets)[:2] == (ISPI, RSPI)


def test_rfc7296_2_5_another_minor_version_is_read():
    assert decode(EMPTY[:17] + b"\x2f" + EMPTY[18:]).version == 0x2F


@pytest.mark.parametrize("size", range(28))
def test_I01_a_header_that_is_cut_short(size):
    assert field_of(EMPTY[:size]) == "header"
    with pytest.raises(WireError):
        split_header(EMPTY[:size])


@pytest.mark.parametrize("length", [0, 1, 27, 29, 65535, 65536, 0x7FFFFFFF, 0xFFFFFFFF])
def test_I01_the_length_must_be_the_datagrams(length):
    assert field_of(EMPTY[:24] + length.to_bytes(4)) == "length"


def test_I01_octets_behind_the_message():
    assert field_of(EMPTY + b"\0") == "length"
    assert field_of(message_hex(0, b"\0")) == "next payload"
    assert field_of(message_hex(K.NONCE, NONCE + b"\0")) == "next payload"


def test_rfc7296_3_1_the_initiators_spi_is_not_zero():
    assert field_of(bytes(8) + EMPTY[8:]) == "initiator SPI"


# --- the chain -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 2, 3, 21, 22, 255, 65535])
def test_I02_payload_lengths_that_lie(length):
    body = b"\0\0" + length.to_bytes(2) + bytes(16)
    for kind in (K.NONCE, K.SK, K.SKF, 200):
        assert field_of(message_hex(kind, body)) == "payload length"
        with pytest.raises(WireError) as caught:
            decode_payloads(K.NONCE, body, offset=1000)
        assert (caught.value.field, caught.value.offset) == ("payload length", 1000)


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_I02_payload_headers_that_are_not_there(size):
    assert field_of(message_hex(K.NONCE, bytes(size))) == "payload header"
    assert field_of(message_hex(K.NONCE, payload_hex(bytes(16), following=K.NOTIFY) + bytes(size))) == "payload header"


def test_I02_a_chain_that_names_itself_ends_with_its_octets():
    """A Next Payload is the type of what follows in sequence, so a "loop" is only a chain without an end."""
    itself = payload_hex(b"\0\0\x40\x2e", following=K.NOTIFY)
    assert field_of(message_hex(K.NOTIFY, itself * 3)) == "payload header"
    assert field_of(message_hex(200, payload_hex(b"", following=200) * 3)) == "payload header"


def test_I02_ten_thousand_tiny_payloads_are_refused_at_the_bound():
    tiny = payload_hex(b"", following=K.VENDOR_ID)
    octets = message_hex(K.VENDOR_ID, tiny * 10_000)
    with pytest.raises(WireError) as caught:
        decode(octets)
    assert (caught.value.field, caught.value.offset) == ("payload", 28 + 4 * MOST_PAYLOADS)
    right = message_hex(K.VENDOR_ID, tiny * (MOST_PAYLOADS - 1) + payload_hex(b""))
    assert decode(right).payloads == (VendorId(b""),) * MOST_PAYLOADS
    assert encode(decode(right)) == right
    with pytest.raises(DoesNotFitError):
        encode_payloads((VendorId(b""),) * (MOST_PAYLOADS + 1))


def nested(proposals: int, transforms: int, attribute: bytes = b"") -> bytes:
    """An SA of so many proposals of so many transforms each."""
    octets = b""
    for number in range(proposals, 0, -1):
        body = b""
        for left in range(transforms, 0, -1):
            body += bytes((3 if left > 1 else 0, 0)) + (8 + len(attribute)).to_bytes(2) + b"\1\0\0\x14" + attribute
        octets += bytes((2 if number > 1 else 0, 0)) + (8 + len(body)).to_bytes(2) + bytes((1, 1, 0, transforms)) + body
    return payload_hex(octets)


@pytest.mark.parametrize(
    ("proposals", "transforms", "field"),
    [(33, 1, "proposal"), (1, 65, "transforms"), (32, 64, "transform"), (255, 30, "proposal"), (1, 255, "transforms")],
)
def test_I02_nested_proposals_are_bounded(proposals, transforms, field):
    assert field_of(message_hex(K.SA, nested(proposals, transforms))) == field


def test_I02_attributes_of_a_transform_are_bounded():
    assert decode(message_hex(K.SA, nested(1, 1, b"\x80\x0e\1\0" * 16))).payloads
    assert field_of(message_hex(K.SA, nested(1, 1, b"\x80\x0e\1\0" * 17))) == "transform attribute"


def parts(first: int, octets: bytes) -> int:
    """How much work decoding was: what the reader counted, right or wrong."""
    readers = []

    class Counting(PayloadReader):
        def __init__(self, *fields) -> None:
            super().__init__(*fields)
            readers.append(self)

    before = codec.PayloadReader
    codec.PayloadReader = Counting
    try:
        decode_payloads(first, octets)
    except WireError:
        pass
    finally:
        codec.PayloadReader = before
    return readers[0].parts


def chained(kind: int, body: bytes, count: int) -> bytes:
    return payload_hex(body, following=kind) * (count - 1) + payload_hex(body)


WORST = {
    "proposals": (K.SA, nested(32, 31)),
    "attributes": (K.SA, nested(32, 4, b"\x80\x63\0\1" * 8)),
    "many SAs": (K.SA, chained(K.SA, nested(8, 16)[4:], 20)),
    "selectors": (K.TSI, chained(K.TSI, b"\xff\0\0\0" + (b"\7\0\0\x10\0\0\xff\xff" + bytes(8)) * 255, 16)),
    "unknown selectors": (K.TSI, chained(K.TSI, b"\xff\0\0\0" + b"\x63\0\0\4" * 255, 63)),
    "configuration": (K.CP, chained(K.CP, b"\1\0\0\0" + b"\0\1\0\0" * 128, 64)),
    "SPIs": (K.DELETE, chained(K.DELETE, b"\3\4\0\x40" + bytes(256), 64)),
    "payloads": (K.VENDOR_ID, chained(K.VENDOR_ID, b"", 16_000)),
    "one long payload": (K.VENDOR_ID, payload_hex(bytes(65_000))),
}


@pytest.mark.parametrize("name", WORST)
def test_I01_no_64_kilobytes_cost_more_than_the_bound(name):
    first, octets = WORST[name]
    assert len(octets) <= 65_507
    assert parts(first, octets) <= MOST_PARTS + 1
    if name in ("proposals", "attributes"):
        assert parts(first, octets) > MOST_PARTS // 2  # so these are near the worst that is taken


def test_I02_the_bound_of_parts_is_over_all_payloads_of_a_chain():
    body = b"\1\0\0\0" + b"\0\1\0\0" * 128
    assert len(decode_payloads(K.CP, chained(K.CP, body, 7))) == 7  # 7 * 129 = 903
    with pytest.raises(WireError) as caught:
        decode_payloads(K.CP, chained(K.CP, body, 8))
    assert str(MOST_PARTS) in caught.value.what


# --- sealed payloads -------------------------------------------------------------------------------------------------


def test_rfc7296_3_14_a_sealed_payload_is_the_last_one():
    for kind, body in ((K.SK, b"sealed"), (K.SKF, b"\0\1\0\1sealed")):
        assert field_of(message_hex(kind, payload_hex(body, following=K.NONCE) + NONCE)) == "Encrypted payload"
        assert decode(message_hex(K.NONCE, payload_hex(bytes(16), following=kind) + payload_hex(body, following=33)))
        with pytest.raises(WireError) as caught:
            decode_payloads(kind, payload_hex(body))  # and is never inside another
        assert caught.value.field == "Encrypted payload"
    for last in (Encrypted(33, b"sealed"), EncryptedFragment(33, 1, 1, b"sealed")):
        with pytest.raises(DoesNotFitError):
            encode_payloads((last, Nonce(bytes(16))))


def test_sealed_gives_what_is_protected_beside_the_content():
    clear = payload_hex(bytes(16), following=K.SK)
    whole = message_hex(K.NONCE, clear + payload_hex(b"iv and ciphertext", following=K.IDI))
    assert sealed(whole) == (whole[: 28 + 20 + 4], Encrypted(K.IDI, b"iv and ciphertext"))
    fragment = message_hex(K.SKF, payload_hex(hexed("0002 0003") + b"piece"))
    assert sealed(fragment) == (fragment[:36], EncryptedFragment(0, 2, 3, b"piece"))
    empty = message_hex(K.SK, payload_hex(b""))
    assert sealed(empty) == (empty, Encrypted(0, b""))
    for other in (EMPTY, message_hex(K.NONCE, NONCE)):
        with pytest.raises(WireError) as caught:
            sealed(other)
        assert caught.value.field == "Encrypted payload"


# --- broken packets of other people's suites, made anew --------------------------------------------------------------

GOOD = message_hex(
    K.SA,
    payload_hex(nested(1, 3)[4:], following=K.KE)
    + payload_hex(b"\0\x1f\0\0" + bytes(32), following=K.NONCE)
    + payload_hex(bytes(32)),
)


def one(kind: int, body: str) -> bytes:
    return message_hex(kind, payload_hex(hexed(body)))


def outcome(octets: bytes) -> tuple[str, int]:
    """(the field at fault, or nothing; where)."""
    try:
        decode(octets)
    except WireError as problem:
        return problem.field, problem.offset
    return "", 0


FUZZER = {
    # libreswan ikev2-15-fuzzer and fuzzer-ikev2-01: what their generator does to a message of IKE_SA_INIT
    "no payload, octets left": (message_hex(0, GOOD[28:]), "next payload"),
    "the first payload's type changed": (message_hex(K.TSI, GOOD[28:]), "payload length"),
    "every payload an SA": (message_hex(K.SA, chained(K.SA, nested(1, 3)[4:], 64) + b"\0"), "next payload"),
    "KE shorter than its header": (message_hex(K.KE, b"\0\0\0\5\0"), "group"),
    "notify whose SPI eats the message": (one(K.NOTIFY, "01 ff 4004"), "SPI"),
    "delete of 65,535 SPIs": (one(K.DELETE, "03 04 ffff"), "SPIs"),
    "255 selectors, none there": (one(K.TSI, "ff 000000"), "traffic selector"),
    "255 transforms, none there": (one(K.SA, "00000008 010100ff"), "transforms"),
    "SK that claims the header too": (message_hex(K.SK, hexed("21 00 0030") + bytes(16)), "payload length"),
    "IKEv1 main mode": (GOOD[:17] + b"\x10\x02\0" + GOOD[20:], "version"),
    "IKEv1 fragment": (ISPI + RSPI + hexed("84 10 02 00 00000000 0000001c"), "version"),
    # tcpdump: isakmp and ikev2 out of bounds, pointer loop, segfault of identification
    "oobr: proposal of length 0": (one(K.SA, "00000000 01010000"), "proposal length"),
    "oobr: transform of length 0": (one(K.SA, "00000010 01010001 00000000 01000014"), "transform length"),
    "oobr: attribute of 65,535": (one(K.SA, "00000014 01010001 0000000c 01000014 000effff"), "transform attribute"),
    "oobr: selector of length 0": (one(K.TSI, "01 000000 07 00 0000"), "selector length"),
    "oobr: attribute of a configuration": (one(K.CP, "01 000000 0001 ffff"), "configuration attribute"),
    "segfault: identity of no octets": (one(K.IDI, ""), "ID type"),
    "segfault: IPv4 identity of no octets": (one(K.IDI, "01 000000"), "identity"),
    "pointer loop: payload of length 0": (message_hex(K.SA, hexed("21 00 0000")), "payload length"),
    "pointer loop: sealed before sealed": (
        message_hex(K.SK, payload_hex(b"", following=K.SK) + payload_hex(b"")),
        "Encrypted payload",
    ),
}


@pytest.mark.parametrize("name", FUZZER)
def test_I01_broken_packets_end_in_one_typed_error(name):
    octets, field = FUZZER[name]
    found, offset = outcome(octets)
    assert found == field
    assert offset <= len(octets)


def test_I01_the_message_that_was_broken_was_right():
    assert encode(decode(GOOD)) == GOOD


@pytest.mark.parametrize(
    "octets", [swan.SA_INIT_REQUEST, swan.SA_INIT_RESPONSE, swan.AUTH_REQUEST], ids=["request", "response", "sealed"]
)
def test_I01_real_messages_cut_anywhere_or_with_any_bit_changed(octets):
    for size in range(len(octets)):
        assert field_of(octets[:size]) in ("header", "length")
        assert outcome(octets[:24] + size.to_bytes(4) + octets[28:size])[1] <= max(size, 28)
    wrong = 0
    for at in range(len(octets) * 8):
        changed = bytearray(octets)
        changed[at // 8] ^= 1 << at % 8
        wrong += outcome(changed) != ("", 0)
    assert wrong > 32 + 4  # the header's length and version alone are so many


# --- a real peer's ---------------------------------------------------------------------------------------------------


def test_a_real_sa_init():
    request, response = decode(swan.SA_INIT_REQUEST), decode(swan.SA_INIT_RESPONSE)
    assert describe(request) == (
        "IKE_SA_INIT request 0 [SA KE NONCE N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP) "
        "N(IKEV2_FRAGMENTATION_SUPPORTED) N(SIGNATURE_HASH_ALGORITHMS) N(REDIRECT_SUPPORTED)]"
    )
    assert request.payloads[0] == SecurityAssociation(
        (
            Proposal(1, 1, b"", (Transform(1, 20, 256), Transform(2, 6), Transform(4, 31))),
            Proposal(2, 1, b"", (Transform(1, 12, 128), Transform(3, 12), Transform(2, 5), Transform(4, 14))),
        )
    )
    assert isinstance(response.payloads[1], KeyExchange)
    assert (response.payloads[1].group, len(response.payloads[1].octets)) == (31, 32)
    assert response.payloads[-2:] == (Notify(16418), Notify(16404))
    assert describe(response).endswith("N(CHILDLESS_IKEV2_SUPPORTED) N(NotifyKind 16404)]")
    for octets, message in ((swan.SA_INIT_REQUEST, request), (swan.SA_INIT_RESPONSE, response)):
        assert encode(message) == octets
        assert (message.initiator, message.response) == (message is request, message is response)


def test_a_real_ike_auth():
    request = decode(swan.AUTH_REQUEST)
    (payload,) = request.payloads
    inside = decode_payloads(payload.first, swan.AUTH_REQUEST_INSIDE)
    spi = hexed("ca5239b4")
    assert inside[:6] == (
        IdentityPayload(Identity(2, b"spoke.example"), True),
        Auth(2, swan.AUTH_REQUEST_INSIDE[29:77]),
        Configuration(1, (Attribute(1),)),
        SecurityAssociation(
            (
                Proposal(1, 3, spi, (Transform(1, 12, 256), Transform(3, 12), Transform(5, 0))),
                Proposal(2, 3, spi, (Transform(1, 12, 128), Transform(3, 12), Transform(5, 0))),
            )
        ),
        TrafficSelectors(True, (Selector(bytes(4), b"\xff" * 4, 47),)),
        TrafficSelectors(False, (Selector(hexed("0a010000"), hexed("0a0100ff"), 47),)),
    )
    assert encode_payloads(inside) == (payload.first, swan.AUTH_REQUEST_INSIDE)
    (payload,) = decode(swan.AUTH_RESPONSE).payloads
    inside = decode_payloads(payload.first, swan.AUTH_RESPONSE_INSIDE)
    assert inside[2] == Configuration(
        2, (Attribute(1, hexed("0a630001")), Attribute(3, hexed("0a6300fe")), Attribute(28672, b"welcome"))
    )
    assert encode_payloads(inside) == (payload.first, swan.AUTH_RESPONSE_INSIDE)


def test_a_real_delete():
    (payload,) = decode(swan.DELETE_REQUEST).payloads
    assert decode_payloads(payload.first, swan.DELETE_REQUEST_INSIDE) == (Delete(1),)
    (payload,) = decode(swan.DELETE_RESPONSE).payloads
    assert payload.first == 0
    assert decode_payloads(payload.first, swan.DELETE_RESPONSE_INSIDE) == ()


def test_what_is_negotiated_is_explained_and_no_secret_is():
    request = decode(swan.SA_INIT_REQUEST)
    assert explain(request).startswith(
        "IKE_SA_INIT request 0 [SA(IKE: AES_GCM_16-256 HMAC_SHA2_384 CURVE25519 | IKE: AES_CBC-128 HMAC_SHA2_256_128 "
        "HMAC_SHA2_256 MODP_2048) KE(CURVE25519) NONCE N(NAT_DETECTION_SOURCE_IP) "
    )
    (payload,) = decode(swan.AUTH_REQUEST).payloads
    inside = decode_payloads(payload.first, swan.AUTH_REQUEST_INSIDE)
    assert explain_payloads(35, 1, inside, response=False).startswith(
        "IKE_AUTH request 1 [IDI(FQDN spoke.example) AUTH(PSK) CP(REQUEST: INTERNAL_IP4_ADDRESS) "
        "SA(ESP: AES_CBC-256 HMAC_SHA2_256_128 NO_ESN | ESP: AES_CBC-128 HMAC_SHA2_256_128 NO_ESN) "
        "TSI(0.0.0.0-255.255.255.255 protocol 47) TSR(10.1.0.0-10.1.0.255 protocol 47)"
    )
    (payload,) = decode(swan.AUTH_RESPONSE).payloads
    inside = decode_payloads(payload.first, swan.AUTH_RESPONSE_INSIDE)
    assert ("CP(REPLY: INTERNAL_IP4_ADDRESS=10.99.0.1 INTERNAL_IP4_DNS=10.99.0.254 UNITY_BANNER)") in explain_payloads(
        35, 1, inside, response=True
    )
    (payload,) = decode(swan.DELETE_REQUEST).payloads
    inside = decode_payloads(payload.first, swan.DELETE_REQUEST_INSIDE)
    assert explain_payloads(37, 2, inside, response=False) == "INFORMATIONAL request 2 [DELETE(IKE)]"
    odd = (
        IdentityPayload(Identity(2, b"evil\nline\x1b[31m" + b"x" * 100), True),
        IdentityPayload(Identity(1, bytes((10, 0, 0, 1))), False),
        IdentityPayload(Identity(11, b"secret"), True),
        Notify(16393, b"", 3, b"\0\1\2\3"),
        Delete(3, (b"\0\0\0\x07",)),
        Certificate(4, b"abc"),
        Configuration(3, (Attribute(13, bytes((10, 0, 0, 1, 255, 255, 255, 255))), Attribute(1, b"odd"))),
    )
    text = explain_payloads(36, 4, odd, response=False)
    assert text.startswith("CREATE_CHILD_SA request 4 [IDI(FQDN evil?line?[31mxxx")
    assert text.endswith(
        "...) IDR(IPV4_ADDR 10.0.0.1) IDI(KEY_ID, 6 octets) N(REKEY_SA ESP 00010203) DELETE(ESP 00000007) "
        "CERT(X509_SIGNATURE, 3 octets) CP(SET: INTERNAL_IP4_SUBNET=10.0.0.1/255.255.255.255 INTERNAL_IP4_ADDRESS)]"
    )
    many = SecurityAssociation(tuple(Proposal(n, 1, b"", (Transform(1, 20, 256),) * 60) for n in range(30)))
    assert len(explain_payloads(34, 0, (many,), response=False)) <= MAX_TEXT + 3


def test_logs_name_types_and_show_no_contents():
    message = Message(
        ISPI, RSPI, 99, 3, False, True, (Unknown(200, True, b"x"), Configuration(4), EncryptedFragment(0, 2, 3, b"x"))
    )
    assert describe(message) == "Exchange 99 response 3 [payload 200 critical CP(ACK) SKF(2/3)]"
    assert describe(Message(ISPI, RSPI, 35, 1, True, False, (Encrypted(35, b"x"),))) == "IKE_AUTH request 1 [SK]"
