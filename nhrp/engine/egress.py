"""Resolutions that we answer: the destination leaves the NHRP network here.

    request --> the requester's tunnel is wanted, the label too --> both there: reply, straight to the requester
                                                               --> not in time: reply by the way that the request came

What is answered is remembered for as long as the requester may believe it: the tunnel and the label are wanted until then, and
if it ceases to be true the requester hears of it (RFC 2332 5.2.5: a station "MUST" purge what it has told and is no longer so).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum

from attrs import define, evolve, field

from nhrp.engine.bindings import Registration
from nhrp.engine.client import Client
from nhrp.engine.gate import Gate
from nhrp.engine.indexed import Network
from nhrp.engine.nat import nat_cies
from nhrp.engine.node import Arrival, Node
from nhrp.engine.reach import NOWHERE, Reach, Reached
from nhrp.engine.requester import contested, vouches
from nhrp.engine.transit import Question, Transit, scope_of
from nhrp.engine.ways import SHORTEST, Addresses, Ways, Where
from nhrp.wire.mpls import FecLabel, MplsBinding, NextHopLabel, Role, mpls_extension
from nhrp.wire.packet import Cie, CieCode, Extension, ExtensionKind, Flag, Kind, Packet
from stack.addr import Fec, Prefix, PrefixFec, VrfFec
from stack.claims import Slot
from stack.events import AdjacencyKey, LabelRequest, LabelRow, LabelWanted
from stack.values import value

__all__ = ["LABEL_WITHIN", "MOST_OF_ONE", "PURGE_RETRIES", "TUNNEL_WITHIN", "Egress", "Kept", "Record", "Stage"]

TUNNEL_WITHIN = 10.0
"""Seconds that a reply waits for the tunnel to the requester."""

LABEL_WITHIN = 5.0
"""Seconds that it waits for a label."""

PURGE_RETRIES = (1.0, 2.0, 4.0)
"""Seconds between a purge and its repetition, until it is answered."""

MOST_OF_ONE = 1_024
"""Answers that one requester has at once: nobody takes the table from the others."""

MAX_PURGES = 4_096
"""Purges that wait for their answer; beyond that they are sent once."""

RECHECKS = 250

RESTARTED = (1.0, 2.0, 4.0)
"""Seconds after a restart, and from one time to the next, at which those hear that we have forgotten what we told them."""


class Stage(Enum):
    LABEL = "waits for its label"
    TUNNEL = "waits for the tunnel"
    ANSWERED = "answered"


@define(eq=False)
class Record:
    """`prefix`: what was (or will be) answered, part of the route `matched`. `overlay`, `nbma`, `claimed`: the requester.
    `tunnel`: a tunnel to it is wanted. `route`: and a host route by that. `reachable`: when that tunnel could be sent by;
    `answered`: when the first answer left."""

    number: int
    question: Question
    overlay: bytes
    nbma: bytes
    claimed: bytes
    prefix: Prefix
    matched: Prefix
    fec: Fec | None
    tunnel: bool
    route: bool
    since: float
    expires: float
    stage: Stage = Stage.LABEL
    label: int | None = None
    reached: Reached = NOWHERE
    reachable: float | None = None
    answered: float | None = None

    @property
    def key(self) -> tuple[Network, bytes, str, Prefix]:
        network = self.question.arrival.network
        return network, self.overlay, self.question.vrf, self.prefix

    @property
    def request(self) -> Packet:
        return self.question.arrival.packet

    @property
    def interface(self) -> str:
        return self.question.arrival.name


@value
class Told:
    """An answer that somebody believes until `expires`. `interface`, `to`: where its question came from."""

    interface: str
    to: bytes
    overlay: bytes
    prefix: Prefix
    label: int | None
    expires: float


@define(eq=False)
class Kept:
    """What outlives the speaker: numbers of records -> what was told; (interface, overlay address) -> what a client has
    registered. Bounded as they are."""

    told: dict[int, Told] = field(factory=dict)
    registrations: dict[tuple[str, bytes], Registration] = field(factory=dict)


@define(eq=False)
class _Purge:
    """A record that was taken back, until its requester has heard."""

    packet: Packet
    record: Record
    tries: int = 0


@define(eq=False)
class Egress:
    """`others`: entries that other parts hold against the same limit. Bounded by half of cache_limit."""

    node: Node
    gate: Gate
    ways: Ways
    reach: Reach
    client: Client
    transit: Transit
    kept: Kept = field(factory=Kept)
    others: Callable[[], int] = lambda: 0
    records: dict[int, Record] = field(factory=dict)
    _by_key: dict[tuple[Network, bytes, str, Prefix], Record] = field(factory=dict)
    _by_overlay: Counter[bytes] = field(factory=Counter)
    _by_fec: dict[Fec, dict[int, None]] = field(factory=dict)
    _addresses: Addresses = field(factory=Addresses)
    _doubtful: dict[int, None] = field(factory=dict)
    _purges: dict[int, _Purge] = field(factory=dict)
    _old: list[Told] = field(factory=list)
    _repeats: int = 0

    # --- a crash --------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """What an earlier incarnation told is true no longer: its labels are gone. Those who were told hear of it as soon as we
        know our interfaces."""
        self._old = list(self.kept.told.values())
        self.kept.told.clear()
        if self._old:
            self.node.timers.set(("kept", 0), self.node.now + RESTARTED[0])

    def take_back_old(self) -> None:
        """Timer `kept`. Said several times, since nobody is waited for."""
        node = self.node
        for told in self._old:
            if told.expires > node.now and node.is_at(told.interface, told.to):
                packet = self._purge_of(told, Flag.NO_REPLY)
                if packet is not None:
                    self.gate.send(told.interface, told.to, packet)
        self._repeats += 1
        if self._repeats < len(RESTARTED):
            node.timers.set(("kept", 0), node.now + RESTARTED[self._repeats])
        else:
            self._old.clear()

    # --- questions ------------------------------------------------------------------------------------------------------------

    def asked(self, question: Question) -> None:
        packet = question.arrival.packet
        nbma = self._nbma(question.arrival)
        prefix = self._prefix(question)
        network = question.arrival.network
        old = self._by_key.get((network, packet.source, question.vrf, prefix))
        if old is not None and old.request.request_id == packet.request_id and old.nbma == nbma:
            self._again(old, question)
            return
        if fault := self._objection(question.arrival, nbma):
            self.transit.nak(question.arrival, CieCode.PROHIBITED, fault)
            return
        if old is None and (fault := self._no_room(packet.source)):
            self.transit.nak(question.arrival, CieCode.INSUFFICIENT_RESOURCES, fault)
            return
        record = self._record(question, nbma, prefix)
        self._enter(record)
        if old is not None:
            self._remove(old)  # after the new one holds what both need
            self._by_key[record.key] = record
        self._advance(record)

    def _no_room(self, overlay: bytes) -> str:
        if self._by_overlay.get(overlay, 0) >= MOST_OF_ONE:
            return "too many answers of one requester"
        limit = self.node.config.cache_limit
        if len(self) >= limit - limit // 2:
            return "too many answers"  # the rest is for what we need ourselves
        return "cache-limit" if len(self) + self.others() >= limit else ""

    def _again(self, record: Record, question: Question) -> None:
        """The same request once more: its answer is on the way, or was lost."""
        self.node.count("resolution requests repeated")
        if record.stage is Stage.ANSWERED:
            record.question = question
            self._reply(record)

    def _nbma(self, arrival: Arrival) -> bytes:
        """Where the requester is: as a NAT shows it, if there is one. What comes straight from it comes from where it is."""
        packet = arrival.packet
        record = packet.extension(ExtensionKind.FORWARD_TRANSIT)
        if record is not None and not record.octets:
            return arrival.fact.outer_source
        listed = (cie.nbma for cie in nat_cies(packet) or () if cie.nbma and cie.protocol == packet.source)
        return next(listed, packet.source_nbma)

    def _prefix(self, question: Question) -> Prefix:
        """Our route's prefix; of one that is too short, such as a default route's, the host alone."""
        destination, prefix = question.arrival.packet.destination, question.way.prefix
        return prefix if prefix.length >= SHORTEST[len(destination)] else Prefix.host(destination)

    def _objection(self, arrival: Arrival, nbma: bytes) -> str:
        """Why the requester is not where it says."""
        overlay = arrival.packet.source
        if not len(nbma) == len(arrival.packet.source_nbma) == len(self.node.nbma(arrival.name)):
            return "an NBMA address of another family"
        if fault := self.ways.usurps(arrival.name, overlay, nbma):
            return fault
        adjacency = self.node.adjacencies.get(AdjacencyKey(arrival.name, overlay))
        known = adjacency.transport if adjacency is not None else b""
        if known and known != nbma and not self.reach.leads_to(arrival.network, overlay):
            return "a route of ours leads to it by another NBMA address"
        return contested(self.ways, self.reach, arrival, overlay, nbma)

    def _record(self, question: Question, nbma: bytes, prefix: Prefix) -> Record:
        """RFC 2332 5.2.1, 6.2.1: only a requester that says it is stable (S), for more than no time, is remembered as one to be
        reached (N06); and only if that comes from itself, or from one who may say where others are."""
        node, arrival = self.node, question.arrival
        packet = arrival.packet
        stable = bool(packet.flags & Flag.STABLE_SOURCE) and packet.cies[0].holding_time > 0
        vouched = vouches(self.ways, self.reach, arrival, packet.source)
        if not vouched and nbma != arrival.fact.outer_source:
            node.count("requester not learned: passed on by one that may not say where others are")
            stable = False
        bound = self.gate.is_bound(arrival, packet.source)
        fec: Fec | None = None
        if question.labelled:
            whole = isinstance(question.fec, VrfFec) and question.fec.vrf == question.vrf
            fec = question.fec if whole else PrefixFec(question.vrf, question.way.prefix)
        holding_time = node.family(arrival.name, arrival.afi).holding_time
        claimed = packet.source_nbma if packet.source_nbma != nbma else b""
        return Record(
            node.claimant(),
            question,
            packet.source,
            nbma,
            claimed,
            prefix,
            question.way.prefix,
            fec,
            stable,
            self.ways.may_draw(arrival.name, packet.source, vouched=vouched or bound, asked=False),
            node.now,
            node.now + holding_time,
        )

    def _enter(self, record: Record) -> None:
        """What it needs is wanted."""
        node, number = self.node, record.number
        self.records[number] = self._by_key[record.key] = record
        self._by_overlay[record.overlay] += 1
        self._addresses.add(record.question.vrf, record.request.destination, number)
        node.timers.set(("answer-end", number), record.expires)
        if record.fec is not None:
            self._by_fec.setdefault(record.fec, {})[number] = None
            scope = frozenset({scope_of(node, record.interface)})
            request = LabelRequest(scope, vrf=record.question.vrf)
            node.claims.hold(number, {Slot(LabelWanted, "", record.fec): request})
            node.timers.set(("answer-label", number), node.now + LABEL_WITHIN)
        if record.tunnel:
            build = node.family(record.interface, record.question.arrival.afi).shortcut
            record.reached = self.reach.hold(
                number, record.interface, record.overlay, record.nbma, build=build, route=record.route
            )
            record.reachable = node.now if record.reached.usable else None
            node.timers.set(("answer-tunnel", number), node.now + TUNNEL_WITHIN)

    # --- answers --------------------------------------------------------------------------------------------------------------

    def _advance(self, record: Record, *, late: bool = False) -> None:
        """Answer, as soon as it can be. `late`: the tunnel has not come up in time."""
        if record.stage is Stage.ANSWERED:
            return
        if record.fec is not None and record.label is None:
            row = self.node.labels.get(record.fec)
            if row is None:
                return
            if row.label is None:
                self._refuse(record, row.reason or "no label")
                return
            record.label = row.label
            self.node.timers.set(("answer-label", record.number), None)
        record.stage = Stage.TUNNEL
        if record.tunnel and not record.reached.usable and record.reached.coming and not late:
            waits = ("answer-tunnel", record.number) in self.node.timers
            if waits:
                return
        record.stage, record.answered = Stage.ANSWERED, self.node.now
        self.node.timers.set(("answer-tunnel", record.number), None)
        # It is believed from now on, not from when it was asked.
        record.expires = self.node.now + self._holding_time(record)
        self.node.timers.set(("answer-end", record.number), record.expires)
        self.kept.told[record.number] = _told(record)
        self._reply(record)

    def _holding_time(self, record: Record) -> int:
        return self.node.family(record.interface, record.question.arrival.afi).holding_time

    def _refuse(self, record: Record, reason: str) -> None:
        """V08: no label is to be had."""
        self.node.log("no label for a resolution", "warning", prefix=str(record.prefix), reason=reason)
        self.transit.nak(record.question.arrival, CieCode.INSUFFICIENT_RESOURCES, "no label")
        self._remove(record)

    def _reply(self, record: Record) -> None:
        node, arrival = self.node, record.question.arrival
        packet = record.request
        own, nbma = node.own(arrival.name, arrival.afi), node.nbma(arrival.name)
        interface = node.interfaces.get(record.reached.interface) or arrival.interface
        cie = Cie(
            CieCode.OK,
            record.prefix.length,
            min(interface.mtu, 0xFFFF),
            self._holding_time(record),
            nbma,
            own,
        )
        more: list[Extension] = []
        if record.label is not None and node.mpls(interface.name):
            # Where labels are not taken none is told: the requester then stays on the way that it has.
            binding = MplsBinding(Role.REPLY, fec=(FecLabel(0, (record.label,)),), next_hop=(NextHopLabel(0),))
            more.append(mpls_extension(binding, node.config.oui))
        public = self.client.public_nbma(arrival.name, arrival.afi)
        nat = (Cie(prefix_length=len(own) * 8, nbma=public, protocol=own),) if public else ()
        extensions = self.gate.reply_extensions(arrival, more, nat, cie)
        reply = evolve(
            packet,
            kind=Kind.RESOLUTION_REPLY,
            flags=packet.flags | Flag.STABLE,
            cies=(cie,),
            extensions=extensions,
            hop_count=255,
        )
        straight = self._send(record, reply)
        node.count("resolution replies sent straight" if straight else "resolution replies sent back")

    # --- time and changes -----------------------------------------------------------------------------------------------------

    def end(self, number: int) -> None:
        """Timer `answer-end`: nobody believes it any more."""
        record = self.records.get(number)
        if record is not None:
            self._remove(record)

    def label_late(self, number: int) -> None:
        """Timer `answer-label`."""
        record = self.records.get(number)
        if record is not None and record.label is None:
            self._refuse(record, "no label in time")

    def tunnel_late(self, number: int) -> None:
        """Timer `answer-tunnel`."""
        record = self.records.get(number)
        if record is not None and record.stage is Stage.TUNNEL:
            self._advance(record, late=True)

    def reach_changed(self, number: int) -> None:
        record = self.records.get(number)
        if record is None:
            return
        before, record.reached = record.reached, self.reach.state(number)
        if record.reached.usable and record.reachable is None:
            record.reachable = self.node.now
        if record.stage is Stage.ANSWERED and before.usable and not record.reached.usable:
            self._lost(record, before.interface)
        self._advance(record)

    def _lost(self, record: Record, interface: str) -> None:
        """The tunnel was up, and is down. One that IKEv2 makes is not wanted any more: it would call a dead peer until the
        record ends; if the requester lives and has packets, it asks again. What needs no IKEv2 costs nothing, and lets the
        requester's packets in."""
        row = self.node.interfaces.get(interface)
        if row is None or row.row.protection:
            self.reach.drop(record.number)
            record.tunnel, record.reached = False, NOWHERE

    def labels_changed(self, rows: Mapping[Fec, LabelRow | None]) -> None:
        """LabelBound: answers that wait for one, and those whose label is another now."""
        for fec, row in rows.items():
            for number in list(self._by_fec.get(fec, ())):
                record = self.records[number]
                if record.stage is Stage.LABEL:
                    self._advance(record)
                elif row is None or row.label != record.label:
                    self._take_back(record, "label changed")

    def routes_changed(self, vrf: str, prefixes: Iterable[Prefix]) -> None:
        for prefix in prefixes:
            self._doubtful.update(dict.fromkeys(self._addresses.under(vrf, prefix)))

    def doubt_all(self) -> None:
        self._doubtful.update(dict.fromkeys(self.records))

    def interface_changed(self, name: str) -> None:
        for number, record in self.records.items():
            if name in (record.interface, record.question.way.interface):
                self._doubtful[number] = None

    def recheck(self, limit: int = RECHECKS) -> bool:
        """Hold answers against what changed; whether some are left."""
        while self._doubtful and limit:
            limit -= 1
            number = next(iter(self._doubtful))
            del self._doubtful[number]
            record = self.records.get(number)
            if record is not None and (fault := self._fault(record)):
                self._take_back(record, fault)
        return bool(self._doubtful)

    def _fault(self, record: Record) -> str:
        """Why an answer is no longer true ('': it is)."""
        node, question = self.node, record.question
        network = node.network(record.interface)
        if network != question.arrival.network:
            return "interface has left the network"
        way = self.ways.find(question.vrf, record.request.destination)
        if way.where is Where.NONE or way.within(network):
            return "route gone"
        if way.prefix != record.matched and way.prefix.length > record.prefix.length:
            return "route is more specific now"
        if record.matched.length > way.prefix.length and record.prefix.length < len(record.overlay) * 8:
            return "route is less specific now"
        return ""

    # --- taken back -----------------------------------------------------------------------------------------------------------

    def _take_back(self, record: Record, reason: str) -> None:
        """It is no longer so: the requester is told, if it has been told before; else refused. Tunnel and label stay until it
        has heard, so that it can hear."""
        self.node.count(f"answer taken back: {reason}")
        if record.stage is not Stage.ANSWERED:
            self.transit.nak(record.question.arrival, CieCode.NO_BINDING, "no longer so")
            self._remove(record)
            return
        self._detach(record)
        packet = self._purge(record, 0)
        if packet is None or len(self._purges) >= MAX_PURGES:
            self._release(record)
            return
        self._purges[packet.request_id] = _Purge(packet, record)
        self.node.timers.set(("purge", packet.request_id), self.node.now + PURGE_RETRIES[0])

    def _purge(self, record: Record, flags: int) -> Packet | None:
        """Tell the requester; what it was told."""
        packet = self._purge_of(_told(record), flags)
        if packet is not None:
            self._send(record, packet)
        return packet

    def _purge_of(self, told: Told, flags: int) -> Packet | None:
        node, afi = self.node, told.prefix.afi
        own, nbma = node.own(told.interface, afi), node.nbma(told.interface)
        if not own or not nbma:
            return None
        cie = Cie(prefix_length=told.prefix.length, protocol=told.prefix.network)
        more = []
        if told.label is not None:
            # Prefixes of several VRFs may be alike; the label tells them apart.
            binding = MplsBinding(Role.REPLY, fec=(FecLabel(0, (told.label,)),))
            more.append(mpls_extension(binding, node.config.oui))
        extensions = self.gate.request_extensions(more, None)
        node.count("purges sent")
        return Packet(Kind.PURGE_REQUEST, nbma, own, told.overlay, node.request_id(), flags, (cie,), extensions)

    def _send(self, record: Record, packet: Packet) -> bool:
        """To the requester: straight if there is a tunnel, else by the way that its request came. False: neither is there."""
        arrival = record.question.arrival
        reached = self.reach.state(record.number)
        if reached.usable:
            self.gate.send(reached.interface, record.nbma, packet)
        elif self.node.is_at(arrival.name, arrival.fact.outer_source):
            self.gate.send(arrival.name, arrival.fact.outer_source, packet)
        return reached.usable

    def purge_due(self, request_id: int) -> None:
        """Timer `purge`: it has not been answered."""
        purge = self._purges.get(request_id)
        if purge is None:
            return
        purge.tries += 1
        if purge.tries >= len(PURGE_RETRIES):
            self._purged(request_id)
            return
        self.node.timers.set(("purge", request_id), self.node.now + PURGE_RETRIES[purge.tries])
        self._send(purge.record, purge.packet)

    def purge_replied(self, arrival: Arrival) -> bool:
        """PURGE_REPLY: whether it is about a purge of ours."""
        request_id = arrival.packet.request_id
        purge = self._purges.get(request_id)
        if purge is None or purge.packet.source != arrival.packet.source:
            return False
        record, source = purge.record, arrival.fact.outer_source
        if source not in (record.nbma, record.question.arrival.fact.outer_source):
            self.gate.count(arrival, "purge reply from elsewhere")
            return True
        self._purged(request_id)
        return True

    def _purged(self, request_id: int) -> None:
        self._release(self._purges.pop(request_id).record)
        self.node.timers.set(("purge", request_id), None)

    def _remove(self, record: Record) -> None:
        self._detach(record)
        self._release(record)

    def _detach(self, record: Record) -> None:
        """It is no answer any more; what it claims stays."""
        node, number = self.node, record.number
        self.kept.told.pop(number, None)
        if self.records.pop(number, None) is None:
            return
        self._by_overlay[record.overlay] -= 1
        if not self._by_overlay[record.overlay]:
            del self._by_overlay[record.overlay]
        if self._by_key.get(record.key) is record:
            del self._by_key[record.key]
        if record.fec is not None:
            users = self._by_fec.get(record.fec, {})
            users.pop(number, None)
            if not users:
                self._by_fec.pop(record.fec, None)
        self._addresses.remove(record.question.vrf, record.request.destination, number)
        self._doubtful.pop(number, None)
        for kind in ("answer-end", "answer-label", "answer-tunnel"):
            node.timers.set((kind, number), None)

    def _release(self, record: Record) -> None:
        """Tunnel and label are not wanted any more: they go with the last who wants them."""
        self.node.claims.drop(record.number)
        self.reach.drop(record.number)

    def clear(self, wanted: Callable[[Record], bool]) -> int:
        """The operator's: those who were told hear of it."""
        found = [record for record in self.records.values() if wanted(record)]
        for record in found:
            self._take_back(record, "cleared")
        return len(found)

    def stop(self) -> None:
        """All hear of it; rows are withdrawn with the service."""
        for record in self.records.values():
            if record.stage is Stage.ANSWERED:
                self._purge(record, Flag.NO_REPLY)
        self.kept.told.clear()

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records.values())

    def __len__(self) -> int:
        return len(self.records) + len(self._purges)


def _told(record: Record) -> Told:
    arrival = record.question.arrival
    return Told(arrival.name, arrival.fact.outer_source, record.overlay, record.prefix, record.label, record.expires)
