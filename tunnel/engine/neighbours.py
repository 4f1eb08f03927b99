"""ARP and IPv6 neighbour discovery for the node's Ethernet attachments: sans-IO (RFC 826, RFC 4861 7.2-7.3).

An entry exists for a neighbour that a route needs (wanted), or that a packet needed (found). It is asked for three times,
a second apart; answered, it is good for `REACHABLE` seconds and then asked again in place, so that traffic never waits;
unanswered, it is dead, and says so. Own addresses are answered for. Nothing is learnt from strangers: a packet changes an
entry that exists, and makes one only when it asks for one of our addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from attrs import define, field

from stack.addr import Prefix
from stack.events import AddressRow, AdjacencyKey, SendNeighbourPacket
from tunnel.wire import arp, nd

__all__ = ["MAX_NEIGHBOURS", "Link", "Neighbour", "NeighbourState", "Neighbours"]

MAX_NEIGHBOURS = 4_096
"""Entries of one interface; the oldest one that no route wants makes room."""

ASK_EVERY = 1.0
ASK_TIMES = 3
REACHABLE = 60.0
DEAD_FOR = 5.0
"""Seconds (RFC 4861 10: RETRANS_TIMER, MAX_MULTICAST_SOLICIT; reachable time as hosts commonly use it for ARP)."""

BROADCAST = b"\xff" * 6
ARP_TYPE, IPV6_TYPE = 0x0806, 0x86DD


class NeighbourState(Enum):
    ASKING = "being resolved"
    REACHABLE = "reachable"
    PROBING = "reachable, being confirmed"
    DEAD = "no answer"


class Event(Enum):
    TIME = "its time has come"
    TIRED = "asked often enough"
    ANSWER = "it answered"


# What each event makes of a neighbour; the whole product of states and events.
TRANSITIONS: dict[tuple[NeighbourState, Event], NeighbourState] = {
    (NeighbourState.ASKING, Event.TIME): NeighbourState.ASKING,
    (NeighbourState.ASKING, Event.TIRED): NeighbourState.DEAD,
    (NeighbourState.ASKING, Event.ANSWER): NeighbourState.REACHABLE,
    (NeighbourState.REACHABLE, Event.TIME): NeighbourState.PROBING,
    (NeighbourState.REACHABLE, Event.TIRED): NeighbourState.PROBING,
    (NeighbourState.REACHABLE, Event.ANSWER): NeighbourState.REACHABLE,
    (NeighbourState.PROBING, Event.TIME): NeighbourState.PROBING,
    (NeighbourState.PROBING, Event.TIRED): NeighbourState.ASKING,
    (NeighbourState.PROBING, Event.ANSWER): NeighbourState.REACHABLE,
    (NeighbourState.DEAD, Event.TIME): NeighbourState.ASKING,
    (NeighbourState.DEAD, Event.TIRED): NeighbourState.ASKING,
    (NeighbourState.DEAD, Event.ANSWER): NeighbourState.REACHABLE,
}


class Link(NamedTuple):
    """An attachment on which we resolve. `answers`: we, not the kernel, own its addresses."""

    mac: bytes
    addresses: Mapping[bytes, AddressRow]
    answers: bool


class Neighbour(NamedTuple):
    """`mac` empty while unknown; `when`: next thing to do; `asked`: questions without answer."""

    key: AdjacencyKey
    state: NeighbourState
    mac: bytes
    when: float
    asked: int
    since: float


@define
class Neighbours:
    """`entropy(1)` spreads the re-confirmation of neighbours. Changed keys collect in `changed` until `take_changed`."""

    entropy: Callable[[int], bytes]
    links: dict[str, Link] = field(factory=dict)
    wanted: set[AdjacencyKey] = field(factory=set)
    refused: dict[str, int] = field(factory=dict)
    _entries: dict[AdjacencyKey, Neighbour] = field(factory=dict)
    _changed: set[AdjacencyKey] = field(factory=set)
    _out: list[SendNeighbourPacket] = field(factory=list)

    # --- what others tell -------------------------------------------------------------------------------------------

    def set_link(self, name: str, link: Link | None, now: float) -> None:
        """An attachment came, changed or (None) went; with it go its neighbours."""
        old = self.links.get(name)
        if old == link:
            return
        if link is None:
            del self.links[name]
            for key in [key for key in self._entries if key.interface == name]:
                self._remove(key)
            return
        self.links[name] = link
        if link.answers:
            fresh = set(link.addresses) - (set(old.addresses) if old and old.mac == link.mac else set())
            for address in fresh:
                self._announce(name, link, address)
        for key in [key for key in self.wanted if key.interface == name and key not in self._entries]:
            self._start(key, now)

    def want(self, key: AdjacencyKey, now: float) -> None:
        self.wanted.add(key)
        if key not in self._entries and key.interface in self.links:
            self._start(key, now)

    def unwant(self, key: AdjacencyKey) -> None:
        self.wanted.discard(key)

    def find(self, key: AdjacencyKey, now: float) -> None:
        """A packet needs this neighbour."""
        link = self.links.get(key.interface)
        if link is None or key.address in link.addresses or not _on_link(link, key.address):
            return
        entry = self._entries.get(key)
        if entry is None:
            self._start(key, now)

    def get(self, key: AdjacencyKey) -> Neighbour | None:
        return self._entries.get(key)

    def snapshot(self) -> tuple[Neighbour, ...]:
        return tuple(sorted(self._entries.values(), key=lambda n: n.key))

    # --- what comes by the wire -------------------------------------------------------------------------------------

    def arp_packet(self, interface: str, packet: arp.Arp, now: float) -> None:
        link = self.links.get(interface)
        if link is None or packet.operation not in (arp.REQUEST, arp.REPLY):
            return
        if packet.sender_mac == link.mac:
            return
        if packet.sender in link.addresses:
            self._refuse(f"{interface}: somebody else uses our address")
            return
        asks_us = packet.operation == arp.REQUEST and packet.target in link.addresses and link.answers
        # RFC 826: merge an entry that exists; add one only if we are the target.
        self._learn(AdjacencyKey(interface, packet.sender), packet.sender_mac, now, create=asks_us)
        if asks_us:
            answer = arp.Arp(arp.REPLY, link.mac, packet.target, packet.sender_mac, packet.sender)
            self._out.append(SendNeighbourPacket(interface, packet.sender_mac, ARP_TYPE, arp.encode(answer)))

    def nd_packet(self, interface: str, message: nd.Solicitation | nd.Advertisement, now: float) -> None:
        link = self.links.get(interface)
        if link is None:
            return
        if isinstance(message, nd.Advertisement):
            if message.mac and message.target not in link.addresses:
                self._learn(AdjacencyKey(interface, message.target), message.mac, now, create=False)
            return
        if message.target not in link.addresses or not link.answers:
            return
        probing = not any(message.source)
        if not probing and message.mac:
            self._learn(AdjacencyKey(interface, message.source), message.mac, now, create=True)
        # RFC 4861 7.2.4: the answer to a duplicate check goes to all nodes, not solicited.
        destination = _ALL_NODES if probing else message.source
        answer = nd.Advertisement(message.target, destination, message.target, link.mac, solicited=not probing)
        mac = _multicast_mac(_ALL_NODES) if probing or not message.mac else message.mac
        self._out.append(SendNeighbourPacket(interface, mac, IPV6_TYPE, nd.encode(answer)))

    def _learn(self, key: AdjacencyKey, mac: bytes, now: float, *, create: bool) -> None:
        link = self.links[key.interface]
        if mac[0] & 1 or not _on_link(link, key.address):
            self._refuse(f"{key.interface}: neighbour with a group's MAC or from another network")
            return
        old = self._entries.get(key)
        if old is None and not (create and self._room(key.interface)):
            return
        state = TRANSITIONS[old.state if old else NeighbourState.ASKING, Event.ANSWER]
        since = old.since if old and old.mac == mac else now
        until = now + REACHABLE * (0.75 + self.entropy(1)[0] / 512)
        self._entries[key] = Neighbour(key, state, mac, until, 0, since)
        if old is None or old.mac != mac or old.state is NeighbourState.DEAD:
            self._changed.add(key)

    # --- time -------------------------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        return min((entry.when for entry in self._entries.values()), default=None)

    def wake(self, now: float) -> None:
        for entry in [entry for entry in self._entries.values() if entry.when <= now]:
            self._due(entry, now)

    def _due(self, entry: Neighbour, now: float) -> None:
        event = Event.TIRED if entry.asked >= ASK_TIMES else Event.TIME
        state = TRANSITIONS[entry.state, event]
        if entry.state is NeighbourState.DEAD and entry.key not in self.wanted:
            self._remove(entry.key)
            return
        if state is NeighbourState.DEAD:
            self._entries[entry.key] = Neighbour(entry.key, state, b"", now + DEAD_FOR, 0, now)
            self._changed.add(entry.key)
            return
        fresh = entry.state is not state
        asked = 1 if fresh else entry.asked + 1
        mac = b"" if state is NeighbourState.ASKING else entry.mac
        since = now if fresh and state is NeighbourState.ASKING else entry.since
        self._entries[entry.key] = Neighbour(entry.key, state, mac, now + ASK_EVERY, asked, since)
        if mac != entry.mac or (fresh and state is NeighbourState.ASKING):
            self._changed.add(entry.key)
        self._ask(entry.key, mac)

    def _start(self, key: AdjacencyKey, now: float) -> None:
        if not self._room(key.interface):
            return
        self._entries[key] = Neighbour(key, NeighbourState.ASKING, b"", now + ASK_EVERY, 1, now)
        self._changed.add(key)
        self._ask(key, b"")

    def _room(self, interface: str) -> bool:
        mine = [entry for entry in self._entries.values() if entry.key.interface == interface]
        if len(mine) < MAX_NEIGHBOURS:
            return True
        spare = [entry for entry in mine if entry.key not in self.wanted]
        if not spare:
            self._refuse(f"{interface}: neighbour table is full")
            return False
        self._remove(min(spare, key=lambda entry: entry.since).key)
        return True

    def _remove(self, key: AdjacencyKey) -> None:
        del self._entries[key]
        self._changed.add(key)

    def _refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    # --- what goes out ----------------------------------------------------------------------------------------------

    def take_changed(self) -> set[AdjacencyKey]:
        changed, self._changed = self._changed, set()
        return changed

    def take_packets(self) -> list[SendNeighbourPacket]:
        packets, self._out = self._out, []
        return packets

    def _ask(self, key: AdjacencyKey, mac: bytes) -> None:
        """`mac` empty: everybody is asked, else only the one that had it."""
        link = self.links.get(key.interface)
        if link is None or not (source := _source(link, key.address)):
            return
        if len(key.address) == 4:
            question = arp.encode(arp.Arp(arp.REQUEST, link.mac, source, bytes(6), key.address))
            self._out.append(SendNeighbourPacket(key.interface, mac or BROADCAST, ARP_TYPE, question))
            return
        group = nd.solicited_node(key.address)
        solicitation = nd.Solicitation(source, key.address if mac else group, key.address, link.mac)
        to = mac or _multicast_mac(group)
        self._out.append(SendNeighbourPacket(key.interface, to, IPV6_TYPE, nd.encode(solicitation)))

    def _announce(self, interface: str, link: Link, address: bytes) -> None:
        """Gratuitous ARP (RFC 5227 3) or an unsolicited advertisement (RFC 4861 7.2.6), so that peers' caches follow us."""
        if not link.mac:
            return
        if len(address) == 4:
            packet = arp.encode(arp.Arp(arp.REQUEST, link.mac, address, bytes(6), address))
            self._out.append(SendNeighbourPacket(interface, BROADCAST, ARP_TYPE, packet))
        else:
            advertisement = nd.Advertisement(address, _ALL_NODES, address, link.mac, solicited=False)
            to = _multicast_mac(_ALL_NODES)
            self._out.append(SendNeighbourPacket(interface, to, IPV6_TYPE, nd.encode(advertisement)))


_ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
_LINK_LOCAL = Prefix.parse("fe80::/10")


def _multicast_mac(group: bytes) -> bytes:
    """RFC 2464 7."""
    return b"\x33\x33" + group[12:]


def _prefixes(link: Link) -> Iterable[Prefix]:
    return (Prefix.of(address, row.length) for address, row in link.addresses.items())


def _on_link(link: Link, address: bytes) -> bool:
    return _LINK_LOCAL.covers(address) or any(prefix.covers(address) for prefix in _prefixes(link))


def _source(link: Link, target: bytes) -> bytes:
    """Our address to ask from: one of the target's network, else any of its family."""
    ours = [address for address in link.addresses if len(address) == len(target)]
    near = [address for address in ours if Prefix.of(address, link.addresses[address].length).covers(target)]
    return next(iter(near or ours), b"")
