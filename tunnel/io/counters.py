"""Why packets end here, and how many went where: the closed list of drop reasons, the counters, and the budgets."""

from __future__ import annotations

import errno
from collections.abc import Callable
from enum import Enum

from attrs import define, field, frozen

__all__ = ["Budget", "Counters", "CountersSnapshot", "Drop", "InterfaceTally", "Slow"]


class Drop(Enum):
    """Every reason for which the packet path ends a packet. The text is what `show counters drops` prints."""

    # IP
    MALFORMED = "malformed IP packet"
    NOT_IP = "neither IPv4 nor IPv6"
    CHECKSUM = "wrong IPv4 header checksum"
    MARTIAN = "martian address"
    SOURCE_ROUTE = "source route option"
    MULTICAST = "customer multicast"
    BROADCAST = "broadcast"
    LINK_LOCAL = "link-local address"
    NO_VRF = "no such VRF"
    NO_ROUTE = "no route"
    DISCARD = "discard route"
    TTL_EXPIRED = "TTL expired"
    TOO_BIG = "larger than the MTU, and not to be fragmented"
    PROTOCOL = "protocol that this node does not speak"
    NESTED = "tunnel packet inside a tunnel, or in a VRF that has no tunnels, for this node; or nested too deep"
    NO_HOST_PORT = "no host port in this VRF"
    HOST_LOOP = "from the host, back to the host"
    OFFLOAD = "offload header that makes no sense"
    # frames
    SHORT_FRAME = "frame cut short"
    OTHER_STATION = "frame for another station"
    ETHERTYPE = "EtherType that is not for a router"
    LINK_BROADCAST = "unicast packet in a broadcast frame"
    # labels
    LABEL_MULTICAST = "MPLS multicast"
    LABEL_INTERFACE = "labelled packet by an interface without MPLS"
    LABEL_UNKNOWN = "unknown label"
    LABEL_SCOPE = "label outside its scope"
    LABEL_VRF = "label of another VRF"
    LABEL_NO_BOTTOM = "label stack without a bottom"
    LABEL_DEPTH = "label stack too deep"
    LABEL_UNDER_AGGREGATE = "more labels under a label that ends here"
    LABEL_FAMILY = "address family that this label does not carry"
    LABEL_NOT_BOTTOM = "explicit null not at the bottom"
    LABEL_ROUTER_ALERT = "router alert label"
    LABEL_IMPLICIT_NULL = "implicit null label on the wire"
    LABEL_ENTROPY = "entropy label indicator"
    LABEL_GAL = "generic associated channel label"
    LABEL_OAM_ALERT = "OAM alert label"
    LABEL_EXTENSION = "extension label"
    LABEL_RESERVED = "reserved label"
    LABEL_BAD = "route with a label that must not be pushed"
    # tunnels, inwards
    NOT_OURS = "outer destination is no transport source of ours"
    TUNNEL_PROTOCOL = "protocol that this tunnel does not accept"
    GRE_HEADER = "malformed GRE header"
    GRE_VERSION = "GRE version other than 0"
    GRE_RESERVED = "GRE reserved bits set"
    GRE_CHECKSUM = "wrong GRE checksum"
    GRE_KEY = "GRE key missing or wrong"
    GRE_SEQUENCE = "old GRE sequence number"
    GRE_PROTOCOL = "GRE protocol type that is not carried"
    UNKNOWN_ENDPOINT = "outer source is no known endpoint"
    NO_IP_HERE = "unlabelled IP on a tunnel that carries none"
    PROTECTED = "protected, no security association"
    FRAGMENT = "fragment of an outer packet that could not be put together"
    NHRP_OFF = "NHRP by an interface that is in no NHRP network"
    # ESP
    ESP_MALFORMED = "malformed ESP packet"
    ESP_UNKNOWN = "ESP packet of an unknown SPI"
    ESP_DESTINATION = "ESP packet to another address than the security association's"
    ESP_REPLAY = "ESP packet replayed, or too old"
    ESP_INTEGRITY = "ESP packet with a wrong ICV"
    ESP_EXPIRED = "security association at its hard limit"
    ESP_PADDING = "wrong ESP padding"
    ESP_SELECTOR = "ESP payload outside the selectors"
    ESP_FRAGMENT = "fragment inside an ESP tunnel"
    ESP_UNASKED = "ESP payload for a tunnel that is not protected"
    # outwards
    INTERFACE_DOWN = "interface down"
    NO_NEXT_HOP = "next hop unusable"
    UNRESOLVED = "neighbour not resolved"
    NO_LABELS_HERE = "labelled packet to an adjacency that carries none"
    NO_PORT = "interface has no open port"
    QUEUE_FULL = "transmit queue full"
    PORT_ERROR = "transmit error"
    # towards the rest of the node
    PUNT_BUDGET = "more facts than the budget allows"


class Slow(Enum):
    """What was done off the fast path, and worth counting."""

    FRAGMENTED = "fragmented before encapsulation"
    SEGMENTED = "offloaded packet segmented"
    ECHO = "echo answered"
    ICMP_SENT = "ICMP error sent"
    ICMP_LIMITED = "ICMP error not sent: rate limit"
    ICMP_WITHHELD = "ICMP error not sent: not allowed here"
    CLAMPED = "MSS clamped"
    PUNTED = "posted to the bus"
    TO_HOST = "handed to the host"
    ESP_DUMMY = "ESP dummy packet"
    NAT_KEEPALIVE = "NAT keepalive"


@define(eq=False)
class Budget:
    """A token bucket: `rate` a second, `burst` at once. `now` on any monotonic scale, in seconds."""

    rate: float
    burst: float
    _tokens: float = field(init=False)
    _at: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._tokens = self.burst

    def take(self, now: float) -> bool:
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@frozen
class InterfaceTally:
    """Packets and octets of one interface; octets are those of the packet, without link or tunnel headers."""

    interface: str
    packets_in: int
    octets_in: int
    packets_out: int
    octets_out: int


@frozen
class CountersSnapshot:
    """For `show counters drops`: (reason, interface, packets), (detour, packets), (port, errno name, times)."""

    drops: tuple[tuple[Drop, str, int], ...]
    slow: tuple[tuple[Slow, int], ...]
    errors: tuple[tuple[str, str, int], ...]
    interfaces: tuple[InterfaceTally, ...]


def _pair() -> list[int]:
    return [0, 0]


MAX_INTERFACES = 8192
"""Names counted apart. Names come from tables, so this is never met; it is the visible bound."""


@define(eq=False)
class Counters:
    """Counters of one forwarder. Interfaces count [packets, octets]; the lists are shared with the hot loops."""

    drops: dict[tuple[Drop, str], int] = field(factory=dict)
    slow: dict[Slow, int] = field(factory=dict)
    errors: dict[tuple[str, str], int] = field(factory=dict)
    received: dict[str, list[int]] = field(factory=dict)
    sent: dict[str, list[int]] = field(factory=dict)
    labels: dict[int, int] = field(factory=dict)
    """Octets that came under each label of the LFIB."""

    def drop(self, reason: Drop, interface: str) -> None:
        key = reason, interface
        self.drops[key] = self.drops.get(key, 0) + 1

    def note(self, what: Slow) -> None:
        self.slow[what] = self.slow.get(what, 0) + 1

    def error(self, port: str, error: OSError) -> None:
        """An error that a port reported: by the name of its errno."""
        key = port, errno.errorcode.get(error.errno or 0, type(error).__name__)
        self.errors[key] = self.errors.get(key, 0) + 1

    def into(self, interface: str) -> list[int]:
        """The [packets, octets] that came in by `interface`."""
        return self._tally(self.received, interface)

    def out_of(self, interface: str) -> list[int]:
        return self._tally(self.sent, interface)

    def forget(self, interface: str) -> None:
        """An interface is gone, and with it what it counted; drops stay, since they are why somebody looks."""
        self.received.pop(interface, None)
        self.sent.pop(interface, None)

    @staticmethod
    def _tally(table: dict[str, list[int]], interface: str) -> list[int]:
        tally = table.get(interface)
        if tally is None:
            tally = _pair() if len(table) >= MAX_INTERFACES else table.setdefault(interface, _pair())
        return tally

    def total(self, reason: Drop) -> int:
        """Packets dropped for `reason`, on all interfaces."""
        return sum(count for (why, _), count in self.drops.items() if why is reason)

    def snapshot(self) -> CountersSnapshot:
        order = {reason: place for place, reason in enumerate(Drop)}
        names = sorted({*self.received, *self.sent})
        return CountersSnapshot(
            tuple(
                (reason, interface, count)
                for (reason, interface), count in sorted(
                    self.drops.items(), key=lambda item: (order[item[0][0]], item[0][1])
                )
            ),
            tuple((what, self.slow[what]) for what in Slow if what in self.slow),
            tuple((port, name, count) for (port, name), count in sorted(self.errors.items())),
            tuple(
                InterfaceTally(name, *self.received.get(name, (0, 0)), *self.sent.get(name, (0, 0))) for name in names
            ),
        )


@define(eq=False)
class Budgets:
    """One token bucket a key, made when first asked for. `bound` keys at most: the next one starts all over."""

    rate: float
    burst: float
    now: Callable[[], float]
    bound: int = 4096
    _buckets: dict[object, Budget] = field(factory=dict, init=False)

    def take(self, key: object) -> bool:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self.bound:
                self._buckets.clear()
            bucket = self._buckets[key] = Budget(self.rate, self.burst)
        return bucket.take(self.now())
