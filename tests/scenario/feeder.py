"""A scripted BGP speaker on the in-memory network: bgp.wire and nothing else, so that a test says each octet's worth.

It waits for the node under test to connect, opens with what it is told, and then sends just what the test says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from bgp.wire import (
    VPNV4,
    VPNV6,
    AsPath,
    Attributes,
    Capability,
    Family,
    FourOctetAs,
    Keepalive,
    Message,
    Multiprotocol,
    Nlri,
    Open,
    RouteRefreshCapability,
    Session,
    Update,
    decode,
    encode,
    encode_updates,
    encode_withdrawals,
    split,
    vpn_nlri,
)
from stack.addr import RD, RT, Prefix, parse_address
from stack.net import TcpOptions
from stack.testing.node import MemoryNode

__all__ = ["Feeder", "routes"]

SESSION = Session()


def routes(rd: str, *prefixes: str, label: int) -> list[Nlri]:
    return [vpn_nlri(RD.parse(rd), Prefix.parse(prefix), (label,)) for prefix in prefixes]


class Feeder(asyncio.Protocol):
    """A peer in AS 65000. `heard`: every message of the node, in order. `hold` 0: no keepalives are due (RFC 4271 4.2)."""

    def __init__(self, node: MemoryNode, address: str, *, hold: int = 0, extra: tuple[Capability, ...] = ()) -> None:
        self.heard: list[Message] = []
        self.up = asyncio.Event()
        self._node = node
        self._address = parse_address(address)
        self._hold = hold
        self._extra = extra
        self._buffer = bytearray()
        self._transport: Any = None
        self._listener: Any = None

    async def start(self) -> None:
        self._listener = await self._node.listen_tcp(lambda: self, TcpOptions(port=179))

    def stop(self) -> None:
        self._listener.close()
        if self._transport is not None:
            self._transport.abort()

    # --- the session ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._buffer.clear()
        families = (Multiprotocol(VPNV4), Multiprotocol(VPNV6))
        self.send(
            Open(
                65000,
                self._hold,
                self._address,
                (*families, RouteRefreshCapability(), FourOctetAs(65000), *self._extra),
            )
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self.up.clear()
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (size := split(self._buffer, SESSION)) is not None:
            message = decode(bytes(self._buffer[:size]), SESSION)
            del self._buffer[:size]
            self.heard.append(message)
            if isinstance(message, Open):
                self.send(Keepalive())
            elif isinstance(message, Keepalive):
                self.up.set()

    def send(self, message: Message) -> None:
        self._transport.write(encode(message, SESSION))

    # --- routes -----------------------------------------------------------------------------------------------------------

    def announce(
        self, family: Family, next_hop: str, some: Iterable[Nlri], *targets: str, asns: tuple[int, ...] = ()
    ) -> None:
        attributes = Attributes.of(
            origin=0,
            as_path=AsPath.of(*asns),
            local_pref=100,
            ext_communities=[bytes(RT.parse(target)) for target in targets],
        )
        for octets in encode_updates(family, attributes, parse_address(next_hop), list(some), SESSION).messages:
            self._transport.write(octets)

    def withdraw(self, family: Family, some: Iterable[Nlri]) -> None:
        for octets in encode_withdrawals(family, list(some), SESSION):
            self._transport.write(octets)

    def updates(self) -> list[Update]:
        return [message for message in self.heard if isinstance(message, Update)]
