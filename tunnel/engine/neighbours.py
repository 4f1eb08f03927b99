"""ARP and IPv6 neighbour discovery for the node's Ethernet attachments: sans-IO (RFC 826, RFC 4861 7.2-7.3).

An entry exists for a neighbour that a route needs (wanted), or that a packet needed (found). It is asked for three times,
a second apart; answered, it is good for `REACHABLE` seconds and then asked again in place, so that traffic never waits;
unanswered, it is dead, and says so, until it answers: one that a route needs is asked on, but what rests on it must not
come and go with the questions. Own addresses are answered for. Nothing is learnt from strangers: a packet changes an
entry that exists, and makes one only when it asks for one of our addresses. A full table gives up what never answered
before what did, so that a scan of a network does not push out its hosts (RFC 6583).
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
"""Seconds (RFC 4861 10: RETRANS_TIMER, MAX_MULTICAST_SOLICIT; reachable time as hosts commonly use it for ARP). DEAD_FOR:
until one that does not answer is asked again, or forgotten."""

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
    HINT = "a MAC that is still to be confirmed"


# What each event makes of a neighbour; the whole product of states and events.
TRANSITIONS: dict[tuple[NeighbourState, Event], NeighbourState] = {
    (NeighbourState.ASKING, Event.TIME): NeighbourState.ASKING,
    (NeighbourState.ASKING, Event.TIRED): NeighbourState.DEAD,
    (NeighbourState.ASKING, Event.ANSWER): NeighbourState.REACHABLE,
    (NeighbourState.ASKING, Event.HINT): NeighbourState.PROBING,
    (NeighbourState.REACHABLE, Event.TIME): NeighbourState.PROBING,
    (NeighbourState.REACHABLE, Event.TIRED): NeighbourState.PROBING,
    (NeighbourState.REACHABLE, Event.ANSWER): NeighbourState.REACHABLE,
    (NeighbourState.REACHABLE, Event.HINT): NeighbourState.PROBING,
    (NeighbourState.PROBING, Event.TIME): NeighbourState.PROBING,
    (NeighbourState.PROBING, Event.TIRED): NeighbourState.ASKING,
    (NeighbourState.PROBING, Event.ANSWER): NeighbourState.REACHABLE,
    (NeighbourState.PROBING, Event.HINT): NeighbourState.PROBING,
    (NeighbourState.DEAD, Event.TIME): NeighbourState.DEAD,
    (NeighbourState.DEAD, Event.TIRED): NeighbourState.DEAD,
    (NeighbourState.DEAD, Event.ANSWER): NeighbourState.REACHABLE,
    (NeighbourState.DEAD, Event.HINT): NeighbourState.PROBING,
}

_KEEP_LONGER = (NeighbourState.DEAD, NeighbourState.ASKING, NeighbourState.PROBING, NeighbourState.REACHABLE)
"""Who makes room first in a full table."""


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
    _wanted_on: dict[str, set[AdjacencyKey]] = field(factory=dict)
    _remembered: dict[AdjacencyKey, bytes] = field(factory=dict)
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
        else:
            self.links[name] = link
        for key in [key for key in self._entries if key.interface == name and not self._belongs(key)]:
            self._remove(key)
        if link is None:
            return
        if link.answers:
            fresh = set(link.addresses) - (set(old.addresses) if old and old.mac == link.mac else set())
            for address in fresh:
                self._announce(name, link, address)
        for key in [key for key in self._remembered if key.interface == name]:
            self._hint(key, self._remembered.pop(key), now)
        for key in [key for key in self._wanted_on.get(name, ()) if key not in self._entries]:
            self._start(key, now)

    def _belongs(self, key: AdjacencyKey) -> bool:
        """Whether there may be such a neighbour: one host, not us, and of the link's networks unless a route insists."""
        link = self.links.get(key.interface)
        if link is None or key.address in link.addresses or not _is_one(key.address):
            return False
        return key in self.wanted or _on_link(link, key.address)

    def remember(self, key: AdjacencyKey, mac: bytes) -> None:
        """Before anything else: an earlier incarnation reached this neighbour at `mac`. It is used at once, and confirmed."""
        self._remembered[key] = mac

    def wanted_on(self, name: str) -> frozenset[AdjacencyKey]:
        return frozenset(self._wanted_on.get(name, ()))

    def want(self, key: AdjacencyKey, now: float) -> None:
        self.wanted.add(key)
        self._wanted_on.setdefault(key.interface, set()).add(key)
        if key not in self._entries:
            self._start(key, now)

    def unwant(self, key: AdjacencyKey) -> None:
        self.wanted.discard(key)
        on = self._wanted_on.get(key.interface)
        if on is not None:
            on.discard(key)
            if not on:
                del self._wanted_on[key.interface]

    def find(self, key: AdjacencyKey, now: float) -> None:
        """A packet needs this neighbour."""
        if key not in self._entries:
            self._start(key, now)

    def get(self, key: AdjacencyKey) -> Neighbour | None:
        return self._entries.get(key)

    def snapshot(self) -> tuple[Neighbour, ...]:
        return tuple(sorted(self._entries.values(), key=lambda n: n.key))

    # --- what comes by the wire -------------------------------------------------------------------------------------

    def arp_packet(self, interface: str, packet: arp.Arp, now: float) -> None:
        link = self.links.get(interface)
        if link is None or packet.operation not in (arp.REQUEST, arp.REPLY) or packet.sender_mac == link.mac:
            return
        if not _is_hosts(packet.sender_mac):
            # RFC 1812 3.3.2: a router MUST not believe an ARP reply that claims a broadcast or multicast MAC.
            self._refuse(f"{interface}: neighbour with the MAC of a group or of nobody")
            return
        if packet.sender in link.addresses:
            self._refuse(f"{interface}: somebody else uses our address")
            return
        asks_us = packet.operation == arp.REQUEST and packet.target in link.addresses and link.answers
        if any(packet.sender):  # RFC 5227 2.1.1: a probe's sender is all zeros; it is answered, and nothing is learnt
            # RFC 826: merge an entry that exists; add one only if we are the target.
            self._learn(AdjacencyKey(interface, packet.sender), packet.sender_mac, now, create=asks_us)
        if asks_us:
            answer = arp.Arp(arp.REPLY, link.mac, packet.target, packet.sender_mac, packet.sender)
            self._out.append(SendNeighbourPacket(interface, packet.sender_mac, ARP_TYPE, arp.encode(answer)))

    def nd_packet(self, interface: str, message: nd.Solicitation | nd.Advertisement, now: float) -> None:
        link = self.links.get(interface)
        if link is None or message.mac == link.mac:
            return
        if message.mac and not _is_hosts(message.mac):
            self._refuse(f"{interface}: neighbour with the MAC of a group or of nobody")
        elif isinstance(message, nd.Advertisement):
            if message.target in link.addresses:
                self._refuse(f"{interface}: somebody else uses our address")
            else:
                self._advertised(AdjacencyKey(interface, message.target), message, now)
        elif message.target in link.addresses and link.answers:
            if message.source in link.addresses:
                self._refuse(f"{interface}: somebody else uses our address")
            elif any(message.source) and not _on_link(link, message.source):
                self._refuse(f"{interface}: neighbour from another network")
            else:
                self._solicited(interface, link, message, now)

    def _advertised(self, key: AdjacencyKey, message: nd.Advertisement, now: float) -> None:
        """RFC 4861 7.2.5. What would be STALE there is confirmed at once here: PROBING."""
        old = self._entries.get(key)
        if old is None or not (message.mac or old.mac):
            return  # "SHOULD be silently discarded": nobody asked; or without a MAC, while none is known
        if old.mac and message.mac not in (b"", old.mac) and not message.override:
            # "MUST NOT update the cache"; a reachable neighbour is confirmed where it was.
            if old.state is NeighbourState.REACHABLE:
                self._hint(key, old.mac, now)
        elif message.solicited:
            self._learn(key, message.mac or old.mac, now, create=False)
        elif message.mac not in (b"", old.mac):
            self._hint(key, message.mac, now)

    def _solicited(self, interface: str, link: Link, message: nd.Solicitation, now: float) -> None:
        """Answer; a duplicate check (from nobody) is answered to all nodes, and not as solicited (RFC 4861 7.2.4)."""
        probing = not any(message.source)
        key = AdjacencyKey(interface, message.source)
        known = self._entries.get(key)
        if not probing and message.mac and (known is None or known.mac != message.mac):
            self._hint(key, message.mac, now)  # RFC 4861 7.2.3: a question does not prove that we are heard
        destination = _ALL_NODES if probing else message.source
        answer = nd.Advertisement(message.target, destination, message.target, link.mac, solicited=not probing)
        mac = message.mac or (known.mac if known else b"") or _multicast_mac(_ALL_NODES)
        self._out.append(SendNeighbourPacket(interface, mac, IPV6_TYPE, nd.encode(answer)))

    def _learn(self, key: AdjacencyKey, mac: bytes, now: float, *, create: bool) -> None:
        """It answered, from `mac`."""
        if not _on_link(self.links[key.interface], key.address):
            self._refuse(f"{key.interface}: neighbour from another network")
            return
        old = self._entries.get(key)
        if old is None and not (create and self._room(key.interface)):
            return
        state = TRANSITIONS[old.state if old else NeighbourState.ASKING, Event.ANSWER]
        since = old.since if old and old.mac == mac else now
        until = now + REACHABLE * (0.75 + self.entropy(1)[0] / 512)
        self._put(Neighbour(key, state, mac, until, 0, since))

    def _hint(self, key: AdjacencyKey, mac: bytes, now: float) -> None:
        """It may be at `mac`: that is used, and asked whether it is true."""
        old = self._entries.get(key)
        if not self._belongs(key) or (old is None and not self._room(key.interface)):
            return
        state = TRANSITIONS[old.state if old else NeighbourState.ASKING, Event.HINT]
        since = old.since if old and old.mac == mac else now
        self._put(Neighbour(key, state, mac, now + ASK_EVERY, 1, since))
        self._ask(key, mac)

    def _put(self, entry: Neighbour) -> None:
        """Replace an entry. An adjacency looks only at the MAC, and at the state while there is none."""
        old = self._entries.get(entry.key)
        self._entries[entry.key] = entry
        if old is None or old.mac != entry.mac or (not entry.mac and old.state is not entry.state):
            self._changed.add(entry.key)

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
            since = entry.since if entry.state is state else now
            self._put(Neighbour(entry.key, state, b"", now + DEAD_FOR, 0, since))
            if entry.state is state:
                self._ask(entry.key, b"")
            return
        fresh = entry.state is not state
        asked = 1 if fresh else entry.asked + 1
        mac = b"" if state is NeighbourState.ASKING else entry.mac
        since = now if fresh and state is NeighbourState.ASKING else entry.since
        self._put(Neighbour(entry.key, state, mac, now + ASK_EVERY, asked, since))
        self._ask(entry.key, mac)

    def _start(self, key: AdjacencyKey, now: float) -> None:
        if not self._belongs(key) or not self._room(key.interface):
            return
        self._put(Neighbour(key, NeighbourState.ASKING, b"", now + ASK_EVERY, 1, now))
        self._ask(key, b"")

    def _room(self, interface: str) -> bool:
        """Whether one more entry fits, after the one that matters least has made room."""
        mine = [entry for entry in self._entries.values() if entry.key.interface == interface]
        if len(mine) < MAX_NEIGHBOURS:
            return True
        spare = [entry for entry in mine if entry.key not in self.wanted]
        if not spare:
            self._refuse(f"{interface}: neighbour table is full")
            return False
        self._remove(min(spare, key=lambda entry: (_KEEP_LONGER.index(entry.state), entry.since)).key)
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


def _is_hosts(mac: bytes) -> bool:
    """A MAC that one host can have: no group's, and not all zeros."""
    return len(mac) == 6 and not mac[0] & 1 and any(mac)


def _is_one(address: bytes) -> bool:
    """An address that one host can have: no group's, no broadcast, and not the unspecified one."""
    return any(address) and address[0] < (0xFF if len(address) == 16 else 0xE0)


def _prefixes(link: Link) -> Iterable[Prefix]:
    return (Prefix.of(address, row.length) for address, row in link.addresses.items())


def _on_link(link: Link, address: bytes) -> bool:
    """A group is nobody's address, however wide our prefix is (RFC 4291 2.7, RFC 1122 3.2.1.3)."""
    if address[0] == 0xFF if len(address) == 16 else address[0] >> 4 == 0xE:
        return False
    return _LINK_LOCAL.covers(address) or any(prefix.covers(address) for prefix in _prefixes(link))


def _source(link: Link, target: bytes) -> bytes:
    """Our address to ask from: one of the target's network, else any of its family."""
    ours = [address for address in link.addresses if len(address) == len(target)]
    near = [address for address in ours if Prefix.of(address, link.addresses[address].length).covers(target)]
    return next(iter(near or ours), b"")
