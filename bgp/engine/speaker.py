"""The whole BGP speaker without I/O: peers and their sessions on one side, the tables on the other.

It is told what the network and the bus did, and when, and answers with outputs. Every connection has a number; an
outgoing one gets it in `Connect`, for an incoming one the service asks `number()` first.

Nothing that one peer sends may hurt another. Octets are worked on in turns of at most TURN_OCTETS a peer, and a peer that
sends faster is not read for a while (PauseReading). Routes go out in turns of SEND_OCTETS to whoever can take them;
reading never waits for writing, or two speakers that both have much to say would wait for each other for ever. Whatever
is raised while a peer's message is worked on ends that peer's session alone, counted and logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count, islice

from attrs import define, field

from bgp.config import BgpConfig, NeighborConfig
from bgp.engine.fsm import State
from bgp.engine.outputs import (
    Close,
    Connect,
    Listen,
    Log,
    NotifyPeer,
    OutgoingReady,
    Output,
    PauseReading,
    PeerKey,
    Post,
    Publish,
    RequestRefresh,
    ResumeReading,
    RibOutput,
    SyncedOut,
)
from bgp.engine.peers import Peer, PeerOutput
from bgp.engine.session import Deliver, Down, PeerSession, Up
from bgp.engine.session_addresses import LocalAddresses
from bgp.engine.session_binding import (
    MAX_WAITING,
    WAIT,
    WAIT_OCTETS,
    Bindings,
    Refusal,
    Refusals,
    Standing,
    Waiting,
    WaitingRoom,
)
from bgp.engine.session_config import (
    listen_range,
    listeners,
    merged,
    must_be_connected,
    needs_reset,
    session_sources,
    update_sources,
)
from bgp.engine.session_ends import STOPS, End, EndReason, Hold, cease, printable
from bgp.engine.session_listen import LISTEN_AGAIN, Listeners
from bgp.engine.session_refresh import RefreshGate
from bgp.engine.session_schedule import Schedule
from bgp.engine.session_stream import HIGH_WATER, LOW_WATER
from bgp.engine.speaker_views import Message, RibsApi, SpeakerSnapshot
from bgp.events import PeerDown, PeerUp
from bgp.wire import (
    CeaseSubcode,
    ErrorCode,
    MessageError,
    Notification,
    RefreshSubtype,
    RouteRefresh,
    Update,
    decode,
)
from stack.addr import DEFAULT_VRF, format_address
from stack.events import (
    Delta,
    HostPortRow,
    HostPortState,
    InterfaceState,
    NextHopState,
    NextHopWanted,
    OverlayState,
    SourceOffered,
    SourceRow,
    Synced,
)

__all__ = ["LISTEN_AGAIN", "SEND_OCTETS", "TURN_OCTETS", "RibsApi", "Speaker", "SpeakerSnapshot"]

TURN_OCTETS = 64 * 1024
"""Octets of one peer that are worked on in one turn."""

SEND_OCTETS = 64 * 1024
"""Octets of UPDATEs that one peer is sent in one turn."""

TURN_PEERS = 8
"""Peers that get their turn before timers, and the event loop's other users, get theirs."""

SETTLE = 0.5
"""Seconds for more interfaces to show up, before the router id is chosen from those that did."""


@define(eq=False)
class Speaker:
    """`standalone`: no routing service tells about interfaces and host ports, so nothing waits for them, and `router_id`
    must be configured."""

    config: BgpConfig
    entropy: Callable[[int], bytes]
    ribs: RibsApi
    standalone: bool = False
    restarted: bool = False
    _refusals: Refusals = field(factory=Refusals)
    _bindings: Bindings = field(factory=Bindings)
    _waiting: WaitingRoom = field(factory=WaitingRoom)
    """Connections that came before it is known who may come that way, oldest first."""
    _peers: dict[PeerKey, Peer] = field(factory=dict)
    _dynamic_peers: int = 0
    _connections: dict[int, Peer] = field(factory=dict)
    _numbers: Iterable[int] = field(factory=lambda: count(1))
    _addresses: LocalAddresses = field(factory=LocalAddresses)
    _ports: dict[str, HostPortRow] = field(factory=dict)
    _listeners: Listeners = field(factory=Listeners)
    _schedule: Schedule = field(factory=Schedule)
    _refreshes: RefreshGate = field(factory=RefreshGate)
    _ready: dict[PeerKey, None] = field(factory=dict)
    _ready_at: float = 0.0
    _identifier: bytes = b""
    _settle_at: float | None = None
    _sources: dict[str, str] = field(factory=dict)
    _limited: set[PeerKey] = field(factory=set)
    _started: bool = False

    # --- life -----------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Output]:
        self._started = True
        self._identifier = self.config.router_id
        outputs = self._rib(self.ribs.start(now), now)
        outputs += self._offer_sources()
        outputs.append(SyncedOut(SourceOffered))
        for key, neighbor in self.config.neighbors.items():
            self._add(key, merged(self.config, neighbor))
        return outputs + self._reconsider(now)

    def stop(self, now: float) -> list[Output]:
        """Good-bye to all (RFC 4486 4: Administrative Shutdown)."""
        outputs: list[Output] = []
        for peer in list(self._peers.values()):
            end = cease(CeaseSubcode.SHUTDOWN, EndReason.STOPPED)
            outputs += self._perform(peer, peer.stop(end, now), now)
        outputs += [Close(connection, abort=True) for connection in self._waiting.clear()]
        outputs += self._listeners.stop()
        return outputs

    def reconfigure(self, config: BgpConfig, now: float) -> list[Output]:
        """Run on `config` from now on. Sessions that it does not touch stay."""
        old, self.config = self.config, config
        if config.router_id != old.router_id:
            self._identifier = config.router_id or self._addresses.router_id()
            self._settle_at = None
        outputs: list[Output] = []
        changed: list[Peer] = []
        for key, peer in list(self._peers.items()):
            wanted = self._wanted(key, dynamic=peer.dynamic)
            if wanted is None or old.asn != config.asn:
                subcode = CeaseSubcode.PEER_DECONFIGURED if wanted is None else CeaseSubcode.CONFIGURATION_CHANGE
                outputs += self._remove(peer, cease(subcode, EndReason.DECONFIGURED), now)
                continue
            before = (old, peer.config)
            peer.node, peer.config = config, wanted
            if needs_reset(before, (config, wanted)):
                end = cease(CeaseSubcode.CONFIGURATION_CHANGE, EndReason.CHANGED, again=True)
                outputs += self._perform(peer, peer.stop(end, now), now)
                changed.append(peer)
        for key, neighbor in config.neighbors.items():
            if key not in self._peers:
                self._add(key, merged(config, neighbor))
        outputs += self._rib(self.ribs.reconfigure(config, now), now)
        outputs += self._offer_sources()
        outputs += self._reconsider(now)
        for peer in changed:
            outputs += self._perform(peer, peer.restart_soon(now), now)
        return outputs + self._want_hops()

    def _wanted(self, key: PeerKey, *, dynamic: bool) -> NeighborConfig | None:
        neighbor = self.config.neighbors.get(key)
        if neighbor is not None:
            return merged(self.config, neighbor) if not dynamic else None
        found = listen_range(self.config, *key) if dynamic else None
        return None if found is None else found[1]

    def _offer_sources(self) -> list[Output]:
        sources = session_sources(self.config)
        rows = {name: SourceRow(use) for name, use in sources.items() if self._sources.get(name) != use}
        gone = dict.fromkeys(self._sources.keys() - sources.keys())
        self._sources = sources
        return [Publish(SourceOffered, "", {**rows, **gone})] if rows or gone else []

    # --- peers ----------------------------------------------------------------------------------------------------

    def number(self) -> int:
        """A fresh connection number."""
        return next(iter(self._numbers))

    def _add(self, key: PeerKey, config: NeighborConfig, *, dynamic: bool = False) -> Peer:
        peer = Peer(key, self.config, config, self.entropy, self.number, dynamic=dynamic, restarted=self.restarted)
        self._peers[key] = peer
        self._dynamic_peers += dynamic
        if not self.standalone:
            self._bindings.follow(key)
        return peer

    def _remove(self, peer: Peer, end: End, now: float) -> list[Output]:
        outputs = self._perform(peer, peer.stop(end, now), now)
        if self._peers.pop(peer.key, None) is not None:
            self._forget(peer)
        return outputs

    def _forget(self, peer: Peer) -> None:
        key = peer.key
        self._dynamic_peers -= peer.dynamic
        if not self.standalone:
            self._bindings.leave(key)
        self._schedule.forget(key)
        self._refreshes.forget(key)
        self._ready.pop(key, None)
        self._limited.discard(key)

    def _reconsider(self, now: float) -> list[Output]:
        """Configuration, addresses or ports changed: who may run now, and where do we listen?"""
        outputs = self._listen(now)
        for peer in list(self._peers.values()):
            outputs += self._consider(peer, now)
        return outputs

    def _consider(self, peer: Peer, now: float) -> list[Output]:
        hold, source = self._verdict(peer)
        moved = source != peer.source and peer.main.state is State.CONNECT
        peer.identifier, peer.source = self._identifier, source
        outputs: list[PeerOutput] = []
        if moved and hold is Hold.NONE:
            outputs += peer.stop(End(EndReason.ADDRESS_GONE, again=False), now)
        outputs += peer.allow(hold, STOPS.get(hold, End(EndReason.NONE)), now)
        return self._perform(peer, outputs, now)

    def _verdict(self, peer: Peer) -> tuple[Hold, bytes]:
        """Whether `peer` may run, and from which address of ours it would connect."""
        config, (vrf, remote) = peer.config, peer.key
        if config.shutdown:
            return Hold.SHUTDOWN, b""
        if not config.remote_as or not self.config.asn:
            return Hold.NO_AS, b""
        if not self._identifier:
            return Hold.NO_IDENTIFIER, b""
        if peer.key in self._limited:
            return Hold.PREFIX_LIMIT, b""
        if self.standalone:
            return Hold.NONE, b""
        if vrf != DEFAULT_VRF and vrf not in self._ports:
            return Hold.NO_HOST_PORT, b""
        if self._bindings.standing(peer.key) is Standing.OTHER:
            return Hold.NOT_ASSIGNED, b""
        if config.update_source:
            source = self._addresses.source(config.update_source, len(remote))
            return (Hold.NONE if source else Hold.NO_SOURCE), source
        if must_be_connected(config, ibgp=peer.ibgp) and not peer.passive:
            on = self._addresses.connected(vrf, remote)
            return (Hold.NOT_CONNECTED, b"") if on is None else (Hold.NONE, on.address)
        return Hold.NONE, self._addresses.towards(vrf, remote)

    def _listen(self, now: float) -> list[Output]:
        wanted: dict[str, Listen] = {}
        if self.config.asn and self._started:
            for vrf, ear in listeners(self.config).items():
                if self.standalone or vrf == DEFAULT_VRF or vrf in self._ports:
                    wanted[vrf] = Listen(vrf, b"", self.config.port, *ear)
        return self._listeners.settle(wanted, now)

    def listen_failed(self, vrf: str, reason: str, now: float) -> list[Output]:
        """The host does not let us listen there; we try again."""
        return self._listeners.failed(vrf, reason, now)

    # --- the network ----------------------------------------------------------------------------------------------

    def tcp_connected(self, connection: int, local: bytes, remote: bytes, now: float) -> list[Output]:
        """A connection that `Connect` asked for is up."""
        peer = self._connections.get(connection)
        if peer is None:
            return [Close(connection, abort=True)]
        return self._perform(peer, peer.connected(connection, local, remote, now), now)

    def tcp_failed(self, connection: int, reason: str, now: float) -> list[Output]:
        """A connection that `Connect` asked for could not be opened."""
        return self._gone(connection, EndReason.TCP_FAILED, reason, now)

    def tcp_closed(self, connection: int, reason: str, now: float) -> list[Output]:
        """The other end, or the host, closed a connection."""
        return self._gone(connection, EndReason.TCP_CLOSED, reason, now)

    def _gone(self, connection: int, reason: EndReason, text: str, now: float) -> list[Output]:
        if (early := self._waiting.pop(connection)) is not None:
            self._bindings.leave((early.vrf, early.remote))
            return self._want_hops()
        peer = self._connections.pop(connection, None)
        if peer is None:
            return []
        outputs: list[Output] = []
        session = peer.session(connection)
        if session is not None:
            # What came before the end is still worth reading, above all a NOTIFICATION.
            outputs += self._read(peer, session, now, HIGH_WATER + TURN_OCTETS)
        return outputs + self._perform(peer, peer.failed(connection, reason, printable(text), now), now)

    def accepted(self, connection: int, vrf: str, local: bytes, remote: bytes, now: float) -> list[Output]:
        """Somebody connected to us; `connection` is from `number()`."""
        standing = self._bindings.standing((vrf, remote))
        if standing is Standing.UNKNOWN:
            return self._wait(connection, vrf, local, remote, now)
        if standing is Standing.OTHER:
            return self._turn_away(connection, Refusal.NOT_ASSIGNED, vrf, remote, now)
        return self._admit(connection, vrf, local, remote, now)

    def _admit(self, connection: int, vrf: str, local: bytes, remote: bytes, now: float) -> list[Output]:
        peer = self._peers.get((vrf, remote))
        outputs: list[Output] = []
        if peer is None:
            outputs, peer = self._dynamic(vrf, remote, now)
            if peer is None:
                return [*outputs, Close(connection, abort=True)]
        if not any(session.tcp_up for session in peer.sessions()):
            peer.bound = self._bindings.identity(peer.key)  # a session that is up stays bound to whom it came as
        if peer.config.update_source and peer.source and local != peer.source:
            peer.greeted = True
            peer.counters.count(peer.counters.refused, "connected to another address than update-source")
            outputs.append(Close(connection, abort=True))
        else:
            self._connections[connection] = peer
            outputs += self._perform(peer, peer.accept(connection, local, remote, now), now)
        if peer.dynamic:
            self._dismiss(peer)
        return outputs

    def _dynamic(self, vrf: str, remote: bytes, now: float) -> tuple[list[Output], Peer | None]:
        """A neighbour by listen range, if one covers `remote` and the limit allows, perhaps after the oldest dynamic
        neighbour that has not come to anything is dropped."""
        found = listen_range(self.config, vrf, remote)
        if found is None:
            return self._refuse(Refusal.NO_NEIGHBOR, vrf, remote, now), None
        outputs: list[Output] = []
        if self._dynamic_peers >= self.config.listen_limit:
            incomplete = [peer for peer in self._peers.values() if peer.dynamic and not peer.established]
            if not incomplete:
                return self._refuse(Refusal.LIMIT, vrf, remote, now), None
            oldest = min(incomplete, key=lambda peer: peer.main.since)
            outputs += self._refuse(Refusal.OLDEST, vrf, oldest.key[1], now)
            outputs += self._remove(oldest, cease(CeaseSubcode.OUT_OF_RESOURCES, EndReason.LIMIT), now)
        peer = self._add((vrf, remote), found[1], dynamic=True)
        return outputs + self._consider(peer, now), peer

    def _refuse(self, reason: Refusal, vrf: str, remote: bytes, now: float) -> list[Output]:
        if not self._refusals.count(reason, vrf, remote, now):
            return []
        level = "warning" if reason is Refusal.NOT_ASSIGNED else "debug"
        fields = {"vrf": vrf or "default", "peer": format_address(remote), "reason": reason.value}
        return [Log(level, "connection refused", fields)]

    def _turn_away(self, connection: int, reason: Refusal, vrf: str, remote: bytes, now: float) -> list[Output]:
        peer = self._peers.get((vrf, remote))
        if peer is not None:
            peer.counters.count(peer.counters.refused, reason.value)
        return [*self._refuse(reason, vrf, remote, now), Close(connection, abort=True)]

    # --- identity binding -----------------------------------------------------------------------------------------

    def _wait(self, connection: int, vrf: str, local: bytes, remote: bytes, now: float) -> list[Output]:
        """Who may come from `remote` depends on the interface that it is reached by: routing is asked first."""
        if len(self._waiting) >= MAX_WAITING:
            return self._turn_away(connection, Refusal.CROWD, vrf, remote, now)
        self._waiting.add(connection, Waiting(vrf, local, remote, now + WAIT))
        self._bindings.follow((vrf, remote))
        return self._want_hops()

    def _want_hops(self) -> list[Output]:
        rows = self._bindings.rows()
        return [Publish(NextHopWanted, "", rows)] if rows else []

    def _bind(self, keys: Iterable[PeerKey], now: float) -> list[Output]:
        """What is assigned, or who is reached by what, has changed for these."""
        outputs: list[Output] = []
        for key in sorted(set(keys)):
            peer = self._peers.get(key)
            if peer is not None:
                outputs += self._rebind(peer, now)
            standing = self._bindings.standing(key)
            for connection in self._waiting.at(key) if standing is not Standing.UNKNOWN else ():
                outputs += self._let_in(connection, standing, now)
        return outputs + self._want_hops()

    def _rebind(self, peer: Peer, now: float) -> list[Output]:
        """Its session lives as long as its address is assigned to the identity that it came with; another one's starts with
        a session of its own."""
        identity, bound = self._bindings.identity(peer.key), peer.bound
        if identity == bound or (bound and not identity and self._bindings.holds(bound, peer.key[1])):
            return self._consider(peer, now)
        outputs: list[Output] = []
        if any(session.tcp_up for session in peer.sessions()):
            end = cease(CeaseSubcode.CONNECTION_REJECTED, EndReason.UNBOUND, again=True)
            outputs += self._perform(peer, peer.stop(end, now), now)
        peer.bound = identity
        return outputs + (self._consider(peer, now) if self._peers.get(peer.key) is peer else [])

    def _let_in(self, connection: int, standing: Standing, now: float) -> list[Output]:
        one = self._waiting.pop(connection)
        if one is None:
            return []
        if standing is Standing.OTHER:
            outputs = self._turn_away(connection, Refusal.NOT_ASSIGNED, one.vrf, one.remote, now)
        else:
            outputs = self._admit(connection, one.vrf, one.local, one.remote, now)
            if one.octets:
                outputs += self.octets(connection, bytes(one.octets), now)
        self._bindings.leave((one.vrf, one.remote))
        return outputs

    def _give_up(self, connection: int, reason: Refusal, now: float) -> list[Output]:
        one = self._waiting.pop(connection)
        if one is None:
            return []
        self._bindings.leave((one.vrf, one.remote))
        return self._turn_away(connection, reason, one.vrf, one.remote, now) + self._want_hops()

    def _dismiss(self, peer: Peer) -> None:
        """A dynamic neighbour whose connection is gone is none."""
        if peer.greeted and self._peers.get(peer.key) is peer and all(s.connection is None for s in peer.sessions()):
            del self._peers[peer.key]
            self._forget(peer)

    def octets(self, connection: int, octets: bytes, now: float) -> list[Output]:
        """What TCP delivered. A message that breaks the rules ends this connection; nothing that is sent raises."""
        early = self._waiting.get(connection)
        if early is not None:
            early.octets += octets
            return self._give_up(connection, Refusal.TALKS, now) if len(early.octets) > WAIT_OCTETS else []
        peer = self._connections.get(connection)
        session = peer.session(connection) if peer is not None else None
        if peer is None or session is None or not session.tcp_up:
            return []
        waiting = session.stream.backlog
        session.stream.push(octets)
        return [] if waiting else self._read(peer, session, now, TURN_OCTETS)

    def _read(self, peer: Peer, session: PeerSession, now: float, budget: int) -> list[Output]:
        """Work on what `session` received, at most `budget` octets now."""
        outputs: list[Output] = []
        stream, connection = session.stream, session.connection
        while budget > 0 and session.connection == connection and session.tcp_up:
            try:
                message = stream.pop(session.wire)
                if message is None:
                    break
                budget -= len(message)
                outputs += self._work(peer, session, message, now)
            except MessageError as error:
                outputs += self._perform(peer, peer.wrong(session, error, now), now)
            except Exception as error:
                outputs += self._contain(peer, session, error, now)
        if session.connection == connection and session.stream is stream and connection is not None:
            outputs += self._flow(peer, session, connection, now)
        self._schedule.set(peer.key, peer.deadline())
        return outputs

    def _work(self, peer: Peer, session: PeerSession, octets: bytes, now: float) -> list[Output]:
        """One whole message. Raises MessageError, or anything that is our own fault."""
        message = decode(octets, session.wire)
        session.counters.octets_received += len(octets)
        if type(message) is Update and session.state is State.ESTABLISHED:
            session.update(now)
            outputs = self._rib(self.ribs.update(peer.key, message, now), now)
            return [*outputs, *peer.faulty(message)] if message.errors else outputs
        return self._perform(peer, peer.receive(session, message, now), now)

    def _contain(self, peer: Peer, session: PeerSession, error: Exception, now: float) -> list[Output]:
        text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        outputs: list[Output] = [Log("error", "fault while working on a message", {**peer.named, "fault": text})]
        return outputs + self._perform(peer, peer.contain(session, printable(text), now), now)

    def _flow(self, peer: Peer, session: PeerSession, connection: int, now: float) -> list[Output]:
        """Take turns, and stop reading from who sends faster than we can work."""
        stream = session.stream
        if stream.backlog:
            self._mark(peer.key, now)
        if not stream.paused and len(stream) > HIGH_WATER:
            stream.paused = True
            return [PauseReading(connection)]
        if stream.paused and len(stream) < LOW_WATER:
            stream.paused = False
            return [ResumeReading(connection)]
        return []

    def blocked(self, connection: int, now: float) -> list[Output]:
        """The connection takes no more octets for now."""
        peer = self._connections.get(connection)
        session = peer.session(connection) if peer is not None else None
        if peer is not None and session is not None and session.tcp_up:
            session.blocked(now)
            self._schedule.set(peer.key, peer.deadline())
        return []

    def writable(self, connection: int, now: float) -> list[Output]:
        """The connection takes octets again."""
        peer = self._connections.get(connection)
        session = peer.session(connection) if peer is not None else None
        if peer is not None and session is not None:
            session.unblocked()
            self._mark(peer.key, now)
        return []

    # --- the bus --------------------------------------------------------------------------------------------------

    def receive(self, message: Message, now: float) -> list[Output]:
        """Rows, a Synced or a fact of what the service subscribes to."""
        outputs: list[Output] = []
        if isinstance(message, Delta):
            if message.topic is InterfaceState:
                outputs += self._interfaces(message, now)
            elif message.topic is HostPortState:
                outputs += self._host_ports(message, now)
            elif message.topic is OverlayState and not self.standalone:
                outputs += self._bind(self._bindings.assigned(message.rows), now)
            elif message.topic is NextHopState and (moved := self._bindings.routed(message.rows)):
                outputs += self._bind(moved, now)
        elif isinstance(message, Synced) and message.topic is InterfaceState:
            outputs += self._choose_identifier(now)
        return outputs + self._rib(self.ribs.receive(message, now), now)

    def _interfaces(self, delta: Delta, now: float) -> list[Output]:
        before = self._addresses.changes
        gone = self._addresses.apply(delta.rows)
        outputs: list[Output] = []
        for peer in list(self._peers.values()) if gone else ():
            for session in peer.sessions():
                if session.tcp_up and (peer.key[0], session.local) in gone:
                    # Its segments can reach neither end any more: without this, both would hang.
                    end = cease(CeaseSubcode.CONFIGURATION_CHANGE, EndReason.ADDRESS_GONE, again=True)
                    outputs += self._perform(peer, peer.stop(end, now), now)
                    break
        if not self._identifier and self._settle_at is None and self._addresses.router_id():
            self._settle_at = now + SETTLE
        if self._addresses.changes == before and update_sources(self.config).isdisjoint(delta.rows):
            return outputs  # a hub's virtual accesses come and go: no session depends on the interface of another
        return outputs + self._reconsider(now)

    def _host_ports(self, delta: Delta, now: float) -> list[Output]:
        for vrf, row in delta.rows.items():
            if row is None:
                self._ports.pop(vrf, None)
            else:
                self._ports[vrf] = row
        return self._reconsider(now)

    def _choose_identifier(self, now: float) -> list[Output]:
        """The router id, once: it stays although its address may go."""
        self._settle_at = None
        if self._identifier:
            return []
        self._identifier = self.config.router_id or self._addresses.router_id()
        if not self._identifier:
            return []
        chosen = Log("info", "router id chosen", {"router_id": format_address(self._identifier)})
        return [chosen, *self._reconsider(now)]

    # --- operators ------------------------------------------------------------------------------------------------

    def matching(self, target: bytes | int | None, vrf: str | None = None) -> list[PeerKey]:
        """The peers that `clear` means: all, those at an address, or those of an AS."""
        return [
            peer.key
            for peer in self._peers.values()
            if (vrf is None or peer.key[0] == vrf)
            and (target is None or target == (peer.key[1] if isinstance(target, bytes) else peer.config.remote_as))
        ]

    def clear(self, keys: Iterable[PeerKey], now: float) -> list[Output]:
        """Reset these sessions (6/4, Administrative Reset); they start anew at once."""
        outputs: list[Output] = []
        for key in keys:
            peer = self._peers.get(key)
            if peer is None:
                continue
            self._limited.discard(key)
            end = cease(CeaseSubcode.RESET, EndReason.RESET)
            outputs += self._perform(peer, peer.stop(end, now), now)
            if self._peers.get(key) is peer:
                outputs += self._consider(peer, now)
        return outputs

    def soft(self, keys: Iterable[PeerKey] | None, direction: str, now: float) -> list[Output]:
        """Apply policy again to what these peers sent ('in'), are sent ('out'), or 'both'. None: all peers."""
        outputs: list[Output] = []
        for key in [None] if keys is None else list(keys):
            outputs += self._rib(self.ribs.soft(key, direction, now), now)
        return outputs

    def snapshot(self) -> SpeakerSnapshot:
        peers = tuple(self._peers[key].snapshot() for key in sorted(self._peers))
        return SpeakerSnapshot(
            asn=self.config.asn,
            router_id=self._identifier,
            peers=peers,
            refused=dict(self._refusals.counts),
            refusals=dict(self._refusals.recent),
            listening=self._listeners.vrfs(),
            dynamic=sum(one.dynamic for one in peers),
            listen_limit=self.config.listen_limit,
            deferred_refreshes=self._refreshes.deferred,
        )

    # --- time -----------------------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        parts = (self.ribs, self._schedule, self._refreshes, self._listeners, self._waiting)
        times = [*(part.deadline() for part in parts), self._settle_at]
        if self._ready:
            times.append(self._ready_at)
        return min((when for when in times if when is not None), default=None)

    def wake(self, now: float) -> list[Output]:
        outputs: list[Output] = []
        for key in [*islice(self._ready, TURN_PEERS)]:
            del self._ready[key]
            peer = self._peers.get(key)
            if peer is not None:
                outputs += self._turn(peer, now)
        for key in self._schedule.due(now):
            peer = self._peers.get(key)
            if peer is not None:
                outputs += self._perform(peer, peer.wake(now), now)
        for key, family in self._refreshes.due(now):
            outputs += self._rib(self.ribs.refresh(key, family, now), now)
        due = self.ribs.deadline()
        if due is not None and due <= now:
            outputs += self._rib(self.ribs.wake(now), now)
        if self._settle_at is not None and self._settle_at <= now:
            outputs += self._choose_identifier(now)
        again = self._listeners.deadline()
        if again is not None and again <= now:
            outputs += self._listen(now)
        for connection in self._waiting.due(now):
            outputs += self._give_up(connection, Refusal.UNROUTED, now)
        return outputs + self._want_hops()

    def _mark(self, key: PeerKey, now: float) -> None:
        """`key` has octets to be worked on, or to be sent: in the next turn."""
        if not self._ready:
            self._ready_at = now
        self._ready[key] = None

    def _turn(self, peer: Peer, now: float) -> list[Output]:
        outputs: list[Output] = []
        for session in peer.sessions():
            if session.stream.backlog:
                outputs += self._read(peer, session, now, TURN_OCTETS)
        return outputs + self._pump(peer, now)

    def _pump(self, peer: Peer, now: float) -> list[Output]:
        """Routes for `peer`, as long as its connection takes them."""
        session = peer.main
        if session.state is not State.ESTABLISHED or session.choked or not self.ribs.has_outgoing(peer.key):
            return []
        messages = self.ribs.outgoing(peer.key, SEND_OCTETS)
        if not messages:
            return []  # OutgoingReady will say when there are some
        session.counters.count(session.counters.sent, "Update", len(messages))
        if self.ribs.has_outgoing(peer.key):
            self._mark(peer.key, now)
        return self._perform(peer, session.sent(b"".join(messages), now), now)

    # --- outputs --------------------------------------------------------------------------------------------------

    def _perform(self, peer: Peer, outputs: Iterable[PeerOutput], now: float) -> list[Output]:
        """What a peer wants done: its own share is done here, the rest goes out."""
        told: list[Output] = []
        for output in outputs:
            if isinstance(output, Deliver):
                told += self._deliver(peer, output, now)
            elif isinstance(output, Up):
                told += self._up(peer, now)
            elif isinstance(output, Down):
                told += self._down(peer, output, now)
            else:
                if isinstance(output, Connect):
                    self._connections[output.connection] = peer
                elif isinstance(output, Close):
                    self._connections.pop(output.connection, None)
                told.append(output)
        self._schedule.set(peer.key, peer.deadline())
        if peer.dynamic:
            self._dismiss(peer)
        return told

    def _up(self, peer: Peer, now: float) -> list[Output]:
        view = peer.view()
        peer.faults_logged = 0
        fact = PeerUp(
            vrf=view.vrf,
            address=peer.key[1],
            asn=view.asn,
            router_id=view.router_id,
            local=view.local,
            families=frozenset((int(afi), int(safi)) for afi, safi in view.families),
            dynamic=peer.dynamic,
        )
        told: list[Output] = [Post(fact)]
        if self.config.log_neighbor_changes:
            told.append(Log("info", "neighbor up", peer.named))
        told += self._rib(self.ribs.peer_up(view, now), now)
        self._mark(peer.key, now)
        return told

    def _down(self, peer: Peer, down: Down, now: float) -> list[Output]:
        end = down.end
        if not down.established:
            return [Log("debug", "no session", {**peer.named, "reason": str(end)})]
        self._refreshes.forget(peer.key)
        # RFC 4724 4.2 is about sessions that break; one that ends by a NOTIFICATION ends as RFC 4271 has it.
        graceful = self.config.graceful_restart and end.notification is None and not peer.dynamic
        leave = self.ribs.peer_lost if graceful else self.ribs.peer_down
        told = self._rib(leave(peer.key, end.reason.value, now), now)
        told.append(Post(PeerDown(peer.key[0], peer.key[1], peer.config.remote_as, end.reason.value, str(end))))
        if self.config.log_neighbor_changes:
            told.append(Log("info", "neighbor down", {**peer.named, "reason": str(end)}))
        return told

    def _deliver(self, peer: Peer, output: Deliver, now: float) -> list[Output]:
        message = output.message
        if isinstance(message, Update):
            told = self._rib(self.ribs.update(peer.key, message, now), now)
            return [*told, *peer.faulty(message)] if message.errors else told
        return self._refresh(peer, message, now)

    def _refresh(self, peer: Peer, message: RouteRefresh, now: float) -> list[Output]:
        """RFC 2918 4: a family that was not negotiated is ignored. RFC 7313 5: so is a subtype that nobody knows, and, as
        we do not offer that capability, any but the plain request."""
        agreement = peer.main.agreement
        if agreement is None or message.family not in agreement.families:
            return []
        if message.subtype != RefreshSubtype.REQUEST or not self._refreshes.ask(peer.key, message.family, now):
            return []
        return self._rib(self.ribs.refresh(peer.key, message.family, now), now)

    def _rib(self, outputs: Iterable[RibOutput], now: float) -> list[Output]:
        """What the tables want done."""
        told: list[Output] = []
        for output in outputs:
            if isinstance(output, Publish) and output.topic is NextHopWanted:
                if rows := self._bindings.wants.of_tables(output.rows):
                    told.append(Publish(NextHopWanted, "", rows))
            elif isinstance(output, OutgoingReady):
                if output.key in self._peers:
                    self._mark(output.key, now)
            elif isinstance(output, NotifyPeer):
                told += self._notify(output, now)
            elif isinstance(output, RequestRefresh):
                peer = self._peers.get(output.key)
                if peer is not None and peer.established and peer.view().refresh:
                    told += self._perform(peer, peer.main.send(RouteRefresh(output.family), now), now)
            else:
                told.append(output)
        return told

    def _notify(self, output: NotifyPeer, now: float) -> list[Output]:
        peer = self._peers.get(output.key)
        if peer is None or not peer.established:
            return []
        notification = Notification(output.code, output.subcode, output.data)
        told = self._perform(peer, peer.notify(notification, EndReason.ROUTES, output.reason, now), now)
        if (output.code, output.subcode) == (ErrorCode.CEASE, CeaseSubcode.MAXIMUM_PREFIXES):
            self._limited.add(peer.key)
            told += self._consider(peer, now)
        return told
