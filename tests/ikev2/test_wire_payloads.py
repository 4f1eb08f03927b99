"""Every payload by hand: value and octets, and the octets that are none."""

from __future__ import annotations

import pytest

from ikev2.wire import (
    Attribute,
    AttributeKind,
    Auth,
    Certificate,
    CertificateRequest,
    Configuration,
    Delete,
    DoesNotFitError,
    Encrypted,
    EncryptedFragment,
    Identity,
    IdentityPayload,
    KeyExchange,
    Message,
    Nonce,
    Notify,
    NotifyKind,
    PayloadKind,
    Proposal,
    SecurityAssociation,
    TrafficSelectors,
    Transform,
    Unknown,
    VendorId,
    decode,
    decode_payloads,
    encode,
    encode_payloads,
    identity_octets,
)
from stack.esp import Selector
from stack.wire import WireError
from tests.ikev2.wire_values import ISPI, RSPI, hexed, message_hex, payload_hex

K = PayloadKind
ANY4 = Selector(bytes(4), b"\xff" * 4)

VALUES = [
    (  # 3.3: one proposal, AES-GCM-16 with 256 bits, PRF SHA-384, Curve25519
        K.SA,
        "00 00 0024 | 01 01 00 03 | 0300000c 01000014 800e0100 | 03000008 02000006 | 00000008 0400001f",
        SecurityAssociation((Proposal(1, 1, b"", (Transform(1, 20, 256), Transform(2, 6), Transform(4, 31))),)),
    ),
    (  # two of ESP, with SPIs, ESN
        K.SA,
        """02 00 0020 | 01 03 04 02 c0ffee01 | 0300000c 01000014 800e0080 | 00000008 05000001
           00 00 002c | 02 03 04 03 c0ffee01 | 0300000c 0100000c 800e0100 | 0300000c 0300000c 800e0000 | 00000008 05000000""",
        SecurityAssociation(
            (
                Proposal(1, 3, hexed("c0ffee01"), (Transform(1, 20, 128), Transform(5, 1))),
                Proposal(
                    2,
                    3,
                    hexed("c0ffee01"),
                    (Transform(1, 12, 256), Transform(3, 12, 0, ((0x800E, b"\0\0"),)), Transform(5, 0)),
                ),
            )
        ),
    ),
    (  # the rekey of an IKE SA; an attribute of each form that nobody knows, and a key length too many
        K.SA,
        """00 00 002d | 01 01 08 01 1122334455667788
           0000 001d 01 00 000c | 800e 0100 | 8063 0007 | 0064 0005 68656c6c6f | 800e 0080""",
        SecurityAssociation(
            (
                Proposal(
                    1,
                    1,
                    hexed("1122334455667788"),
                    (Transform(1, 12, 256, ((0x8063, b"\0\7"), (0x0064, b"hello"), (0x800E, b"\0\x80"))),),
                ),
            )
        ),
    ),
    (K.SA, "00 00 0008 | 01 63 00 00", SecurityAssociation((Proposal(1, 99),))),
    (K.KE, "001f 0000 | aabbccdd", KeyExchange(31, hexed("aabbccdd"))),
    (K.IDI, "02 000000 | 73706f6b65", IdentityPayload(Identity(2, b"spoke"), True)),
    (K.IDR, "01 000000 | c0000201", IdentityPayload(Identity(1, hexed("c0000201")), False)),
    (K.IDR, "05 000000 | 20010db8" + "00" * 12, IdentityPayload(Identity(5, hexed("20010db8" + "00" * 12)), False)),
    (K.IDI, "0b 000000", IdentityPayload(Identity(11, b""), True)),
    (K.CERT, "04 | 3082", Certificate(4, hexed("3082"))),
    (K.CERTREQ, "04 | 0102030405060708090a0b0c0d0e0f1011121314", CertificateRequest(4, bytes(range(1, 21)))),
    (K.AUTH, "02 000000 | 0badcafe", Auth(2, hexed("0badcafe"))),
    (K.NONCE, "00" * 16, Nonce(bytes(16))),
    (K.NONCE, "ff" * 256, Nonce(b"\xff" * 256)),
    (K.NOTIFY, "00 00 402e", Notify(NotifyKind.IKEV2_FRAGMENTATION_SUPPORTED)),
    (K.NOTIFY, "00 00 402f | 0002 0003", Notify(NotifyKind.SIGNATURE_HASH_ALGORITHMS, hexed("00020003"))),
    (K.NOTIFY, "03 04 4009 | c0ffee02", Notify(NotifyKind.REKEY_SA, b"", 3, hexed("c0ffee02"))),
    (K.NOTIFY, "00 00 0011 | 0013", Notify(NotifyKind.INVALID_KE_PAYLOAD, hexed("0013"))),
    (K.DELETE, "01 00 0000", Delete(1)),
    (K.DELETE, "03 04 0002 | 00000101 00000102", Delete(3, (hexed("00000101"), hexed("00000102")))),
    (K.DELETE, "02 04 0000", Delete(2)),
    (K.VENDOR_ID, "464c455856504e2d535550504f52544544", VendorId(b"FLEXVPN-SUPPORTED")),
    (K.VENDOR_ID, "", VendorId(b"")),
    (
        K.TSI,
        "01 000000 | 07 2f 0010 | 0000 ffff | c0000201 | c0000201",
        TrafficSelectors(True, (Selector(hexed("c0000201"), hexed("c0000201"), 47),)),
    ),
    (
        K.TSR,
        """02 000000 | 07 00 0010 | 0000 ffff | 00000000 | ffffffff
           08 3a 0028 | ffff 0000 | 20010db8 00000000 00000000 00000000 | 20010db8 ffffffff ffffffff ffffffff""",
        TrafficSelectors(
            False,
            (ANY4, Selector(hexed("20010db8" + "00" * 12), hexed("20010db8" + "ff" * 12), 58, 65535, 0)),
        ),
    ),
    (K.TSI, "00 000000", TrafficSelectors(True, ())),
    (
        K.CP,
        "01 000000 | 0001 0000 | 0003 0000 | 7000 0000",
        Configuration(
            1,
            (
                Attribute(AttributeKind.INTERNAL_IP4_ADDRESS),
                Attribute(AttributeKind.INTERNAL_IP4_DNS),
                Attribute(AttributeKind.UNITY_BANNER),
            ),
        ),
    ),
    (
        K.CP,
        "03 000000 | 000d 0008 0a630001 ffffffff | 7fff 0001 58",
        Configuration(3, (Attribute(AttributeKind.INTERNAL_IP4_SUBNET, hexed("0a630001 ffffffff")), Attribute(0x7FFF, b"X"))),
    ),
    (K.CP, "02 000000", Configuration(2)),
    (K.EAP, "01 02 0004", Unknown(48, False, hexed("01020004"))),
    (200, "0102", Unknown(200, False, hexed("0102"))),
    (1, "", Unknown(1, False, b"")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "value"), VALUES)
def test_value_and_octets(kind, body, value):
    octets = payload_hex(hexed(body))
    assert decode_payloads(kind, octets) == (value,)
    assert encode_payloads((value,)) == (kind, octets)
    whole = message_hex(kind, octets)
    assert decode(whole) == Message(ISPI, RSPI, 34, 0, True, False, (value,))
    assert encode(Message(ISPI, RSPI, 34, 0, True, False, (value,))) == whole


RESERVED = [
    (K.KE, "001f ffff | aabb", KeyExchange(31, hexed("aabb"))),
    (K.AUTH, "02 ffffff | aabb", Auth(2, hexed("aabb"))),
    (K.TSI, "01 ffffff | 07 00 0010 | 0000 ffff | 00000000 | ffffffff", TrafficSelectors(True, (ANY4,))),
    (K.CP, "01 ffffff | 8001 0000", Configuration(1, (Attribute(1),))),
    (
        K.SA,
        "00 ff 0014 | 01 03 04 01 00000001 | 00 ff 0008 05 ff 0000",
        SecurityAssociation((Proposal(1, 3, hexed("00000001"), (Transform(5, 0),)),)),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "value"), RESERVED)
@pytest.mark.parametrize("flags", [0x00, 0x7F, 0x80, 0xFF])
def test_rfc7296_3_2_reserved_bits_and_the_critical_bit_of_what_we_know_are_ignored(kind, body, value, flags):
    assert decode_payloads(kind, payload_hex(hexed(body), flags=flags)) == (value,)


def test_rfc7296_2_15_an_identity_keeps_its_reserved_octets_for_auth():
    body = hexed("02 010203 | 687562")
    (payload,) = decode_payloads(K.IDR, payload_hex(body))
    assert payload.identity == Identity(2, b"hub")
    assert identity_octets(payload) == body
    assert identity_octets(IdentityPayload(Identity(2, b"hub"), True)) == hexed("02 000000 687562")


def test_I03_unknown_payloads_say_whether_they_are_critical():
    # RFC 7296 2.5: refused if critical, skipped if not; both stay in place, and those behind them are read
    chain = (
        payload_hex(b"future", following=210, flags=0x80)
        + payload_hex(b"", following=K.NONCE, flags=0x7F)
        + payload_hex(bytes(16))
    )
    assert decode_payloads(200, chain) == (Unknown(200, True, b"future"), Unknown(210, False, b""), Nonce(bytes(16)))


@pytest.mark.parametrize("kind", [k for k in K if k not in (K.NONE, K.SK, K.SKF, K.EAP)])
def test_rfc7296_2_5_payloads_that_we_know_are_never_critical_when_sent(kind):
    value = next(value for known, _, value in VALUES if known == kind)
    assert encode_payloads((value,))[1][1] == 0


def test_rfc7296_2_9_selectors_of_unknown_types_are_left_out():
    body = hexed("03 000000 | 07 00 0010 0000ffff 00000000 ffffffff | 0a 00 0007 | 616263 | 09 00 0004")
    assert decode_payloads(K.TSI, payload_hex(body)) == (TrafficSelectors(True, (ANY4,)),)


SA1, SA2 = "01 03 04 01 00000001", "01 03 04 02 00000001"
LAST_TRANSFORM = "last substructure of transform"

BROKEN = [
    ("SA: empty", K.SA, "", "proposal"),
    ("SA: half a proposal", K.SA, "00000008 010100", "proposal"),
    ("SA: proposal of length 7", K.SA, "00000007 01010000", "proposal length"),
    ("SA: proposal past the end", K.SA, "00000009 01010000", "proposal length"),
    ("SA: last substructure 1", K.SA, "01000008 01010000", "last substructure of proposal"),
    ("SA: more promised, none there", K.SA, "02000008 01010000", "proposal"),
    ("SA: more behind the last", K.SA, "00000008 01010000 00000008 02010000", "proposal"),
    ("SA: SPI past the proposal", K.SA, "0000000a 01010800 0102", "SPI"),
    ("SA: IKE SPI of four", K.SA, "0000000c 01010400 01020304", "SPI size"),
    ("SA: ESP SPI of eight", K.SA, "00000010 01030800 0102030405060708", "SPI size"),
    ("SA: ESP without an SPI", K.SA, "00000008 01030000", "SPI size"),
    ("SA: AH SPI of three", K.SA, "0000000b 01020300 010203", "SPI size"),
    ("SA: 65 transforms", K.SA, "00000008 01010041", "transforms"),
    ("SA: transforms missing", K.SA, f"0000000c {SA1}", "transform"),
    ("SA: transform of length 7", K.SA, f"00000014 {SA1} 00000007 05000000", "transform length"),
    ("SA: transform past the proposal", K.SA, f"00000014 {SA1} 00000009 05000000", "transform length"),
    ("SA: more transforms than counted", K.SA, f"0000001c {SA1} 00000008 05000000 00000008 05000001", "proposal"),
    ("SA: the only transform says 3", K.SA, f"00000014 {SA1} 03000008 05000000", LAST_TRANSFORM),
    ("SA: the first of two says 0", K.SA, f"0000001c {SA2} 00000008 05000000 00000008 05000001", LAST_TRANSFORM),
    ("SA: half an attribute", K.SA, f"00000016 {SA1} 0000000a 01000014 800e", "transform attribute"),
    ("SA: attribute past the transform", K.SA, f"00000018 {SA1} 0000000c 01000014 000e0001", "transform attribute"),
    ("SA: one octet of an attribute", K.SA, f"00000015 {SA1} 00000009 01000014 80", "transform attribute"),
    ("KE: half a group", K.KE, "00", "group"),
    ("KE: no reserved", K.KE, "001f 00", "group"),
    ("ID: empty", K.IDI, "", "ID type"),
    ("ID: no reserved", K.IDI, "02 0000", "ID type"),
    ("ID: IPv4 of three", K.IDI, "01 000000 c00002", "identity"),
    ("ID: IPv6 of four", K.IDR, "05 000000 c0000201", "identity"),
    ("CERT: empty", K.CERT, "", "certificate encoding"),
    ("CERTREQ: empty", K.CERTREQ, "", "certificate encoding"),
    ("AUTH: no reserved", K.AUTH, "02 00", "authentication method"),
    ("nonce of 15", K.NONCE, "00" * 15, "nonce"),
    ("nonce of 257", K.NONCE, "00" * 257, "nonce"),
    ("notify of 3", K.NOTIFY, "000000", "notify header"),
    ("notify: SPI past the end", K.NOTIFY, "03 05 4009 c0ffee02", "SPI"),
    ("delete of 3", K.DELETE, "010000", "delete header"),
    ("delete: IKE with an SPI size", K.DELETE, "01 08 0001 0102030405060708", "SPI size"),
    ("delete: IKE with a count", K.DELETE, "01 00 0001", "SPIs"),
    ("delete: ESP SPIs of eight", K.DELETE, "03 08 0001 0102030405060708", "SPI size"),
    ("delete: unknown protocol", K.DELETE, "04 04 0000", "SPI size"),
    ("delete: no protocol", K.DELETE, "00 00 0000", "SPI size"),
    ("delete: fewer than counted", K.DELETE, "03 04 0002 00000101", "SPIs"),
    ("delete: more than counted", K.DELETE, "03 04 0001 00000101 00000102", "SPIs"),
    ("delete: 65 SPIs", K.DELETE, "03 04 0041" + "00000101" * 65, "SPIs"),
    ("TS: empty", K.TSI, "", "number of selectors"),
    ("TS: fewer than counted", K.TSI, "02 000000 07 00 0010 0000ffff 00000000 ffffffff", "traffic selector"),
    ("TS: more than counted", K.TSI, "01 000000 07 00 0010 0000ffff 00000000 ffffffff 07", "payload length"),
    ("TS: of length 3", K.TSI, "01 000000 0a 00 0003", "selector length"),
    ("TS: past the end", K.TSI, "01 000000 0a 00 0005", "selector length"),
    ("TS: IPv4 of 15", K.TSI, "01 000000 07 00 000f 0000ffff 00000000 ffffff", "selector length"),
    ("TS: IPv6 of 16", K.TSR, "01 000000 08 00 0010 0000ffff 00000000 ffffffff", "selector length"),
    ("TS: backwards", K.TSI, "01 000000 07 00 0010 0000ffff 0a000002 0a000001", "ending address"),
    ("TS: ports backwards", K.TSI, "01 000000 07 00 0010 00020001 0a000001 0a000001", "end port"),
    ("CP: no reserved", K.CP, "01", "CFG type"),
    ("CP: half an attribute", K.CP, "01 000000 000100", "configuration attribute"),
    ("CP: attribute past the end", K.CP, "01 000000 0001 0004 c00002", "configuration attribute"),
    ("CP: 129 attributes", K.CP, "01 000000" + "00010000" * 129, "configuration attribute"),
    ("SKF: half a header", K.SKF, "0001", "fragment header"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "field"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_octets_that_are_none_say_which_field(kind, body, field):
    whole = message_hex(kind, payload_hex(hexed(body)))
    with pytest.raises(WireError) as caught:
        decode(whole)
    assert caught.value.field == field
    assert 28 <= caught.value.offset <= len(whole)
    assert caught.value.rfc.startswith("RFC ")


def test_I02_a_length_inside_is_bound_by_the_payload_and_not_by_the_message():
    # what is behind the payload would make the inner length right
    first = payload_hex(hexed("03 05 4009 c0ffee02"), following=K.NONCE)
    with pytest.raises(WireError) as caught:
        decode(message_hex(K.NOTIFY, first + payload_hex(bytes(16))))
    assert (caught.value.field, caught.value.offset) == ("SPI", 28 + 8)


@pytest.mark.parametrize(("number", "total"), [(0, 0), (0, 1), (2, 1), (1, 0), (65535, 65534)])
def test_I12_rfc7383_2_5_fragment_numbers_begin_at_one_and_end_at_the_total(number, total):
    body = number.to_bytes(2) + total.to_bytes(2) + b"sealed"
    with pytest.raises(WireError) as caught:
        decode(message_hex(K.SKF, payload_hex(body, following=K.IDI)))
    assert (caught.value.field, caught.value.offset, caught.value.rfc) == ("fragment number", 32, "RFC 7383 2.5")
    with pytest.raises(DoesNotFitError):
        encode_payloads((EncryptedFragment(0, number, total, b"sealed"),))


@pytest.mark.parametrize(
    ("body", "following", "kind", "value"),
    [
        ("0001 0001 aa", 35, K.SKF, EncryptedFragment(35, 1, 1, b"\xaa")),
        ("0002 ffff aa", 0, K.SKF, EncryptedFragment(0, 2, 65535, b"\xaa")),
        ("0001 0002", 35, K.SKF, EncryptedFragment(35, 1, 2, b"")),
        ("aabbcc", 33, K.SK, Encrypted(33, hexed("aabbcc"))),
        ("", 0, K.SK, Encrypted(0, b"")),
    ],
)
def test_I12_sealed_payloads_keep_what_is_inside_and_what_it_begins_with(body, following, kind, value):
    whole = message_hex(kind, payload_hex(hexed(body), following=following))
    assert decode(whole).payloads == (value,)
    assert encode(decode(whole)) == whole


UNFIT = [
    SecurityAssociation(()),
    SecurityAssociation(tuple(Proposal(1, 1) for _ in range(33))),
    SecurityAssociation((Proposal(1, 1, b"", tuple(Transform(5, 0) for _ in range(65))),)),
    SecurityAssociation((Proposal(1, 3, b"12345"),)),
    SecurityAssociation((Proposal(256, 1),)),
    SecurityAssociation((Proposal(1, 1, b"", (Transform(1, 65536),)),)),
    SecurityAssociation((Proposal(1, 1, b"", (Transform(1, 1, 0, ((0x8001, b"1"),)),)),)),
    KeyExchange(65536, b""),
    IdentityPayload(Identity(1, b"12345"), True),
    IdentityPayload(Identity(2, b"x"), True, b"12"),
    IdentityPayload(Identity(256, b"x"), True),
    Certificate(256, b""),
    Auth(256, b""),
    Nonce(bytes(15)),
    Nonce(bytes(257)),
    Notify(65536),
    Notify(1, b"", 0, bytes(256)),
    Delete(1, (b"1234",)),
    Delete(3, (b"12345678",)),
    Delete(3, tuple(b"1234" for _ in range(65))),
    TrafficSelectors(True, tuple(ANY4 for _ in range(256))),
    TrafficSelectors(True, (Selector(b"\2", b"\3"),)),
    TrafficSelectors(True, (Selector(b"\2" * 4, b"\1" * 4),)),
    TrafficSelectors(True, (Selector(bytes(4), bytes(16)),)),
    TrafficSelectors(True, (Selector(bytes(4), bytes(4), 0, 2, 1),)),
    Configuration(1, tuple(Attribute(1) for _ in range(129))),
    Configuration(1, (Attribute(0x8000),)),
    Configuration(256),
    Unknown(256, False, b""),
    VendorId(bytes(65532)),
]


@pytest.mark.parametrize("value", UNFIT)
def test_values_that_no_field_holds_are_refused_and_never_cut(value):
    with pytest.raises(DoesNotFitError):
        encode(Message(ISPI, RSPI, 34, 0, True, False, (Notify(1), value)))


def test_secrets_stand_in_no_repr():
    for payload in (Auth(2, b"hidden"), Encrypted(33, b"hidden"), EncryptedFragment(0, 1, 1, b"hidden")):
        assert "hidden" not in repr(payload)
