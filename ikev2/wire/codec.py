"""decode and encode: whole messages, chains of payloads, and what is sealed around them."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct, error
from typing import NamedTuple, Protocol

from attrs import evolve

from ikev2.wire.bounds import MOST_FRAGMENTS, MOST_OCTETS, MOST_PAYLOADS, DoesNotFitError, PayloadReader
from ikev2.wire.numbers import Exchange, PayloadKind
from ikev2.wire.payloads import Encrypted, EncryptedFragment, Message, Payload, Unknown
from ikev2.wire.rows import ROWS, row_of
from stack.wire import WireError

__all__ = [
    "HEADER",
    "Header",
    "Sealer",
    "aad_of",
    "decode",
    "decode_payloads",
    "encode",
    "encode_fragments",
    "encode_payloads",
    "encode_protected",
    "encode_sealed",
    "sealed",
    "split_header",
]

#                      1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |                       IKE SA Initiator's SPI                  |
# |                                                               |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |                       IKE SA Responder's SPI                  |
# |                                                               |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |  Next Payload | MjVer | MnVer | Exchange Type |     Flags     |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |                          Message ID                           |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |                            Length                             |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
_HEADER = Struct(">8s8sBBBBII")
HEADER = _HEADER.size
_INITIATOR, _RESPONSE = 0x08, 0x20
"""Of the flags; 0x10 says that the sender can speak a higher version, which changes nothing."""
_GENERIC = Struct(">BBH")
_CRITICAL = 0x80
_SKF_HEAD = Struct(">BxHHH")
_RFC = "RFC 7296 3.1"


class Header(NamedTuple):
    """The fixed header as it stands: nothing of it has been checked. `length` is what it states."""

    initiator_spi: bytes
    responder_spi: bytes
    first: int
    version: int
    exchange: int
    initiator: bool
    response: bool
    message_id: int
    length: int


class Sealer(Protocol):
    """What protects the content of Encrypted: a cipher with its keys, of one IKE SA and direction.

    `overhead(length)`: how many octets more `seal` makes of so many of plaintext: IV, padding with its length, ICV.
    `seal(aad, plaintext)`: IV, ciphertext, ICV. `aad` is all of the message before that; with a separate integrity
    algorithm the ICV is over `aad`, IV and ciphertext, which is the whole message but the ICV (RFC 7296 3.14).
    """

    def overhead(self, length: int, /) -> int: ...
    def seal(self, aad: bytes, plaintext: bytes, /) -> bytes: ...


# --- in ------------------------------------------------------------------------------------------------------------------


def split_header(octets: bytes) -> Header:
    """The fixed header, of any version. WireError if there are not 28 octets."""
    if len(octets) < HEADER:
        raise WireError(f"{len(octets)} octets, {HEADER} wanted", len(octets), "header", _RFC)
    ispi, rspi, first, version, exchange, flags, message_id, length = _HEADER.unpack_from(octets)
    return Header(
        ispi, rspi, first, version, exchange, bool(flags & _INITIATOR), bool(flags & _RESPONSE), message_id, length
    )


def decode(octets: bytes | bytearray | memoryview) -> Message:
    """One datagram, without a non-ESP marker. The content of Encrypted stays sealed.

    Raises WireError and nothing else. Its `field` is "version" if the major version is not 2, which is worth
    INVALID_MAJOR_VERSION where the IKE SA is unknown (RFC 7296 2.5); `split_header` has what such an answer needs.
    """
    octets = bytes(octets)
    header = split_header(octets)
    if header.version >> 4 != 2:
        raise WireError(f"major version {header.version >> 4}", 17, "version", "RFC 7296 2.5")
    if not len(octets) == header.length <= MOST_OCTETS:
        raise WireError(f"length {header.length} in a datagram of {len(octets)}", 24, "length", _RFC)
    alone = header.exchange == Exchange.INFORMATIONAL and header.initiator and not header.response
    if header.initiator_spi == bytes(8) and not alone:
        # 3.1: "This value MUST NOT be zero." But 1.5 allows it where INVALID_SPI is said outside of any IKE SA.
        raise WireError("zero", 0, "initiator SPI", _RFC)
    payloads = _chain(PayloadReader(octets, HEADER, len(octets), "RFC 7296 3.2"), header.first, outside=True)
    return Message(
        header.initiator_spi,
        header.responder_spi,
        header.exchange,
        header.message_id,
        header.initiator,
        header.response,
        payloads,
        header.version,
    )


def decode_payloads(first: int, octets: bytes, *, offset: int = 0) -> tuple[Payload, ...]:
    """What was inside Encrypted: a chain that begins with a payload of type `first` (0: empty, as in a request that only asks
    whether we live). `offset`: where in the message it stood, for the error. Raises WireError and nothing else."""
    octets = bytes(octets)
    try:
        return _chain(PayloadReader(octets, 0, len(octets), "RFC 7296 3.2"), first, outside=False)
    except WireError as problem:
        raise evolve(problem, offset=problem.offset + offset) from None


def aad_of(octets: bytes, payload: Encrypted | EncryptedFragment) -> bytes:
    """Of a message that `decode` has taken apart, and the sealed payload that is its last: what stands before the sealed
    octets. RFC 5282 5.1: from the first octet of the header through the last of the Encrypted payload's own header; of a
    fragment that header has eight octets (RFC 7383 2.5)."""
    return bytes(octets[: len(octets) - len(payload.octets)])


def sealed(octets: bytes) -> tuple[bytes, Encrypted | EncryptedFragment]:
    """(associated data, the sealed payload) of a message. WireError if it is broken, or its last payload is not sealed."""
    message = decode(octets)
    last = message.payloads[-1] if message.payloads else None
    if not isinstance(last, Encrypted | EncryptedFragment):
        raise WireError("none", len(octets), "Encrypted payload", "RFC 7296 3.14")
    return aad_of(octets, last), last


def _chain(reader: PayloadReader, kind: int, *, outside: bool) -> tuple[Payload, ...]:
    """The payloads up to the end. `outside`: a sealed one may end them."""
    payloads: list[Payload] = []
    end, octets = reader.end, reader.octets
    while kind:
        if len(payloads) == MOST_PAYLOADS:
            raise reader.fail(f"more than {MOST_PAYLOADS} payloads", "payload")
        start = reader.offset
        if end - start < _GENERIC.size:
            raise reader.fail(f"{end - start} octets left for payload {kind}", "payload header")
        following, flags, length = _GENERIC.unpack_from(octets, start)
        if not _GENERIC.size <= length <= end - start:
            raise reader.fail(f"length {length} of payload {kind}, {end - start} left", "payload length")
        reader.offset, reader.end = start + _GENERIC.size, start + length
        reader.part("payload")
        row = ROWS.get(kind)
        if kind in _SEALED:
            # 3.14: "the Encrypted payload ... MUST be the last payload"; its Next Payload is the first one inside.
            if not outside or start + length != end:
                raise reader.fail("sealed, but not the last payload", "Encrypted payload", back=4, rfc="RFC 7296 3.14")
            payloads.append(_decode_sealed(reader, kind, following))
            break
        if row is None:
            payloads.append(Unknown(kind, bool(flags & _CRITICAL), reader.rest()))
        else:
            reader.rfc = row.rfc
            payloads.append(row.decode(reader))
            if reader.offset != reader.end:
                raise reader.fail(f"{reader.left} octets too many", "payload length")
            reader.rfc = _RFC_PAYLOAD
        reader.end = end
        kind = following
    if reader.offset != end:
        raise reader.fail(f"{end - reader.offset} octets after the last payload", "next payload")
    return tuple(payloads)


_RFC_PAYLOAD = "RFC 7296 3.2"
_SEALED = (PayloadKind.SK, PayloadKind.SKF)


def _decode_sealed(reader: PayloadReader, kind: int, first: int) -> Encrypted | EncryptedFragment:
    if kind == PayloadKind.SK:
        return Encrypted(first, reader.rest())
    reader.rfc = ROWS[kind].rfc
    fragment = ROWS[kind].decode(reader)
    assert isinstance(fragment, EncryptedFragment)
    return evolve(fragment, first=first)


# --- out -----------------------------------------------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """One datagram, without a non-ESP marker. DoesNotFitError (a ValueError) for what no message can hold."""
    first, body = encode_payloads(message.payloads)
    return _head(message, first, HEADER + len(body)) + body


def encode_payloads(payloads: Iterable[Payload]) -> tuple[int, bytes]:
    """(type of the first one, the chain): what `encode_sealed` takes as its content. DoesNotFitError."""
    first, body = _encode_chain(tuple(payloads))
    if len(body) > MOST_OCTETS - HEADER:
        raise DoesNotFitError(f"payloads of {len(body)} octets")
    return first, body


def encode_sealed(message: Message, first: int, plaintext: bytes, sealer: Sealer) -> bytes:
    """`message` with one more payload: Encrypted, with a chain as its content. Its own payloads, mostly none, stay in the
    clear. DoesNotFitError."""
    size = len(plaintext) + sealer.overhead(len(plaintext))
    kind, clear = _encode_chain(message.payloads, PayloadKind.SK)
    total = HEADER + len(clear) + _GENERIC.size + size
    aad = _head(message, kind, total) + clear + _packed(_GENERIC, first, 0, _GENERIC.size + size)
    return aad + _seal(sealer, aad, plaintext, size)


def encode_fragments(message: Message, first: int, plaintext: bytes, sealer: Sealer, size: int) -> tuple[bytes, ...]:
    """The same in Encrypted Fragments, as few as can be, each a message of at most `size` octets (RFC 7383 2.5).

    Only for a message without payloads in the clear. DoesNotFitError if more than MOST_FRAGMENTS are needed.
    """
    if message.payloads:
        raise DoesNotFitError("a message with payloads in the clear is not fragmented")
    step = _step(sealer, size - HEADER - _SKF_HEAD.size)
    total = max(1, -(-len(plaintext) // step)) if step else MOST_FRAGMENTS + 1
    if total > MOST_FRAGMENTS:
        raise DoesNotFitError(f"{len(plaintext)} octets in fragments of {size}")
    fragments = []
    for number in range(1, total + 1):
        piece = plaintext[(number - 1) * step : number * step]
        body = len(piece) + sealer.overhead(len(piece))
        # "Next Payload ... in the very first fragment ... the first payload inside; in the rest ... MUST be set to zero"
        head = _SKF_HEAD.pack(first if number == 1 else 0, _SKF_HEAD.size + body, number, total)
        aad = _head(message, PayloadKind.SKF, HEADER + _SKF_HEAD.size + body) + head
        fragments.append(aad + _seal(sealer, aad, piece, body))
    return tuple(fragments)


def encode_protected(
    message: Message, payloads: Iterable[Payload], sealer: Sealer, *, size: int = 0
) -> tuple[bytes, ...]:
    """`payloads` sealed into `message`: one datagram, or several if it were larger than `size` (0: never fragmented)."""
    first, plaintext = encode_payloads(payloads)
    whole = HEADER + _GENERIC.size + len(plaintext) + sealer.overhead(len(plaintext))
    if not size or whole <= size or message.payloads:
        return (encode_sealed(message, first, plaintext, sealer),)
    return encode_fragments(message, first, plaintext, sealer, size)


def _step(sealer: Sealer, room: int) -> int:
    """The most octets of plaintext whose sealed form fits `room`."""
    step = max(room, 0)
    while step and step + sealer.overhead(step) > room:
        step -= 1
    return step


def _seal(sealer: Sealer, aad: bytes, plaintext: bytes, size: int) -> bytes:
    octets = sealer.seal(aad, plaintext)
    if len(octets) != size:
        raise DoesNotFitError(f"the sealer made {len(octets)} octets, and had promised {size}")
    return octets


def _head(message: Message, first: int, length: int) -> bytes:
    if length > MOST_OCTETS:
        raise DoesNotFitError(f"a message of {length} octets")
    if len(message.initiator_spi) != 8 or len(message.responder_spi) != 8:
        raise DoesNotFitError("an IKE SPI has eight octets")
    flags = (_INITIATOR if message.initiator else 0) | (_RESPONSE if message.response else 0)
    return _packed(
        _HEADER,
        message.initiator_spi,
        message.responder_spi,
        first,
        message.version,
        message.exchange,
        flags,
        message.message_id,
        length,
    )


def _encode_chain(payloads: tuple[Payload, ...], following: int = 0) -> tuple[int, bytes]:
    """`following`: the type of what comes behind these."""
    if len(payloads) + bool(following) > MOST_PAYLOADS:
        raise DoesNotFitError(f"{len(payloads)} payloads, at most {MOST_PAYLOADS} are sent")
    pieces: list[bytes] = []
    for payload in reversed(payloads):
        value = type(payload)
        if value is Encrypted or value is EncryptedFragment:
            if following or pieces:
                raise DoesNotFitError("a sealed payload must be the last one")
            following = payload.first  # type: ignore[union-attr]  # by its type
        kind, flags, body = _encode_body(payload)
        pieces.append(body)
        try:
            pieces.append(_GENERIC.pack(following, flags, _GENERIC.size + len(body)))
        except error as problem:
            raise DoesNotFitError(str(problem)) from None
        following = kind
    pieces.reverse()
    return following, b"".join(pieces)


def _encode_body(payload: Payload) -> tuple[int, int, bytes]:
    value = type(payload)
    if value is Unknown:
        return payload.kind, _CRITICAL if payload.critical else 0, payload.octets  # type: ignore[union-attr]  # by its type
    if value is Encrypted:
        return PayloadKind.SK, 0, payload.octets  # type: ignore[union-attr]  # by its type
    row = row_of(payload)
    try:
        return row.kind, 0, row.encode(payload)
    except (error, ValueError, OverflowError) as problem:
        raise DoesNotFitError(f"{row.kind.name}: {problem}") from None


def _packed(form: Struct, *values: object) -> bytes:
    try:
        return form.pack(*values)
    except error as problem:
        raise DoesNotFitError(str(problem)) from None
