"""The plain values that go to and come from the network: pure, so that engines may name them too."""

from __future__ import annotations

from typing import NamedTuple

from attrs import field, frozen

from stack.addr import Prefix

__all__ = ["Datagram", "Device", "HostRoute", "TcpOptions"]


@frozen
class TcpOptions:
    """A TCP connection's ends and rules. `local` empty: the host chooses. `ttl` sent; `min_ttl` accepted (GTSM, RFC 5082).

    In a VRF other than the default one the socket is bound to the VRF's host port. Of a listener: `keys` are the peers, and
    ranges of peers, that sign, each with its own key (RFC 2385); `hops` those of whom another TTL than `min_ttl` is
    demanded. Of several that cover a peer the most specific counts. Both hold from the first segment on.
    """

    vrf: str = ""
    local: bytes = b""
    remote: bytes = b""
    port: int = 179
    ttl: int = 64
    min_ttl: int = 0
    md5: bytes = field(default=b"", repr=False)
    dscp: int = 48
    keys: tuple[tuple[Prefix, bytes], ...] = field(default=(), repr=False)
    hops: tuple[tuple[Prefix, int], ...] = ()


class Datagram(NamedTuple):
    """What came by UDP: from `source`, `source_port` to our address `destination`, `destination_port`."""

    octets: bytes
    source: bytes
    source_port: int
    destination: bytes
    destination_port: int


@frozen
class Device:
    """A network device of the host. `mac` is empty where it has none."""

    name: str
    index: int
    mac: bytes
    mtu: int
    up: bool


@frozen
class HostRoute:
    """A route of the host's default table: `via` a gateway, or (`via` empty) straight out of `device`."""

    prefix: Prefix
    via: bytes = b""
    device: str = ""
    source: bytes = b""
