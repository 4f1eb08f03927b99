"""One row a payload type: how its body is read and written. The diagrams are of the bodies; before each stands

                      1                   2                   3
  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 | Next Payload  |C|  RESERVED   |         Payload Length        |
 +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

which `ikev2.wire.codec` reads. A body's reader ends with the body, and whoever decodes it must read all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Any, NamedTuple

from ikev2.wire.bounds import MOST_ATTRIBUTES, MOST_SELECTORS, MOST_SPIS, DoesNotFitError, PayloadReader
from ikev2.wire.numbers import IdKind, PayloadKind, ProtocolId, TsKind
from ikev2.wire.payloads import (
    Attribute,
    Auth,
    Certificate,
    CertificateRequest,
    Configuration,
    Delete,
    EncryptedFragment,
    Identity,
    IdentityPayload,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    TrafficSelectors,
    VendorId,
)
from ikev2.wire.proposals import decode_sa, encode_sa
from stack.esp import Selector

__all__ = ["ROWS", "PayloadRow", "identity_octets", "row_of"]


class PayloadRow(NamedTuple):
    """`value` is the class that `decode` gives; where two types share one, `initiator` tells them apart."""

    kind: PayloadKind
    value: type
    decode: Callable[[PayloadReader], Payload]
    encode: Callable[[Any], bytes]
    rfc: str
    initiator: bool | None = None


# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |   Diffie-Hellman Group Num    |           RESERVED            |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~                       Key Exchange Data                       ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def _decode_ke(reader: PayloadReader) -> KeyExchange:
    (group,) = reader.unpack(_KE, "group")
    return KeyExchange(group, reader.rest())


_KE = Struct(">Hxx")


def _encode_ke(payload: KeyExchange) -> bytes:
    return _KE.pack(payload.group) + payload.octets


# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |   ID Type     |                 RESERVED                      |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~                   Identification Data                         ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
_ID = Struct(">B3s")
_ID_SIZES: dict[int, int] = {IdKind.IPV4_ADDR: 4, IdKind.IPV6_ADDR: 16}


def _decode_id(reader: PayloadReader, *, initiator: bool) -> IdentityPayload:
    kind, reserved = reader.unpack(_ID, "ID type")
    octets = reader.rest()
    if len(octets) != _ID_SIZES.get(kind, len(octets)):
        raise reader.fail(f"{len(octets)} octets for ID type {kind}", "identity", back=len(octets))
    return IdentityPayload(Identity(kind, octets), initiator, reserved)


def identity_octets(payload: IdentityPayload) -> bytes:
    """RestOfInitIDPayload and RestOfRespIDPayload of RFC 7296 2.15: the body, reserved octets as they came."""
    return bytes((payload.identity.kind,)) + payload.reserved + payload.identity.octets


def _encode_id(payload: IdentityPayload) -> bytes:
    size = len(payload.identity.octets)
    if size != _ID_SIZES.get(payload.identity.kind, size) or len(payload.reserved) != 3:
        raise DoesNotFitError(f"an identity of type {payload.identity.kind} and {size} octets")
    return identity_octets(payload)


# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# | Cert Encoding |                                               |
# +-+-+-+-+-+-+-+-+                                               +
# ~       Certificate Data / Certification Authority              ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def _decode_cert(reader: PayloadReader) -> Certificate:
    return Certificate(reader.uint(1, "certificate encoding"), reader.rest())


def _decode_certreq(reader: PayloadReader) -> CertificateRequest:
    return CertificateRequest(reader.uint(1, "certificate encoding"), reader.rest())


def _encode_cert(payload: Certificate | CertificateRequest) -> bytes:
    return bytes((payload.encoding,)) + payload.octets


# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# | Auth Method   |                RESERVED                       |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~                      Authentication Data                      ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def _decode_auth(reader: PayloadReader) -> Auth:
    (method,) = reader.unpack(_KIND, "authentication method")
    return Auth(method, reader.rest())


def _encode_auth(payload: Auth) -> bytes:
    return _KIND.pack(payload.method) + payload.octets


_KIND = Struct(">B3x")


# 3.9: "The size of the Nonce Data MUST be between 16 and 256 octets, inclusive."
def _decode_nonce(reader: PayloadReader) -> Nonce:
    if not 16 <= reader.left <= 256:
        raise reader.fail(f"{reader.left} octets, 16 to 256 wanted", "nonce")
    return Nonce(reader.rest())


def _encode_nonce(payload: Nonce) -> bytes:
    if not 16 <= len(payload.octets) <= 256:
        raise DoesNotFitError(f"a nonce of {len(payload.octets)} octets")
    return payload.octets


# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |  Protocol ID  |   SPI Size    |      Notify Message Type      |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~                Security Parameter Index (SPI)                 ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~                       Notification Data                       ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def _decode_notify(reader: PayloadReader) -> Notify:
    protocol, size, kind = reader.unpack(_NOTIFY, "notify header")
    spi = reader.take(size, "SPI") if size else b""
    return Notify(kind, reader.rest(), protocol, spi)


def _encode_notify(payload: Notify) -> bytes:
    return _NOTIFY.pack(payload.protocol, len(payload.spi), payload.kind) + payload.spi + payload.octets


_NOTIFY = Struct(">BBH")


# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# | Protocol ID   |   SPI Size    |          Num of SPIs          |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~               Security Parameter Index(es) (SPI)              ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def _decode_delete(reader: PayloadReader) -> Delete:
    protocol, size, count = reader.unpack(_NOTIFY, "delete header")
    # 3.11: SPI Size "MUST be zero for IKE (SPI is in message header) or four for AH and ESP".
    if protocol not in (ProtocolId.IKE, ProtocolId.AH, ProtocolId.ESP) or size != (0 if protocol == 1 else 4):
        raise reader.fail(f"SPIs of {size} octets for protocol {protocol}", "SPI size", back=3)
    if count > MOST_SPIS or count * size != reader.left or (count and not size):
        raise reader.fail(f"{count} SPIs in {reader.left} octets, at most {MOST_SPIS} are taken", "SPIs", back=2)
    for _ in range(count):
        reader.part("SPI")
    return Delete(protocol, tuple([reader.take(4, "SPI") for _ in range(count)]))


def _encode_delete(payload: Delete) -> bytes:
    ike = payload.protocol == ProtocolId.IKE
    if len(payload.spis) > MOST_SPIS or any(ike or len(spi) != 4 for spi in payload.spis):
        raise DoesNotFitError(f"a Delete of {len(payload.spis)} SPIs for protocol {payload.protocol}")
    return _NOTIFY.pack(payload.protocol, 0 if ike else 4, len(payload.spis)) + b"".join(payload.spis)


# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# | Number of TSs |                 RESERVED                      |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~                       <Traffic Selectors>, each               ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |   TS Type     |IP Protocol ID |       Selector Length         |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |           Start Port          |           End Port            |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~                         Starting Address                      ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~                         Ending Address                        ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
_TS_HEAD, _TS_PORTS = Struct(">BBH"), Struct(">HH")
_TS_ADDRESS: dict[int, int] = {TsKind.IPV4_ADDR_RANGE: 4, TsKind.IPV6_ADDR_RANGE: 16}
_OPAQUE = (65535, 0)
"""3.13.1: the ports of a selector for packets whose ports are hidden. The one range that may end before it begins."""


def _decode_ts(reader: PayloadReader, *, initiator: bool) -> TrafficSelectors:
    (count,) = reader.unpack(_KIND, "number of selectors")
    selectors = [_decode_selector(reader) for _ in range(count)]
    return TrafficSelectors(initiator, tuple([each for each in selectors if each is not None]))


def _decode_selector(reader: PayloadReader) -> Selector | None:
    """None: of a type that we do not know, which takes nothing in, so that narrowing leaves it out (2.9)."""
    reader.part("traffic selector")
    kind, protocol, length = reader.unpack(_TS_HEAD, "traffic selector")
    if not 4 <= length <= reader.left + 4:
        raise reader.fail(f"length {length}, {reader.left + 4} left", "selector length", back=2)
    size = _TS_ADDRESS.get(kind)
    if size is None:
        reader.take(length - 4, "traffic selector")
        return None
    if length != 8 + 2 * size:
        raise reader.fail(f"length {length} for type {kind}", "selector length", back=2)
    ports = reader.unpack(_TS_PORTS, "ports")
    first, last = reader.take(size, "starting address"), reader.take(size, "ending address")
    if first > last:
        raise reader.fail("the range ends before it begins", "ending address", back=size)
    if ports[0] > ports[1] and ports != _OPAQUE:
        raise reader.fail(f"ports {ports[0]} to {ports[1]}", "end port", back=2 * size + 2)
    return Selector(first, last, protocol, *ports)


def _encode_ts(payload: TrafficSelectors) -> bytes:
    if len(payload.selectors) > MOST_SELECTORS:
        raise DoesNotFitError(f"{len(payload.selectors)} traffic selectors")
    octets = _KIND.pack(len(payload.selectors))
    for each in payload.selectors:
        size, ports = len(each.first), (each.first_port, each.last_port)
        if size not in (4, 16) or len(each.last) != size or each.first > each.last:
            raise DoesNotFitError("a traffic selector without a range of addresses")
        if ports[0] > ports[1] and ports != _OPAQUE:
            raise DoesNotFitError("a traffic selector without a range of ports")
        kind = TsKind.IPV4_ADDR_RANGE if size == 4 else TsKind.IPV6_ADDR_RANGE
        octets += _TS_HEAD.pack(kind, each.protocol, 8 + 2 * size) + _TS_PORTS.pack(*ports) + each.first + each.last
    return octets


# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |   CFG Type    |                    RESERVED                   |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~                   Configuration Attributes, each              ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |R|         Attribute Type      |            Length             |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~                             Value                             ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
_ATTRIBUTE = Struct(">HH")


def _decode_cp(reader: PayloadReader) -> Configuration:
    (kind,) = reader.unpack(_KIND, "CFG type")
    attributes: list[Attribute] = []
    while reader.left:
        if len(attributes) == MOST_ATTRIBUTES:
            raise reader.fail(f"more than {MOST_ATTRIBUTES} attributes", "configuration attribute")
        reader.part("configuration attribute")
        number, length = reader.unpack(_ATTRIBUTE, "configuration attribute")
        attributes.append(Attribute(number & 0x7FFF, reader.take(length, "configuration attribute")))
    return Configuration(kind, tuple(attributes))


def _encode_cp(payload: Configuration) -> bytes:
    if len(payload.attributes) > MOST_ATTRIBUTES or any(each.kind > 0x7FFF for each in payload.attributes):
        raise DoesNotFitError(f"{len(payload.attributes)} configuration attributes, or one of a type above 32767")
    octets = [_ATTRIBUTE.pack(each.kind, len(each.octets)) + each.octets for each in payload.attributes]
    return _KIND.pack(payload.kind) + b"".join(octets)


# RFC 7383 2.5
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |        Fragment Number        |        Total Fragments        |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# ~          Initialization Vector, encrypted content, ICV        ~
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
def _decode_skf(reader: PayloadReader) -> EncryptedFragment:
    """`first` stands in the generic header: the codec fills it in."""
    number, total = reader.unpack(_TS_PORTS, "fragment header")
    # "Fragment Number ... starting from 1. This field MUST be less than or equal to the second one."
    if not 0 < number <= total:
        raise reader.fail(f"fragment {number} of {total}", "fragment number", back=4)
    return EncryptedFragment(0, number, total, reader.rest())


def _encode_skf(payload: EncryptedFragment) -> bytes:
    if not 0 < payload.number <= payload.total:
        raise DoesNotFitError(f"fragment {payload.number} of {payload.total}")
    return _TS_PORTS.pack(payload.number, payload.total) + payload.octets


def _octets(payload: VendorId) -> bytes:
    return payload.octets


_K = PayloadKind
_TABLE = (
    PayloadRow(_K.SA, SecurityAssociation, decode_sa, encode_sa, "RFC 7296 3.3"),
    PayloadRow(_K.KE, KeyExchange, _decode_ke, _encode_ke, "RFC 7296 3.4"),
    PayloadRow(_K.IDI, IdentityPayload, partial(_decode_id, initiator=True), _encode_id, "RFC 7296 3.5", True),
    PayloadRow(_K.IDR, IdentityPayload, partial(_decode_id, initiator=False), _encode_id, "RFC 7296 3.5", False),
    PayloadRow(_K.CERT, Certificate, _decode_cert, _encode_cert, "RFC 7296 3.6"),
    PayloadRow(_K.CERTREQ, CertificateRequest, _decode_certreq, _encode_cert, "RFC 7296 3.7"),
    PayloadRow(_K.AUTH, Auth, _decode_auth, _encode_auth, "RFC 7296 3.8"),
    PayloadRow(_K.NONCE, Nonce, _decode_nonce, _encode_nonce, "RFC 7296 3.9"),
    PayloadRow(_K.NOTIFY, Notify, _decode_notify, _encode_notify, "RFC 7296 3.10"),
    PayloadRow(_K.DELETE, Delete, _decode_delete, _encode_delete, "RFC 7296 3.11"),
    PayloadRow(_K.VENDOR_ID, VendorId, lambda reader: VendorId(reader.rest()), _octets, "RFC 7296 3.12"),
    PayloadRow(_K.TSI, TrafficSelectors, partial(_decode_ts, initiator=True), _encode_ts, "RFC 7296 3.13", True),
    PayloadRow(_K.TSR, TrafficSelectors, partial(_decode_ts, initiator=False), _encode_ts, "RFC 7296 3.13", False),
    PayloadRow(_K.CP, Configuration, _decode_cp, _encode_cp, "RFC 7296 3.15"),
    PayloadRow(_K.SKF, EncryptedFragment, _decode_skf, _encode_skf, "RFC 7383 2.5"),
)

ROWS: dict[int, PayloadRow] = {row.kind: row for row in _TABLE}
_BY_VALUE = {(row.value, row.initiator): row for row in _TABLE}


def row_of(payload: Payload) -> PayloadRow:
    """The row of a value, but of Encrypted and Unknown, which are the codec's."""
    return _BY_VALUE[type(payload), getattr(payload, "initiator", None)]
