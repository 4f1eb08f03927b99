"""Messages of an IKE SA as datagrams: in the clear, sealed, in fragments (RFC 7296 3.14, RFC 7383)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ikev2.crypto.sealing import Sealer, SealError
from ikev2.engine.fragments import MAX_FRAGMENTS, Reassembly
from ikev2.wire import DoesNotFitError, aad_of, encode, encode_fragments, encode_payloads, encode_sealed
from ikev2.wire.numbers import Exchange
from ikev2.wire.payloads import Encrypted, EncryptedFragment, Message, Payload

if TYPE_CHECKING:
    from ikev2.engine.core import Core

__all__ = ["Outgoing", "open_fragment", "open_whole", "plain", "seal"]

_IP_AND_UDP, _MARKER, _SK = 28, 4, 32
"""Octets of headers under an IKE message: IPv4 and UDP; the non-ESP marker; the IKE header and the Encrypted payload's
own."""


class Outgoing:
    """A `Sealer` as the codec wants one: it asks how many octets are added."""

    __slots__ = ("_total", "seal")

    def __init__(self, sealer: Sealer) -> None:
        self.seal = sealer.seal
        self._total = sealer.overhead

    def overhead(self, length: int) -> int:
        return self._total(length) - length


def plain(spi_i: bytes, spi_r: bytes, payloads: list[Payload], *, initiator: bool, response: bool) -> bytes:
    """An IKE_SA_INIT message; its id is 0."""
    return encode(Message(spi_i, spi_r, Exchange.IKE_SA_INIT, 0, initiator, response, tuple(payloads)))


def seal(sa: Core, exchange: int, message_id: int, payloads: list[Payload], *, response: bool) -> tuple[bytes, ...]:
    """One datagram, or its fragments if it were larger than the limit and the peer can reassemble."""
    assert sa.seal_out is not None
    message = Message(sa.spi_i, sa.spi_r, exchange, message_id, sa.initiator, response)
    first, octets = encode_payloads(payloads)
    size = (sa.settings.fragmentation_mtu or 0) - _IP_AND_UDP - _MARKER
    if sa.fragmentation and _SK + len(octets) + sa.seal_out.overhead(len(octets)) > size:
        try:
            fragments = encode_fragments(message, first, octets, sa.seal_out, size)
            if len(fragments) <= MAX_FRAGMENTS:
                return fragments
        except DoesNotFitError:
            pass  # more fragments than anybody takes: IP may try
    return (encode_sealed(message, first, octets, sa.seal_out),)


def open_whole(sa: Core, octets: bytes, payload: Encrypted) -> tuple[int, bytes] | None:
    """(type of the first payload, payloads); None: not from the peer."""
    assert sa.seal_in is not None
    try:
        return payload.first, sa.seal_in.open(aad_of(octets, payload), payload.octets)
    except SealError:
        sa.drop("integrity")
        return None


def open_fragment(
    sa: Core, octets: bytes, message_id: int, payload: EncryptedFragment, parts: Reassembly
) -> tuple[int, bytes] | None:
    """As `open_whole`, once all are here. What is not wanted is not opened; what was not sealed by the peer changes nothing
    (RFC 7383 2.6)."""
    assert sa.seal_in is not None
    reason = parts.wanted(message_id, payload.number, payload.total)
    if reason:
        sa.drop(reason)
        return None
    try:
        opened = sa.seal_in.open(aad_of(octets, payload), payload.octets)
    except SealError:
        sa.drop("integrity")
        return None
    if payload.number == 1:
        parts.mark = hash(octets)
    return parts.add(message_id, payload.number, payload.total, payload.first, opened)
