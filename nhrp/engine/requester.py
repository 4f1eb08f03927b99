"""Resolutions of our own: redirects that start them, requests, and what is believed of the replies (RFC 2332 5.2.1, 5.2.2).

    hub                      we                                  far spoke
     |-- traffic indication -->|                                      |
     |<-- resolution request --|    (by the route, hop by hop)        |
     |------------------------------ resolution request ------------->|
     |                         |<-- resolution reply (its tunnel) ----|

Nothing is believed that was not asked for, and a reply never draws packets that the hub's route did not send to the network.
"""

from __future__ import annotations

from typing import NamedTuple

from attrs import define, field

from nhrp.engine.client import Client
from nhrp.engine.gate import Gate
from nhrp.engine.indexed import Network
from nhrp.engine.nat import nat_cies
from nhrp.engine.node import Arrival, Node
from nhrp.engine.reach import Reach
from nhrp.engine.shares import Shares
from nhrp.engine.shortcuts import Answer, Entry, Hint, Input, Shortcuts, State
from nhrp.engine.ways import SHORTEST, Way, Ways, Where
from nhrp.events import RedirectReceived
from nhrp.wire.mpls import ContextLabel, MplsBinding, Role, mpls_extension, mpls_of
from nhrp.wire.packet import Cie, ErrorCode, Flag, Kind, Packet
from stack.addr import FIRST_UNRESERVED_LABEL, LabelStack, Prefix, ReservedLabel, format_address
from stack.wire import WireError

__all__ = [
    "GIVE_UP",
    "INDICATION_RATE",
    "REQUEST_RATE",
    "RETRIES",
    "Requester",
    "addresses_of",
    "contested",
    "mpls_said",
    "vouches",
]

RETRIES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between a request and the next one with the same id; after the last the resolution is given up."""

HURRIED, HURRY = 64, 0.2
"""Questions that are asked again soon after a tunnel has come up, and how many seconds after; the others have their time."""

GIVE_UP = sum(RETRIES)

REQUEST_RATE, INDICATION_RATE = 100.0, 200.0
"""A second, and at once: new resolutions, each VRF with its share, and redirects that are looked at, each peer with its."""


class _RefusedError(Exception):
    """Why a reply is not believed."""


class Headers(NamedTuple):
    source: bytes
    destination: bytes


def addresses_of(header: bytes) -> Headers | None:
    """Source and destination of the IP packet whose start this is."""
    version = header[0] >> 4 if header else 0
    if version == 4 and len(header) >= 20:
        return Headers(header[12:16], header[16:20])
    if version == 6 and len(header) >= 40:
        return Headers(header[8:24], header[24:40])
    return None


def mpls_said(packet: Packet, oui: bytes, role: Role) -> MplsBinding | None:
    """What a packet says of labels in that role; echoes of another role say nothing. Raises WireError."""
    binding = mpls_of(packet, oui)
    return binding if binding is not None and binding.role == role else None


def contested(ways: Ways, reach: Reach, arrival: Arrival, overlay: bytes, nbma: bytes) -> str:
    """Why `overlay` is not believed to be at `nbma` now ('': it is): a tunnel leads to it elsewhere. A server of ours, who
    is on our own way to it, or at the far end of a configured tunnel (a hub knows its peers) may say that it has moved; nobody
    else."""
    if not reach.leads_to(arrival.network, overlay) - {nbma} or vouches(ways, reach, arrival, overlay):
        return ""
    way = ways.find(ways.node.vrf(arrival.name), overlay)
    there = way.where is Where.NETWORK and (way.interface, way.nbma) == (arrival.name, nbma)
    return "" if there else "a tunnel leads to it elsewhere"


def vouches(ways: Ways, reach: Reach, arrival: Arrival, overlay: bytes) -> bool:
    """Whether who has sent a packet may say where `overlay` is, if that is not where it is itself."""
    name, source = arrival.name, arrival.fact.outer_source
    if arrival.tunnel.remote and not reach.made(name):
        return True
    if ways.is_configured(name, source):
        return True
    way = ways.find(ways.node.vrf(name), overlay)
    there = way.where is Where.NETWORK and (way.interface, way.nbma) == (name, source)
    return there and way.next_hop not in (b"", overlay)


@define(eq=False)
class Requester:
    node: Node
    gate: Gate
    ways: Ways
    shortcuts: Shortcuts
    client: Client
    _requests: Shares = field(factory=lambda: Shares(REQUEST_RATE))
    _indications: Shares = field(factory=lambda: Shares(INDICATION_RATE))

    # --- redirects ----------------------------------------------------------------------------------------------------------

    def indicated(self, arrival: Arrival) -> None:
        """TRAFFIC_INDICATION: our next hop says that there is a shorter way."""
        reason = self._indicated(arrival)
        if reason:
            self.node.count(f"redirect ignored: {reason}")

    def _indicated(self, arrival: Arrival) -> str:
        node = self.node
        headers = addresses_of(arrival.packet.body)
        if node.stopping:
            return "we stop"
        if not node.family(arrival.name, arrival.afi).shortcut:
            return "no shortcuts on this interface"
        if headers is None or len(headers.destination) != len(arrival.packet.source):
            return "no IP header in it"
        if not self._indications.take((arrival.name, arrival.fact.outer_source), node.now):
            return "too many in a second"
        vrfs = self._vrfs(arrival, headers)
        if len(vrfs) != 1:
            return "several VRFs fit" if vrfs else "from nobody who is our next hop for it, or for a source not ours"
        vrf, way, context = vrfs[0]
        destination = headers.destination
        if self.shortcuts.covering(vrf, destination) is not None:
            return "there is a shortcut"
        if self.shortcuts.asked(vrf, destination) is not None:
            return "it has been asked already"
        if reason := self.shortcuts.room():
            return reason
        if not self._requests.take(vrf, node.now):
            return "too many resolutions in a second"
        node.post(RedirectReceived(arrival.name, vrf, destination))
        hint = Hint(arrival.packet.source, self._extent(arrival.packet))
        self._ask(self.shortcuts.open(vrf, destination, way, context, hint=hint))
        return ""

    def _extent(self, packet: Packet) -> int:
        binding = mpls_said(packet, self.node.config.oui, Role.INDICATION)  # it has been read before
        return binding.extent if binding is not None else 0

    def _vrfs(self, arrival: Arrival, headers: Headers) -> list[tuple[str, Way, ContextLabel | None]]:
        """The VRFs whose packet it can have been: our next hop for its destination has sent the redirect, under the label (if
        any) that this next hop has given us; and its source is behind us."""
        node = self.node
        try:
            binding = mpls_said(arrival.packet, node.config.oui, Role.INDICATION)
        except WireError:
            return []
        said = binding.context if binding is not None else None
        names = [node.vrf(arrival.name)] if said is None else list(node.rib.ribs)
        found: list[tuple[str, Way, ContextLabel | None]] = []
        for vrf in names:
            way = self.ways.find(vrf, headers.destination)
            if not self._is_next(way, arrival) or not self._local(vrf, headers.source, way.network):
                continue
            context = _context(way)
            if said is None and (context is None or vrf == node.vrf(way.interface)):
                found.append((vrf, way, None))
            elif said is not None and context is not None and _agrees(said, context):
                found.append((vrf, way, context))
        return found

    def _is_next(self, way: Way, arrival: Arrival) -> bool:
        """Whether the sender is the next hop of `way`."""
        if way.where is not Where.NETWORK or way.interface != arrival.name:
            return False
        if way.nbma and way.nbma != arrival.fact.outer_source:
            return False
        same_family = len(way.next_hop) == len(arrival.packet.source)
        one = self.node.tunnels.get(way.interface)
        if one is not None and one.remote:
            return True  # whatever address it calls itself by, it is the far end
        return not same_family or way.next_hop == arrival.packet.source

    def _local(self, vrf: str, source: bytes, network: Network) -> bool:
        way = self.ways.find(vrf, source)
        return way.where in (Where.OWN, Where.OUTSIDE) or (way.where is Where.NETWORK and way.network != network)

    # --- requests -----------------------------------------------------------------------------------------------------------

    def _ask(self, entry: Entry) -> None:
        """The request, for the first time or again: the same id (RFC 2332 5.2.0.1), the label as it is now."""
        node, way = self.node, self.ways.find(entry.vrf, entry.destination)
        if fault := self.shortcuts.fault(entry):
            self.shortcuts.turn(entry, Input.GONE, fault)
            return
        if entry.tries >= len(RETRIES):
            self.shortcuts.turn(entry, Input.SILENT, "nobody has answered")
            return
        entry.way = way
        entry.context = _context(way) if entry.context is not None else None
        node.timers.set(("shortcut-ask", entry.number), node.now + RETRIES[entry.tries])
        entry.tries += 1
        entry.asked = node.now
        packet = self._request(entry)
        if packet is None:
            entry.reason = f"no address of ours on {way.interface}, or nobody to ask"
            return
        entry.source = packet.source
        self.gate.send(way.interface, way.nbma, packet)

    def _request(self, entry: Entry) -> Packet | None:
        node, way = self.node, entry.way
        afi = Prefix.host(entry.destination).afi
        source, nbma = node.own(way.interface, afi), node.nbma(way.interface)
        if not source or not nbma or not way.nbma:
            return None
        interface = node.interfaces[way.interface]
        bits = len(entry.destination) * 8
        cie = Cie(0, bits, min(interface.mtu, 0xFFFF), node.family(way.interface, afi).holding_time)
        more = []
        if entry.context is not None:
            more.append(mpls_extension(MplsBinding(Role.REQUEST, entry.context), node.config.oui))
        public = self.client.public_nbma(way.interface, afi)
        nat = (Cie(0, bits, 0, cie.holding_time, public, source),) if public else ()
        flags = Flag.ROUTER | Flag.AUTHORITATIVE | Flag.STABLE_SOURCE | Flag.NAT
        extensions = self.gate.request_extensions(more, nat)
        return Packet(
            Kind.RESOLUTION_REQUEST, nbma, source, entry.destination, entry.request_id, flags, (cie,), extensions
        )

    def again(self, number: int) -> None:
        """Timer `shortcut-ask`."""
        entry = self.shortcuts.entries.get(number)
        if entry is not None and entry.state is State.PENDING:
            self._ask(entry)

    def tunnel_up(self, interface: str) -> None:
        """A tunnel of the network can be used now. An egress that we have called sends its answer as soon as its end is there,
        which may be before ours can take it: what has not been answered soon is asked again, and not after a second only."""
        network, left = self.node.network(interface), HURRIED
        for entry in self.shortcuts.requests.values():
            if entry.state is State.PENDING and entry.tries == 1 and entry.network == network and left:
                left -= 1
                due = entry.asked + RETRIES[0]
                self.node.timers.set(("shortcut-ask", entry.number), min(due, self.node.now + HURRY))

    def renew(self, entries: list[Entry]) -> None:
        """Packets take these shortcuts: ask again in time."""
        for old in entries:
            way = self.ways.find(old.vrf, old.destination)
            if self.node.stopping or not way.within(old.network) or self.shortcuts.room() == "cache-limit":
                continue
            context = _context(way) if old.context is not None else None
            self._ask(self.shortcuts.open(old.vrf, old.destination, way, context, old, old.hint))

    # --- replies ------------------------------------------------------------------------------------------------------------

    def replied(self, arrival: Arrival) -> bool:
        """RESOLUTION_REPLY. False: its source is not ours, so it is to be passed on."""
        packet, node = arrival.packet, self.node
        entry = self.shortcuts.requests.get(packet.request_id)
        if entry is None or entry.source != packet.source:
            if not node.is_own(node.vrf(arrival.name), packet.source):
                return False
            node.count("reply ignored: not asked for, or late")
            return True
        try:
            cie = self._expected(arrival, entry)
            if cie.code:
                self.shortcuts.turn(entry, Input.REFUSED, _code_text(cie.code))
                return True
            answer = self._believed(arrival, entry, cie)
        except (_RefusedError, WireError) as refused:
            reason = refused.args[0] if isinstance(refused, _RefusedError) else "malformed extension"
            node.count(f"reply ignored: {reason}")
            node.log(
                "resolution reply ignored",
                "warning",
                reason=reason,
                source=format_address(arrival.fact.outer_source),
                interface=arrival.name,
            )
            return True
        if answer is None:
            node.count("reply without a label")
            self.shortcuts.turn(entry, Input.REFUSED, "the far end gave no label (it takes no MPLS in NHRP)")
            return True
        entry.answer = answer
        self.shortcuts.turn(entry, Input.ANSWERED)
        return True

    def _expected(self, arrival: Arrival, entry: Entry) -> Cie:
        """The reply's own entry, if the reply is one that we wait for."""
        packet = arrival.packet
        if arrival.network != entry.network:
            raise _RefusedError("from another VRF or NHRP network")
        if packet.destination != entry.destination:
            raise _RefusedError("about another destination")
        if not packet.cies:
            raise _RefusedError("empty")
        cie = packet.cies[0]
        if not self._from_next_hop(arrival, entry) and not self._from_itself(arrival, cie):
            raise _RefusedError("from a host not asked")
        return cie

    def _from_next_hop(self, arrival: Arrival, entry: Entry) -> bool:
        source = arrival.fact.outer_source
        asked = arrival.name == entry.way.interface and entry.way.nbma == source
        return asked or self.client.is_server(arrival.name, source)

    def _from_itself(self, arrival: Arrival, cie: Cie) -> bool:
        """Whether who sends it is who will get the packets."""
        source = arrival.fact.outer_source
        if not self.gate.speaks_for(arrival, cie.protocol):
            return False
        shown = self._natted(arrival.packet, cie)
        return source in (cie.nbma, shown) or bool(arrival.fact.sa)

    @staticmethod
    def _natted(packet: Packet, cie: Cie) -> bytes:
        """The NBMA address of the CIE's owner as others see it; empty: no NAT."""
        listed = nat_cies(packet) or ()
        return next((one.nbma for one in listed if one.nbma and one.protocol == cie.protocol), b"")

    def _believed(self, arrival: Arrival, entry: Entry, cie: Cie) -> Answer | None:
        """What a positive reply says, checked; None: it lacks the label without which there is no shortcut."""
        if not cie.holding_time:
            raise _RefusedError("holding time 0")
        if len(cie.protocol) != len(entry.destination) or not cie.nbma:
            raise _RefusedError("no addresses")
        vouched = self._from_next_hop(arrival, entry)
        nbma = (self._natted(arrival.packet, cie) or cie.nbma) if vouched else arrival.fact.outer_source
        claimed = cie.nbma if nbma != cie.nbma else b""
        if not _is_unicast(nbma) or len(nbma) != len(self.node.nbma(entry.way.interface)):
            raise _RefusedError("no unicast NBMA address")
        prefix = self._prefix(entry, cie)
        if self._usurps(entry, cie.protocol, nbma):
            raise _RefusedError("the next hop cannot be there")
        if contested(self.ways, self.shortcuts.reach, arrival, cie.protocol, nbma):
            raise _RefusedError("a tunnel leads to the next hop elsewhere")
        labels = self._labels(arrival.packet, entry)
        if entry.context is not None and not labels:
            return None
        route = self.ways.may_draw(entry.way.interface, cie.protocol, vouched=vouched, asked=True)
        return Answer(prefix, cie.protocol, nbma, cie.holding_time, claimed, labels, route)

    def _usurps(self, entry: Entry, overlay: bytes, nbma: bytes) -> bool:
        """Whether an answer says that it is somebody else: he who told us to ask, or who has given us the label to ask by."""
        allocator = entry.context.allocator if entry.context is not None else b""
        if overlay in (entry.hint.redirector, allocator) and nbma != entry.way.nbma:
            return True
        return bool(self.ways.usurps(entry.way.interface, overlay, nbma))

    def _prefix(self, entry: Entry, cie: Cie) -> Prefix:
        """What the reply may draw: around what was asked, and no more than our own route sends by the network."""
        bits = len(entry.destination) * 8
        length = bits if cie.prefix_length in (0, 255) else cie.prefix_length
        if length > bits or length < SHORTEST[len(entry.destination)]:
            raise _RefusedError("a prefix that is too short, or none")
        way = self.ways.find(entry.vrf, entry.destination)
        if not way.within(entry.network):
            raise _RefusedError("the route no longer leaves by the network")
        most = max(way.prefix.length, min(entry.hint.length, bits))
        if length < most:
            self.node.count("reply cut down to our own route's prefix, or the redirector's")
            length = most
        prefix = Prefix.of(entry.destination, length)
        if prefix == way.prefix and way.where is not Where.NETWORK:
            raise _RefusedError("a prefix of ours")
        return prefix

    def _labels(self, packet: Packet, entry: Entry) -> LabelStack:
        """What is to be pushed. Only the role of a reply counts: some echo the request's extension (role 1)."""
        if entry.context is None:
            return ()
        binding = mpls_said(packet, self.node.config.oui, Role.REPLY)
        labels = binding.fec_of(0) if binding is not None else None
        if binding is None or labels is None:
            return ()
        if binding.next_hop_of(0) not in (None, ReservedLabel.IMPLICIT_NULL):
            raise _RefusedError("the next hop is not to be reached by implicit null")
        if len(labels) != 1 or labels[0] < FIRST_UNRESERVED_LABEL:
            raise _RefusedError("a label that means something else")
        return labels

    # --- purges and errors ----------------------------------------------------------------------------------------------------

    def purged(self, arrival: Arrival, prefix: Prefix) -> int:
        """A purge request for us: shortcuts that its sender has given us, where the packets go to or our own way to it leads
        by. How many."""
        node, packet = self.node, arrival.packet
        try:
            binding = mpls_said(packet, node.config.oui, Role.REPLY)
        except WireError:
            return 0
        labels = binding.fec_of(0) if binding is not None else None
        source = arrival.fact.outer_source

        def taken_back(entry: Entry, answer: Answer) -> bool:
            asked = (entry.way.interface, entry.way.nbma) == (arrival.name, source)
            mine = prefix.contains(answer.prefix) and labels in (None, answer.labels)
            mine = mine and entry.network == arrival.network
            return mine and (asked or answer.nbma == source)

        return self.shortcuts.purge(packet.source, taken_back)

    def error(self, arrival: Arrival) -> bool:
        """ERROR_INDICATION: whether it is about a request of ours that still waits."""
        packet = arrival.packet
        body = packet.body
        if len(body) < 28 or body[17] != Kind.RESOLUTION_REQUEST:
            return False
        entry = self.shortcuts.requests.get(int.from_bytes(body[24:28]))
        if entry is None or entry.source != packet.destination or not self._from_next_hop(arrival, entry):
            return False
        code = next((known.name.lower().replace("_", " ") for known in ErrorCode if known == packet.code), packet.code)
        self.shortcuts.turn(entry, Input.REFUSED, f"error indication: {code}")
        return True


def _context(way: Way) -> ContextLabel | None:
    """The label that stands for the VRF at the next hop."""
    return ContextLabel(way.labels[-1], way.allocator) if way.labels and way.allocator else None


def _agrees(said: ContextLabel, ours: ContextLabel) -> bool:
    """An IPv6 redirect names an IPv6 allocator; a 6VPE route of ours may have an IPv4 next hop. Whose it is has been looked at
    already."""
    return said.label == ours.label and (said.allocator == ours.allocator or len(said.allocator) != len(ours.allocator))


def _is_unicast(address: bytes) -> bool:
    if len(address) == 4:
        return 0 < address[0] < 224 and address[0] != 127
    return any(address[:-1]) and address[0] != 0xFF


def _code_text(code: int) -> str:
    names = {4: "administratively prohibited", 5: "insufficient resources", 12: "no binding there", 13: "not unique"}
    return f"refused: {names.get(code, f'code {code}')}"
