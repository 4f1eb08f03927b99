"""decode and encode: whole packets, and lists of client information entries."""

from __future__ import annotations

from struct import Struct, error

from nhrp.wire.bounds import MOST_CIES, MOST_EXTENSIONS, MOST_OCTETS, DoesNotFitError
from nhrp.wire.packet import Cie, Extension, Kind, Packet
from stack.wire import WireError, internet_checksum

__all__ = ["FIXED", "HEADER", "decode", "decode_cies", "encode", "encode_cies", "extensions_offset"]

# Fixed part, and the part of the mandatory part whose place is known (RFC 2332 5.1, 5.2.0.1):
#
#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |            ar$afn             |          ar$pro.type          |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |                          ar$pro.snap                          |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |  ar$pro.snap  |   ar$hopcnt   |            ar$pktsz           |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |           ar$chksum           |            ar$extoff          |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# | ar$op.version |   ar$op.type  |    ar$shtl    |    ar$sstl    |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# | Src Proto Len | Dst Proto Len |             Flags             |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |          Request ID, or a code and an offset                  |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |  Source NBMA Address, its subaddress, Source and Destination Protocol Address (variable)
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
_HEADER = Struct(">HH5sBHHHBBBBBBHI")
HEADER = _HEADER.size
FIXED = 20
"""Octets of the fixed part alone."""

#  0                   1                   2                   3
#  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |    Code       | Prefix Length |         unused                |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |  Maximum Transmission Unit    |        Holding Time           |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |  Cli Addr T/L | Cli SAddr T/L | Cli Proto Len |  Preference   |
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
# |  Client NBMA Address, its subaddress, Client Protocol Address (variable)
# +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
_CIE = Struct(">BBxxHHBBBB")
_EXTENSION = Struct(">HH")
_COMPULSORY, _TYPE = 0x8000, 0x3FFF
_END = b"\x80\0\0\0"

_KINDS = {int(kind): kind for kind in Kind}
_INDICATIONS = (Kind.ERROR_INDICATION, Kind.TRAFFIC_INDICATION)
_NBMA_SIZES = {1: 4, 2: 16}
"""ar$afn: IPv4, IPv6."""
_AFNS = {4: 1, 16: 2}
_PROTOCOL_SIZES = {0x0800: 4, 0x86DD: 16, 0x00CC: 4, 0x008E: 16}
"""ar$pro.type: Ethertypes of IPv4 and IPv6, which are what is sent, and their NLPIDs."""
_PROTOCOLS = {4: 0x0800, 16: 0x86DD}
_NO_SNAP = bytes(5)
_SNAP = 0x0080
_SNAP_PROTOCOLS = {bytes.fromhex("0000000800"): 0x0800, bytes.fromhex("00000086dd"): 0x86DD}
_VERSION = 1

_FIXED_PART = "RFC 2332 5.1"
_MANDATORY = "RFC 2332 5.2.0.1"
_EXTENSIONS = "RFC 2332 5.3"


def decode(octets: bytes | memoryview) -> Packet:
    """The packet at the start of `octets`; what follows ar$pktsz octets is padding, and never looked at.

    Raises WireError: its field says which part it is about (`ar$...`, `CIE ...`, `extension ...`); see nhrp.wire.errors.
    """
    if len(octets) < HEADER:
        raise WireError(f"{HEADER} octets wanted, {len(octets)} came", 0, "header", _FIXED_PART)
    fields = _HEADER.unpack_from(octets)
    afn, protocol, snap, hops, size, _, extensions_at, version, kind_, shtl, sstl, spl, dpl, flags, word = fields
    octets = _whole(octets, size, version)
    kind = _KINDS.get(kind_)
    nbma_size, protocol_size = _NBMA_SIZES.get(afn), _PROTOCOL_SIZES.get(protocol)
    if protocol_size is None:
        protocol_size = _snap_size(protocol, snap)
    if kind is None:
        raise WireError(f"no packet type {kind_}", 17, "ar$op.type", "RFC 2332 5.1")
    if nbma_size is None:
        raise WireError(f"no NBMA address family {afn} here", 0, "ar$afn", _FIXED_PART)
    if shtl != nbma_size or sstl > 63 or spl != protocol_size or dpl != protocol_size:
        raise _wrong_length(shtl, sstl, spl, nbma_size, protocol_size)
    at_protocol = HEADER + nbma_size + sstl
    at_destination = at_protocol + protocol_size
    at = at_destination + protocol_size
    end = extensions_at or size
    if not at <= end <= size:
        if not extensions_at:
            raise WireError(f"{at} octets wanted, {size} came", HEADER, "addresses", _MANDATORY)
        raise WireError(f"extensions at {end}, addresses end at {at}, packet at {size}", 14, "ar$extoff", _FIXED_PART)
    cies: tuple[Cie, ...] = ()
    body, request_id, code, offset = b"", word, 0, 0
    if kind in _INDICATIONS:
        body, request_id, code, offset = octets[at:end], 0, word >> 16, word & 0xFFFF
    else:
        cies = _cies(octets, at, end, nbma_size, protocol_size, "CIE")
    return Packet(
        kind,
        octets[HEADER : HEADER + nbma_size],
        octets[at_protocol:at_destination],
        octets[at_destination:at],
        request_id,
        flags,
        cies,
        _extensions(octets, end) if extensions_at else (),
        hops,
        code,
        offset,
        body,
        octets[HEADER + nbma_size : at_protocol] if sstl else b"",
    )


def _whole(octets: bytes | memoryview, size: int, version: int) -> bytes:
    """The packet without padding, of a version that we know and with the right checksum."""
    if version != _VERSION:
        raise WireError(f"no version {version}", 16, "ar$op.version", _FIXED_PART)
    if not HEADER <= size <= len(octets) or size > MOST_OCTETS:
        raise WireError(f"a packet of {size} octets in {len(octets)}", 10, "ar$pktsz", _FIXED_PART)
    packet = bytes(octets[:size])
    # The sum of all 16-bit words is the number modulo 0xFFFF; a zero octet at the end changes nothing of its being 0.
    if int.from_bytes(packet) % 0xFFFF:
        raise WireError("the checksum is wrong", 12, "ar$chksum", _FIXED_PART)
    return packet


def _snap_size(protocol: int, snap: bytes) -> int:
    """Of a protocol address. RFC 2332 5.1: ar$pro.snap says the protocol if the type is 0x0080, else it is "ignored on
    receive"; IP's own codings are SNAP, NLPID (0x00CC) and Ethertype."""
    size = _PROTOCOL_SIZES.get(_SNAP_PROTOCOLS.get(snap, 0) if protocol == _SNAP else protocol)
    if size is None:
        raise WireError(f"no protocol {protocol:#06x} {snap.hex()} here", 2, "ar$pro.type", _FIXED_PART)
    return size


def _wrong_length(shtl: int, sstl: int, spl: int, nbma_size: int, protocol_size: int) -> WireError:
    if shtl != nbma_size:
        return WireError(f"length {shtl:#x}, the family has {nbma_size}", 18, "ar$shtl", _FIXED_PART)
    if sstl > 63:
        return WireError(f"no subaddress of type {sstl:#x}", 19, "ar$sstl", _FIXED_PART)
    if spl != protocol_size:
        return WireError(f"length {spl}, the protocol has {protocol_size}", 20, "Src Proto Len", _MANDATORY)
    return WireError(f"not the {protocol_size} octets of the protocol", 21, "Dst Proto Len", _MANDATORY)


def _extensions(octets: bytes, at: int) -> tuple[Extension, ...]:
    """Up to the End extension, or to the end: some forget it. What follows End says nothing."""
    found: list[Extension] = []
    end = len(octets)
    while at < end:
        if end - at < 4:
            raise WireError(f"4 octets wanted, {end - at} left", at, "extension header", _EXTENSIONS)
        kind, size = _EXTENSION.unpack_from(octets, at)
        number = kind & _TYPE
        start = at + 4
        if start + size > end:
            raise WireError(f"{size} octets wanted, {end - start} left", at + 2, "extension length", _EXTENSIONS)
        if not number:
            if size:
                raise WireError(f"an End of {size} octets", at + 2, "extension length", "RFC 2332 5.3.0")
            break
        if len(found) == MOST_EXTENSIONS:
            raise WireError(f"more than {MOST_EXTENSIONS}", at, "extension count", _EXTENSIONS)
        at = start + size
        found.append(Extension(number, octets[start:at], kind >= _COMPULSORY))
    return tuple(found)


def decode_cies(octets: bytes, nbma_size: int, protocol_size: int, base: int = 0) -> tuple[Cie, ...]:
    """All of `octets`, the value of an extension that stands at `base`. Addresses are of these sizes, or left out."""
    try:
        return _cies(octets, 0, len(octets), nbma_size, protocol_size, "extension CIE")
    except WireError as fault:
        raise WireError(fault.what, base + fault.offset, fault.field, fault.rfc) from None


def _cies(octets: bytes, at: int, end: int, nbma_size: int, protocol_size: int, field: str) -> tuple[Cie, ...]:
    found: list[Cie] = []
    while at < end:
        if end - at < 12:
            raise WireError(f"12 octets wanted, {end - at} left", at, field, _MANDATORY)
        code, prefix, mtu, hold, nbma, sub, protocol, preference = _CIE.unpack_from(octets, at)
        if (nbma and nbma != nbma_size) or sub > 63 or (protocol and protocol != protocol_size):
            text = f"lengths {nbma:#x}, {sub:#x}, {protocol}, and addresses are of {nbma_size} and {protocol_size}"
            raise WireError(text, at + 8, f"{field} lengths", _MANDATORY)
        start = at + 12
        after = start + nbma + sub + protocol
        if after > end:
            raise WireError(
                f"{after - start} octets wanted, {end - start} left", start, f"{field} addresses", _MANDATORY
            )
        if len(found) == MOST_CIES:
            raise WireError(f"more than {MOST_CIES}", at, f"{field} count", _MANDATORY)
        if after == start:
            found.append(Cie(code, prefix, mtu, hold, b"", b"", preference))
        else:
            split = start + nbma
            subaddress = octets[split : split + sub] if sub else b""
            one = Cie(code, prefix, mtu, hold, octets[start:split], octets[split + sub : after], preference, subaddress)
            found.append(one)
        at = after
    return tuple(found)


def encode_cies(cies: tuple[Cie, ...]) -> bytes:
    """Raises DoesNotFitError."""
    try:
        return b"".join([_encode_cie(cie) for cie in cies])
    except error as fault:
        raise DoesNotFitError(f"a CIE cannot be encoded: {fault}") from None


def _encode_cie(cie: Cie) -> bytes:
    nbma, protocol, sub = cie.nbma, cie.protocol, cie.subaddress
    lengths = len(nbma), len(sub), len(protocol)
    if lengths[1] > 63 or lengths[0] not in (0, 4, 16) or lengths[2] not in (0, 4, 16):
        raise DoesNotFitError(f"a CIE with addresses of {lengths} octets")
    head = _CIE.pack(cie.code, cie.prefix_length, cie.mtu, cie.holding_time, *lengths, cie.preference)
    return head + nbma + sub + protocol if nbma or protocol or sub else head


def extensions_offset(packet: Packet) -> int:
    """Where its extensions begin."""
    addresses = len(packet.source_nbma) + len(packet.source_subaddress) + 2 * len(packet.source)
    cies = sum(12 + len(one.nbma) + len(one.subaddress) + len(one.protocol) for one in packet.cies)
    return HEADER + addresses + cies + len(packet.body)


def encode(packet: Packet) -> bytes:
    """Its octets, checksum included. The addresses say which families it is of: none of the header's may be empty.

    Raises DoesNotFitError, which is an error of ours: what has been decoded can always be encoded, also with a record more.
    """
    source_nbma, source, destination, sub = (
        packet.source_nbma,
        packet.source,
        packet.destination,
        packet.source_subaddress,
    )
    afn, protocol = _AFNS.get(len(source_nbma)), _PROTOCOLS.get(len(source))
    if afn is None or protocol is None or len(destination) != len(source) or len(sub) > 63:
        lengths = len(source_nbma), len(sub), len(source), len(destination)
        raise DoesNotFitError(f"a header with addresses of {lengths} octets")
    mandatory = packet.body
    if packet.kind in _INDICATIONS:
        word = packet.code << 16 | packet.offset
    else:
        word = packet.request_id
        mandatory = encode_cies(packet.cies)
    rest = source_nbma + sub + source + destination + mandatory
    extensions_at = 0
    if packet.extensions:
        extensions_at = HEADER + len(rest)
        rest += _encode_extensions(packet.extensions)
    size = HEADER + len(rest)
    lengths_ = len(source_nbma), len(sub), len(source), len(destination)
    try:
        head = _HEADER.pack(
            afn, protocol, _NO_SNAP, packet.hop_count, size, 0, extensions_at, _VERSION, packet.kind, *lengths_,
            packet.flags, word,
        )  # fmt: skip
    except error as fault:
        raise DoesNotFitError(f"a packet cannot be encoded: {fault}") from None
    checksum = internet_checksum(head + rest)
    return b"%b%b%b%b" % (head[:12], checksum.to_bytes(2), head[14:], rest)


def _encode_extensions(extensions: tuple[Extension, ...]) -> bytes:
    parts: list[bytes] = []
    for one in extensions:
        if not 0 < one.kind <= _TYPE or len(one.octets) > 0xFFFF:
            raise DoesNotFitError(f"extension {one.kind} of {len(one.octets)} octets")
        parts.append(_EXTENSION.pack(one.kind | _COMPULSORY if one.compulsory else one.kind, len(one.octets)))
        parts.append(one.octets)
    parts.append(_END)
    return b"".join(parts)
