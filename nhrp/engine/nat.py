"""Cisco's NAT address extension: who stands behind a NAT, and how it is seen from outside.

client --[10.1.1.2]-- NAT --[198.51.100.7]-- server        (outer addresses)
  | Registration Request   Src NBMA 10.1.1.2, NAT: server's addresses
  |-------------------------------------------------------->|  outer source 198.51.100.7 is not Src NBMA
  | Registration Reply     NAT: the same, and 198.51.100.7  |
  |<--------------------------------------------------------|  two entries: I am behind a NAT, and this is how I am seen
"""

from __future__ import annotations

from attrs import evolve

from nhrp.engine.bindings import Bindings
from nhrp.wire import cie_extension, nat_addresses_of
from nhrp.wire.packet import Cie, ExtensionKind, Packet
from stack.wire import WireError

__all__ = ["fill", "nat_cies", "public_of", "registration_reply"]


def nat_cies(packet: Packet) -> tuple[Cie, ...] | None:
    """What its NAT address extension lists; None: it has none, or none that can be read."""
    try:
        return nat_addresses_of(packet)
    except WireError:
        return None


def registration_reply(asked: tuple[Cie, ...], packet: Packet, outer_source: bytes) -> tuple[Cie, ...]:
    """What our reply to registration `packet` says there: the same, and how we see the client, if that is not how it sees
    itself."""
    if outer_source == packet.source_nbma or len(outer_source) != len(packet.source_nbma):
        return asked[:1]
    return (*asked[:1], Cie(prefix_length=len(packet.source) * 8, nbma=outer_source, protocol=packet.source))


def public_of(reply: Packet) -> bytes:
    """Our own NBMA address as the server sees it; empty: there is no NAT, or the server does not say."""
    cies = nat_cies(reply) or ()
    seen = cies[1].nbma if len(cies) > 1 else b""
    return seen if seen != reply.source_nbma else b""


def fill(packet: Packet, address: bytes, bindings: Bindings, interface: str) -> Packet:
    """As transit NHS of a resolution: its NAT extension, if empty, gets the public address of `address` (Src proto of a
    request, the CIE's protocol address of a reply), if that one is registered here and behind a NAT."""
    extension = packet.extension(ExtensionKind.NAT_ADDRESS)
    binding = bindings.on(interface, address)
    if extension is None or extension.octets or binding is None or not binding.nat:
        return packet
    if len(binding.nbma) != len(packet.source_nbma):
        return packet
    cie = Cie(prefix_length=len(address) * 8, nbma=binding.nbma, protocol=address)
    filled = cie_extension(ExtensionKind.NAT_ADDRESS, (cie,), compulsory=extension.compulsory)
    return evolve(packet, extensions=tuple(filled if one is extension else one for one in packet.extensions))
