"""All IKE SAs of a node: which datagram is for which, who is let in, whom to call, and what that means for the others.

Sans-IO, as all engines here: every call gives `now` and returns what is to be done, in order. The parts: `admission`
(strangers), `profiles` and `directory` (what IKE SAs ask), `wants` and `calls` (whom to call), `lifecycle` (what follows
from what IKE SAs say), `kept` (what a crash leaves).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ikev2.config import Ikev2Config
from ikev2.engine.access import is_access, is_template
from ikev2.engine.admission import Admission, Cookies, Verdict, glance
from ikev2.engine.calls import Calls
from ikev2.engine.contract import Closed, Ends, Grant, Refusal
from ikev2.engine.contract import Log as SaLog
from ikev2.engine.contract import Output as SaOutput
from ikev2.engine.directory import NodeDirectory
from ikev2.engine.kept import Kept, inherit, keep
from ikev2.engine.lifecycle import Lifecycle, init_digest
from ikev2.engine.node import MAX_PEERS, Node
from ikev2.engine.outputs import Output, RemoveInbound, RemoveOutbound, Send, SyncedOut
from ikev2.engine.peers import Peer
from ikev2.engine.profiles import Profiles
from ikev2.engine.sa import IkeSa, State
from ikev2.engine.snapshot import SpeakerSnapshot
from ikev2.engine.snapshots import speaker_snapshot
from ikev2.engine.wants import Wants
from ikev2.pki.errors import TrustpointError
from ikev2.pki.trustpoint import Material
from ikev2.wire import Exchange, Header, Message, Notify, NotifyKind, decode, encode, split_header
from stack.events import (
    AccessWanted,
    AddressOffered,
    BindingOffered,
    Delta,
    EndpointOffered,
    Interface,
    InterfaceState,
    OverlayState,
    PolicyState,
    ProtectedRow,
    RouteOffered,
    SaKey,
    SaMoved,
    SaRequest,
    SaSoft,
    SaState,
    SaUnknown,
    SaWanted,
    Synced,
    Topic,
    TunnelProtected,
)
from stack.tables.sad import Bundle, Sa
from stack.wire import WireError

__all__ = ["PRODUCED", "Speaker"]

PRODUCED: tuple[Topic[Any, Any], ...] = (
    SaState,
    AccessWanted,
    AddressOffered,
    RouteOffered,
    BindingOffered,
    EndpointOffered,
    OverlayState,
)

CHECK_EVERY = 10.0
"""Seconds between two questions whether a peer lives, because of packets that make no sense."""

RESYNC_AFTER = 10.0
"""Seconds after a restart in which those who want SAs say so again; what is inherited and then has no tunnel goes."""

_MARKER = bytes(4)
_NAT_PORT = 4500
_ZERO_SPI = bytes(8)


class Speaker:
    """`epoch`: seconds since 1970 when the clock showed 0. `materials`: trust points as they were loaded. `authorises`: an
    embedder is asked who may come in. `key_log`: say the keys of IKE SAs (`Keyed`). `kept`, `inbound`, `bundles`: what an
    earlier incarnation has left, and the SAD."""

    def __init__(
        self,
        config: Ikev2Config,
        entropy: Callable[[int], bytes],
        *,
        epoch: float = 0.0,
        materials: Mapping[str, Material | TrustpointError] | None = None,
        authorises: bool = False,
        key_log: bool = False,
        kept: Kept | None = None,
        inbound: Mapping[int, Sa] | None = None,
        bundles: Iterable[Bundle] = (),
    ) -> None:
        node = self.node = Node(
            config,
            entropy,
            epoch,
            Profiles(config, materials or {}),
            Admission(config, Cookies(entropy)),
            Wants(entropy),
            authorises,
            key_log,
        )
        node.profiles.addresses = node.addresses
        node.pools.configure(config.pools)
        self.kept = kept if kept is not None else Kept()
        self._sad = (dict(inbound or {}), list(bundles))
        self._heard: set[Topic[Any, Any]] = set()
        self.directory = NodeDirectory(node)
        self.lifecycle = Lifecycle(node, self.directory, self.kept)
        self.calls = Calls(node, self.directory, self.lifecycle)

    # --- life -----------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> list[Output]:
        """Take over what flows, say what stands, and that this is all."""
        node = self.node
        node.now = now
        inbound, bundles = self._sad
        self._sad = ({}, [])
        for spi in inherit(node, self.kept, inbound, bundles):
            node.put(RemoveInbound(spi))
        for bundle in bundles:
            if bundle.outbound is not None and node.carriers.current(bundle.key) is None:
                node.put(RemoveOutbound(bundle.key, bundle.outbound.spi))
        if node.peers:
            node.timers.set(("resync", 0), now + RESYNC_AFTER)
        before, self.kept.profiles = self.kept.profiles, node.profiles
        if before is not None:
            self._let_go_of_others(before, files=False)
        self.kept.pools = node.pools
        node.number_from(self.kept.numbers)
        node.inherited = self.kept.discards
        for fault in node.profiles.faults():
            node.log("configuration that is not used", "warning", reason=fault)
        for profile in node.config.profiles.values():
            if reason := node.profiles.reason(profile):
                node.log("an IKE profile cannot be used", "warning", profile=profile.name, reason=reason)
        return [*self._done(), *(SyncedOut(topic) for topic in PRODUCED)]

    def stop(self, now: float) -> list[Output]:
        """Say DELETE to all. `stopped` tells when that has been heard, or given up."""
        self.node.now, self.node.stopping = now, True
        for peer in list(self.node.peers.values()):
            if peer.sas and peer.established is None:
                self.lifecycle.abandon(peer, "we stop")
            else:
                self.lifecycle.close(peer, "we stop")
        return self._done()

    def forget(self, now: float) -> list[Output]:
        """The time for good-byes is over: nothing of any peer is left."""
        self.node.now = now
        for peer in list(self.node.peers.values()):
            peer.lingers = False
            self.lifecycle.abandon(peer, "we stop")
        self.lifecycle.remove_lingering()
        return self._done()

    def set_epoch(self, epoch: float) -> None:
        """The wall clock may be set while we run."""
        self.node.epoch = epoch

    @property
    def stopped(self) -> bool:
        return not self.node.peers

    def deadline(self) -> float | None:
        node = self.node
        times = [node.timers.deadline(), node.admission.deadline()]
        if not node.stopping:
            times.append(node.wants.deadline())
        return min((time for time in times if time is not None), default=None)

    def wake(self, now: float) -> list[Output]:
        node = self.node
        node.now = now
        for number in node.admission.expired(now):
            node.admission.count("half-open SAs that came to nothing")
            if (peer := node.peers.get(number)) is not None:
                self.lifecycle.abandon(peer, "the peer has not proved itself in time")
            node.admission.closed(number)
        while (due := node.timers.due(now)) is not None:
            self._due(due, now)
        return self._done()

    def _due(self, due: Any, now: float) -> None:
        if isinstance(due, IkeSa):
            entry = self.node.ike_spis.get(due.spi_own)
            if entry is not None:
                self.lifecycle.drive(entry[0], due, lambda: due.wake(now))
            return
        kind, number = due
        if kind == "spi":
            self.lifecycle.remove_spi(number)
        elif kind == "drop":
            self.lifecycle.drop_superseded(number)
        elif kind == "resync":
            self._resync()
        elif (peer := self.node.peers.get(number)) is None:
            pass
        elif kind == "inherited":
            self.lifecycle.end(peer, Closed("its lifetime is over", established=True))
        elif not peer.children:
            self.lifecycle.close(peer, "no CHILD_SA")

    def _done(self) -> list[Output]:
        self.lifecycle.settle()
        while self.node.doubts:
            peer = self.node.peers.get(self.node.doubts.popitem()[0])
            if peer is not None and peer.sas and not peer.closing:
                self._check(peer, "another peer would take its place")
        if not self.node.stopping:
            for want in self.node.wants.due(self.node.now):
                self.calls.call(want)
        self.kept.numbers = self.node.last_number
        outputs = self.node.flush()
        self.kept.discards = self.node.discards
        return outputs

    # --- datagrams --------------------------------------------------------------------------------------------------------

    def datagram(self, octets: bytes, ends: Ends, now: float) -> list[Output]:
        """From port 500 or 4500 (there with the non-ESP marker)."""
        node = self.node
        node.now = now
        if ends.local_port == _NAT_PORT:
            if not octets.startswith(_MARKER):
                node.admission.count("no IKE message")
                return []
            octets = octets[4:]
        try:
            header = split_header(octets)
        except WireError:
            node.admission.count("shorter than a header")
            return []
        self._header(header, octets, ends)
        return self._done()

    def _header(self, header: Header, octets: bytes, ends: Ends) -> None:
        node = self.node
        # RFC 7296 3.1: the initiator flag says whose SPI is whose.
        own = header.responder_spi if header.initiator else header.initiator_spi
        entry = node.ike_spis.get(own) if own != _ZERO_SPI else None
        if header.version >> 4 != 2:
            # Nobody has proved to be the sender, so nothing is answered (RFC 7296 2.21.1), but for a newer version (2.5).
            self._other_version(header, ends)
        elif entry is not None:
            self._hand_over(*entry, octets, ends)
        elif self._stranger(header):
            self._init(header, octets, ends)
        elif self._outside(header):
            self._invalid_spi(octets, ends)
        else:
            self._unknown(header, ends)

    def _hand_over(self, peer: Peer, sa: IkeSa, octets: bytes, ends: Ends) -> None:
        message, now = self._decoded(octets), self.node.now
        if message is not None:
            known = message
            self.lifecycle.drive(peer, sa, lambda: sa.receive(octets, known, ends, now))

    def _decoded(self, octets: bytes) -> Message | None:
        try:
            return decode(octets)
        except WireError as error:
            self.node.admission.count(f"malformed: {error.field}")
            return None

    def _stranger(self, header: Header) -> bool:
        return (
            header.exchange == Exchange.IKE_SA_INIT
            and header.initiator
            and not header.response
            and header.responder_spi == _ZERO_SPI
        )

    def _outside(self, header: Header) -> bool:
        """RFC 7296 1.5: INVALID_SPI outside of an IKE SA is a request whose SPIs mean nothing. It is not answered."""
        return (
            header.exchange == Exchange.INFORMATIONAL
            and header.initiator
            and not header.response
            and header.responder_spi == _ZERO_SPI
        )

    def _invalid_spi(self, octets: bytes, ends: Ends) -> None:
        """A peer that we send ESP to says that it has no such SA. Anybody may say so: it only makes us ask."""
        node = self.node
        node.admission.count("INVALID_SPI outside of an IKE SA")
        message = self._decoded(octets) if node.at(ends) else None
        for notify in message.payloads if message is not None else ():
            if not isinstance(notify, Notify) or notify.kind != NotifyKind.INVALID_SPI or len(notify.octets) != 4:
                continue
            numbers = node.carriers.by_spi(int.from_bytes(notify.octets))
            for peer in [node.peers[number] for number in numbers]:
                if peer.place == (ends.vrf, ends.remote):
                    self._ask(peer, "INVALID_SPI")

    def _init(self, header: Header, octets: bytes, ends: Ends) -> None:
        node = self.node
        digest = init_digest(octets, ends)
        peer = node.peers.get(node.inits.get(digest, 0))
        if peer is not None and peer.sas:
            self._hand_over(peer, peer.sas[0], octets, ends)
            return
        if node.stopping:
            return
        if header.initiator_spi in node.ike_spis:
            # Our own IKE_SA_INIT comes back. With a key that both ends share we would prove to ourselves that we are the peer.
            node.admission.count("our own IKE_SA_INIT")
            return
        seen = glance(octets)
        if seen is None or header.message_id or header.length != len(octets):
            node.admission.count("malformed: IKE_SA_INIT")
            return
        cookie, nonce = seen
        spi, admission = header.initiator_spi, node.admission
        match admission.admit(cookie, nonce, ends.where, spi, len(node.peers), node.now):
            case Verdict.CHALLENGE:
                wanted = admission.cookies.make(nonce, ends.where, spi, node.now)
                self._without_state(header, Notify(NotifyKind.COOKIE, wanted), ends)
            case Verdict.ACCEPT if len(node.peers) >= MAX_PEERS:
                admission.count("too many SAs")
            case Verdict.ACCEPT:
                if (message := self._decoded(octets)) is not None:
                    self._respond(message, octets, ends, digest)

    def _turned_away(self, peer: Peer, said: SaLog) -> None:
        """Anybody can have us say this, as often as he likes: it is remembered for `show`, and logged only by `debug`."""
        node = self.node
        if said.event != "another group asked for":
            node.refusals.note(peer.remote, "", "", f"{said.event}: {said.fields.get('reason', '')}", node.now)
        node.log(said.event, "debug", **{**node.describe(peer), **said.fields})

    def _respond(self, message: Message, octets: bytes, ends: Ends, digest: bytes) -> None:
        """A stranger is given state, for half a minute."""
        node = self.node
        peer = Peer(node.number(), ends, initiator=False, since=node.now, init=digest)
        node.enter(peer)
        made = self.calls.make(
            peer,
            lambda: IkeSa.respond(
                peer.number, ends, self.directory, octets, message, node.entropy, node.settings, node.now
            ),
        )
        if made is None:
            return
        sa, outputs = made
        if sa is None:
            for output in outputs:
                if isinstance(output, Send):
                    node.put(output)
                elif isinstance(output, SaLog):
                    self._turned_away(peer, output)
            node.admission.count("IKE_SA_INIT refused")
            node.leave(peer)
            for spi in peer.reserved:
                node.esp_spis.pop(spi, None)
            return
        node.count("accepted")
        node.inits[digest] = peer.number
        node.admission.opened(peer.number, ends.where, node.now)
        self.calls.begin(peer, sa, outputs)

    def _unknown(self, header: Header, ends: Ends) -> None:
        """RFC 7296 1.5, 2.21.4: a request with SPIs that are not ours may be answered with INVALID_IKE_SPI, in the clear and
        not often; a response must not be."""
        node = self.node
        if header.response:
            node.admission.count("response without an IKE SA")
        elif node.admission.complain("unknown IKE SPI", node.now):
            self._without_state(header, Notify(NotifyKind.INVALID_IKE_SPI), ends)

    def _other_version(self, header: Header, ends: Ends) -> None:
        if header.version >> 4 < 2:
            self.node.admission.count("IKEv1")
        elif not header.response and self.node.admission.complain("another major version", self.node.now):
            self._without_state(header, Notify(NotifyKind.INVALID_MAJOR_VERSION), ends)

    def _without_state(self, header: Header, notify: Notify, ends: Ends) -> None:
        message = Message(
            header.initiator_spi,
            header.responder_spi,
            header.exchange,
            header.message_id,
            initiator=not header.initiator,
            response=True,
            payloads=(notify,),
        )
        self._send(encode(message), ends)

    def _send(self, octets: bytes, ends: Ends) -> None:
        self.node.put(Send(_MARKER + octets if ends.local_port == _NAT_PORT else octets, ends))

    # --- the bus ----------------------------------------------------------------------------------------------------------

    def receive(self, message: Any, now: float) -> list[Output]:
        """A batch of rows or a fact from the bus."""
        self.node.now = now
        match message:
            case Delta(topic, owner, _, _, rows):
                self._rows(topic, owner, rows)
            case Synced(topic):
                self._heard.add(topic)
                if topic is InterfaceState:
                    self.node.inherited, self.node.unsure = frozenset(), True
            case SaSoft(spi, inbound):
                self._soft(spi, inbound)
            case SaMoved(spi, remote, port):
                self._sa_moved(spi, remote, port)
            case SaUnknown():
                self._sa_unknown(message)
        return self._done()

    def _rows(self, topic: Topic[Any, Any], owner: str, rows: Mapping[Any, Any]) -> None:
        if topic is SaWanted:
            for key, request in rows.items():
                self._wanted(key, owner, request)
        elif topic is TunnelProtected:
            for name, row in rows.items():
                self._protected(name, row)
        elif topic is InterfaceState:
            for name, row in rows.items():
                self._interface(name, row)
        elif topic is PolicyState:
            lists = {name: row for (kind, name), row in rows.items() if kind == "access-list"}
            for name, row in lists.items():
                if row is None:
                    self.node.access_lists.pop(name, None)
                else:
                    self.node.access_lists[name] = row
            if lists:
                for peer in list(self.node.living):
                    self.lifecycle.refresh(peer)

    def _wanted(self, key: SaKey, owner: str, request: SaRequest | None) -> None:
        node = self.node
        if request is None:
            gone = node.wants.take(key, owner)
            if gone is None:
                return
            node.touch(key)
            for peer in node.called(key):
                # What the peer has begun is the peer's to end, while the tunnel stands.
                self._let_go(peer, "no longer wanted")
            keep(node, self.kept, node.bearer(key))
            return
        want, changed = node.wants.put(key, owner, request)
        node.unsure |= request.vrf not in node.fronts
        if not changed:
            return
        node.touch(key)
        want.passive = False
        for peer in node.called(key):
            if not self._still(peer, request):
                self._let_go(peer, "something else is wanted")
        if node.carried(key):
            node.wants.satisfied(want)
        keep(node, self.kept, node.bearer(key))
        # What flows by an SA of an earlier incarnation cannot be rekeyed by anybody, so it is made anew at once.
        node.wants.soon(want)

    def _still(self, peer: Peer, request: SaRequest) -> bool:
        return (
            (peer.ends.vrf, peer.ends.local) == (request.vrf, request.local)
            and (peer.remote == request.remote or bool(peer.children))
            and peer.ipsec == (self.node.protection(peer.key, request) if peer.key is not None else request.profile)
        )

    def _let_go(self, peer: Peer, reason: str) -> None:
        if peer.sas and peer.established is None and peer.sa.state is State.AUTH:
            peer.doomed = reason
            if peer.key is not None and (want := self.node.wants.get(peer.key)) is not None and want.ike == peer.number:
                self.node.wants.landed(want)
        elif peer.sas and peer.established is None:
            self.lifecycle.abandon(peer, reason)
        else:
            self.lifecycle.close(peer, reason)

    def _protected(self, name: str, row: ProtectedRow | None) -> None:
        node = self.node
        before = node.protected.get(name)
        if row == before or is_access(name):
            # What is said of a clone follows from what we have said: it moves with its peer, and goes with it.
            return
        if row is None:
            del node.protected[name]
        else:
            node.protected[name] = row
        node.unsure = True
        if before is not None:
            for number in list(node.by_interface.get(name, ())):
                self._let_go(node.peers[number], "the tunnel's protection has changed")
        elif row is not None and row.negotiated:
            for peer in node.called(SaKey(name)):
                # Rows of two topics come in any order: it was begun before it was known that an address is to be asked for.
                if peer.sas and not peer.asks_address:
                    self._let_go(peer, "an address is to be asked for")
        self._again(name)

    def _again(self, name: str) -> None:
        """What is wanted of this interface, and is not there, may be possible now."""
        for want in self.node.wants:
            if want.key.interface == name and not want.up:
                want.passive = False
                self.node.wants.soon(want)

    def _template(self, name: str, before: Interface | None) -> None:
        """Something has changed at a virtual template."""
        node = self.node
        after = node.interfaces.get(name)
        if before is not None and after is not None and before.row.protection == after.row.protection:
            return
        for want in node.wants:
            if want.key.interface == name:
                for peer in node.called(want.key):
                    if after is not None and not self._still(peer, want.request):
                        self._let_go(peer, "the template's protection has changed")
        self._again(name)

    def _interface(self, name: str, interface: Interface | None) -> None:
        node = self.node
        before = node.interfaces.get(name)
        node.learn(name, interface)
        if interface is None:
            node.received.pop(name, None)
        if not is_access(name):
            node.unsure = True
        if before is not None:
            gone = {(before.vrf, address) for address in before.addresses} - node.own.keys()
            lost = (
                [other for other in node.peers.values() if (other.ends.vrf, other.ends.local) in gone] if gone else []
            )
            for other in lost:
                # Nothing can be sent from there any more, a DELETE neither; and the peer takes the next one for the same.
                self.lifecycle.abandon(other, "the address is no longer ours")
        if is_template(name):
            self._template(name, before)
        numbers = set(node.by_interface.get(name, ()))
        if interface is not None and not is_access(name):
            # What is announced may be another interface's addresses.
            numbers |= {peer.number for peer in node.living if self._announces(peer, name)}
        for number in numbers:
            if (peer := node.peers.get(number)) is not None:
                self.lifecycle.refresh(peer)

    def _announces(self, peer: Peer, name: str) -> bool:
        """Whether the addresses of interface `name` are what `peer` is told, or borrowed by what is."""
        policy = peer.policy
        if policy is None or policy.route_set_interface is None:
            return False
        told = policy.route_set_interface or peer.interface
        interface = self.node.interfaces.get(told)
        return told == name or (interface is not None and interface.row.unnumbered == name)

    def _resync(self) -> None:
        """All that is wanted and protected has been told again: what is inherited and belongs to nothing of it goes. (A change
        while we were away is told to nobody as a change.)"""
        node = self.node
        inherited = [peer for peer in node.peers.values() if peer.number < 0 and not peer.sas]
        if not self._heard.issuperset((TunnelProtected, SaWanted)):
            again = bool(inherited or node.expected)
            node.timers.set(("resync", 0), node.now + RESYNC_AFTER if again else None)
            return
        for key in node.expected:
            node.touch(key)
        node.expected.clear()
        for peer in inherited:
            row = node.protected.get(peer.interface)
            if is_access(peer.interface):
                # It follows from what we say, and goes with its peer; or with who wanted it, if we have called that.
                if peer.initiator and peer.key is not None and node.wants.get(peer.key) is None:
                    self._let_go(peer, "no longer wanted")
            elif row is None or (row.profile, row.local, row.vrf) != (peer.ipsec, peer.ends.local, peer.ends.vrf):
                self._let_go(peer, "the tunnel's protection has changed")
            elif peer.initiator and peer.key is not None and node.wants.get(peer.key) is None:
                self._let_go(peer, "no longer wanted")

    # --- the packet path's reports ----------------------------------------------------------------------------------------

    def _soft(self, spi: int, inbound: bool) -> None:
        """An SA has carried as much as it should: rekey its CHILD_SA."""
        node = self.node
        numbers = [node.esp_spis.get(spi, 0)] if inbound else node.carriers.by_spi(spi)
        for peer in [node.peers[number] for number in numbers if number in node.peers]:
            for child in list(peer.children.values()):
                sa = child.inbound if inbound else child.outbound
                if sa.spi == spi and peer.sas and not peer.closing:
                    self._rekey(peer, child.number)

    def _rekey(self, peer: Peer, number: int) -> None:
        sa, now = peer.sa, self.node.now
        self.lifecycle.drive(peer, sa, lambda: sa.rekey_child(number, now, "volume"))

    def _sa_moved(self, spi: int, remote: bytes, port: int) -> None:
        node = self.node
        peer = node.peers.get(node.esp_spis.get(spi, 0))
        if peer is not None and peer.sas and not peer.closing:
            sa = peer.sa
            self.lifecycle.drive(peer, sa, lambda: sa.moved(remote, port, node.now))

    def _sa_unknown(self, said: SaUnknown) -> None:
        """Somebody there believes in an SA that we do not have. It is not proved, so it only makes us ask; or if we know
        nobody there, say so, as after a restart."""
        node = self.node
        node.count("ESP with an unknown SPI")
        ends = Ends(said.local, said.remote, vrf=said.vrf)
        known = node.at(ends)
        for peer in known:
            self._ask(peer, "unknown SPI")
        if known or node.stopping or len(said.remote) != 4 or not node.admission.complain("unknown ESP SPI", node.now):
            return
        # RFC 7296 1.5: the SPIs may be zero or random, the initiator flag is set and the response flag is not.
        notify = Notify(NotifyKind.INVALID_SPI, said.spi.to_bytes(4))
        message = Message(node.entropy(8), _ZERO_SPI, Exchange.INFORMATIONAL, 0, True, False, (notify,))
        self._send(encode(message), ends)

    def _ask(self, peer: Peer, why: str) -> None:
        """Now and then, whether it is still there."""
        node = self.node
        fit = bool(peer.sas) and not peer.closing and peer.sa.state is State.ESTABLISHED
        if fit and node.now - peer.checked >= CHECK_EVERY:
            peer.checked = node.now
            self._check(peer, why)

    def _check(self, peer: Peer, why: str) -> None:
        sa, now = peer.sa, self.node.now
        self.lifecycle.drive(peer, sa, lambda: sa.check_alive(now, why))

    # --- the embedder and the operator ------------------------------------------------------------------------------------

    def authorised(self, number: int, answer: Grant | Refusal, now: float) -> list[Output]:
        """The answer to `Authorise`. A grant may bring an address (INTERNAL_IP4_ADDRESS) and more attributes."""
        node = self.node
        node.now = now
        peer = node.peers.get(number)
        if peer is None or not peer.asking or peer.request is None:
            return self._done()
        peer.asking = False
        request, peer.request = peer.request, None
        sa = peer.sa

        def decide() -> list[SaOutput]:
            # What an embedder gives may be anything; what comes of that is this peer's misfortune alone.
            final = self.directory.granted(peer, request, answer) if isinstance(answer, Grant) else answer
            return sa.granted(final, now)

        self.lifecycle.drive(peer, sa, decide)
        return self._done()

    def reconfigure(
        self, config: Ikev2Config, materials: Mapping[str, Material | TrustpointError], now: float
    ) -> list[Output]:
        """SAs whose profile or what it names has changed are ended, and begin anew; so are those of peers whose certificate
        has been revoked. The others stay."""
        node = self.node
        node.now = now
        before = node.profiles
        node.config = config
        node.profiles = self.kept.profiles = Profiles(config, materials, node.addresses)
        node.admission.config = config
        node.pools.configure(config.pools)
        node.unsure = True
        self._let_go_of_others(before)
        for peer in list(node.living):
            if reason := node.profiles.distrust(peer.profile, peer.certificate, node.epoch + now):
                node.count("revoked")
                self._let_go(peer, reason)
        for want in node.wants:
            want.passive = False
            if not want.up:
                want.attempts = 0
                node.wants.soon(want)
        return self._done()

    def _let_go_of_others(self, before: Profiles, *, files: bool = True) -> None:
        """Peers that rest on something that is not in the configuration as it was, inherited ones too."""
        now = self.node.profiles
        for peer in list(self.node.peers.values()):
            names = peer.profile, peer.ipsec
            if before.footprint(*names, files=files) != now.footprint(*names, files=files):
                self._let_go(peer, "the configuration has changed")

    def clear(self, now: float, *, remote: bytes = b"", number: int = 0) -> tuple[int, list[Output]]:
        """`clear crypto ikev2 sa`, `clear crypto session [remote A]`: how many IKE SAs it meant."""
        node = self.node
        node.now = now
        meant = [
            peer
            for peer in node.peers.values()
            if (not remote or peer.remote == remote) and (not number or peer.number == number)
        ]
        for peer in meant:
            self._let_go(peer, "cleared by the operator")
        return len(meant), self._done()

    def snapshot(self, now: float, wall: float) -> SpeakerSnapshot:
        return speaker_snapshot(self.node, now, wall)
