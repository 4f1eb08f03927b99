"""The network as services see it: sockets, attachments and the host underneath, behind three small protocols.

`stack.os` implements them on Linux, `stack.testing.MemoryNetwork` in memory. A `Port` is the same few bound methods in
both worlds, so that the forwarder's loops cost nothing extra.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from stack.addr import Prefix
from stack.nettypes import Datagram, Device, HostRoute, TcpOptions

__all__ = ["Datagram", "DatagramPort", "Device", "Host", "HostRoute", "Listener", "Network", "Port", "TcpOptions"]

VNET_HEADER = 10
"""Octets of the virtio-net header that some ports put before each packet (`Port.headroom`)."""


class Port(Protocol):
    """Packets or frames in and out, never blocking.

    `recv_into(buffer)` fills one packet and returns its length; BlockingIOError when none is left. `send(octets)` sends one
    packet; BlockingIOError when the queue is full, other OSError as sendmsg(2). Each packet that is received is preceded by
    `headroom` octets of virtio-net header (0 or 10), and each packet sent must be. Closing twice is allowed.

    A port may also have `receive_fd` and `send_fd` (-1: none): descriptors of sockets on which recvmmsg(2) and sendmmsg(2)
    do what `recv_into` and `send` do, many packets at a time.
    """

    name: str
    mtu: int
    headroom: int

    def recv_into(self, buffer: memoryview | bytearray, /) -> int: ...
    def send(self, octets: bytes | bytearray | memoryview, /) -> int: ...
    def listen(self, readable: Callable[[], None] | None) -> None: ...
    def close(self) -> None: ...


class DatagramPort(Protocol):
    """UDP over IPv4 at one port of ours, every address of one VRF, never blocking.

    `receive` raises BlockingIOError when nothing is left, and nothing else because of a peer. `send` raises BlockingIOError
    when the queue is full, other OSError as sendmsg(2). Closing twice is allowed.
    """

    port: int

    def receive(self) -> Datagram: ...
    def send(self, octets: bytes, local: bytes, remote: bytes, port: int) -> None:
        """From our address `local` (empty: the host chooses) to `remote`, `port`. Fragmented if it must be."""
        ...

    def listen(self, readable: Callable[[], None] | None) -> None: ...
    def close(self) -> None: ...


class Listener(Protocol):
    """`keyless`: whose key (`TcpOptions.keys`) the host did not take, and why. Nothing proves who they are, so whoever
    listens must not accept them."""

    keyless: Mapping[Prefix, str]

    def close(self) -> None: ...


class Host(Protocol):
    """The host's own tables, which the kernel mirror (tunnel.io.host) writes. All raise OSError.

    What is added is marked as ours where the host allows it, `ours()` finds it again after a kill -9.
    """

    def devices(self) -> tuple[Device, ...]: ...
    def watch(self, changed: Callable[[], None] | None) -> None: ...
    def addresses(self) -> Iterable[tuple[str, bytes, int]]: ...
    def add_address(self, device: str, address: bytes, length: int) -> None: ...
    def remove_address(self, device: str, address: bytes, length: int) -> None: ...
    def routes(self) -> Iterable[tuple[HostRoute, bool]]: ...
    def add_route(self, route: HostRoute) -> None: ...
    def remove_route(self, route: HostRoute) -> None: ...
    def set_link(self, device: str, *, up: bool, mtu: int | None = None) -> None: ...
    def drop_ingress(self, device: str, *, vlans: Iterable[int | None]) -> Callable[[], None]: ...


class Network(Protocol):
    """Where services get sockets. All raise OSError; PermissionError names what is missing."""

    @property
    def host(self) -> Host:
        """The host's own tables."""
        ...

    async def connect_tcp(
        self, factory: Callable[[], asyncio.Protocol], options: TcpOptions
    ) -> tuple[asyncio.Transport, asyncio.Protocol]: ...

    async def listen_tcp(self, factory: Callable[[], asyncio.Protocol], options: TcpOptions) -> Listener:
        """Accept connections to `options.local` (empty: any address of the VRF). The accepted transport's extra info
        has `sockname` and `peername`, each (text, port, ...)."""
        ...

    def frames(self, device: str, vlan: int | None) -> Port:
        """Ethernet frames of one attachment: untagged ones, or those of one VLAN with the tag taken off.

        What is sent must carry its own tag. Frames that this host sends are not seen.
        """
        ...

    def labelled_frames(self, device: str) -> Port:
        """Frames of EtherType 0x8847 only, on a device that otherwise stays with the kernel; sent frames are whole.
        ARP and ND of the device are heard as well, so that neighbours can be learnt."""
        ...

    def host_port(self, vrf: str, index: int, mtu: int) -> Port:
        """The VRF's door to the host's TCP/IP (a TUN device): bare IP packets. `name` is the device's name."""
        ...

    def tun(self, device: str, mtu: int) -> Port:
        """A customer attachment that carries bare IP packets."""
        ...

    def datagrams(self, port: int, *, marked: bool = False, vrf: str = "") -> DatagramPort:
        """`marked`: only datagrams that begin with four octets of zero, the non-ESP marker (RFC 3948 2.2), which they keep;
        the others on that port are for `raw`. In a VRF other than the default one they come and go by its host port
        (ENODEV while it has none), and the forwarder takes ESP out of UDP 4500 before; an SA negotiated there says so
        (`stack.tables.sad.Sa.vrf`)."""
        ...

    def raw(self, protocol: int, *, remote: bytes = b"", port: int = 0) -> Port:
        """IPv4 packets of one protocol in the default VRF, headers included both ways. With `port`, of UDP: datagrams to that
        port of ours that do not begin with the non-ESP marker.

        With `remote`: connected and send-only, for the packet path's prebuilt headers. As raw(7) with IP_HDRINCL: the total
        length and the header checksum of what is sent are filled in, and so is an identification of zero.
        """
        ...
