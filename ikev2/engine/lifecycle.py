"""What follows from what IKE SAs say: the SAD, SaState, virtual access, the overlay, duplicates, and the end of it all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import partial

from attrs import define, field

from ikev2.config import RouteAccept
from ikev2.engine import contract as say
from ikev2.engine.authorise import own_addresses
from ikev2.engine.directory import NodeDirectory
from ikev2.engine.identities import identity_text
from ikev2.engine.kept import Kept, keep
from ikev2.engine.node import Node
from ikev2.engine.outputs import PutInbound, PutOutbound, RemoveInbound
from ikev2.engine.overlay import Overlay as OverlayOf
from ikev2.engine.overlay import addresses_of, announced, identity_rows, overlay_rows, subnet_attributes
from ikev2.engine.peers import Child, Peer
from ikev2.engine.sa import IkeSa, State
from ikev2.engine.wants import Want
from ikev2.events import ChildSaDown, ChildSaUp, IkeSaDown, IkeSaUp, PeerMoved, PeerRefused, Rekeyed
from stack.addr import Prefix, format_address
from stack.claims import Slot
from stack.events import AccessWanted, SaKey

__all__ = ["CHILDLESS", "COLLISION", "LINGER", "SUPERSEDED", "Lifecycle"]

LINGER = 5.0
"""Seconds that inbound SAs of a peer that another has replaced still take what is in flight."""

COLLISION, SUPERSEDED, NEVER_DELETED = 2.0, 5.0, 60.0
"""Seconds until one of two IKE SAs of one neighbour is deleted: after both ends started at once, by the initiator whose SA it
is; one that a newer one replaces; one that its initiator should have deleted and did not."""

CHILDLESS = 120.0
"""Seconds that an IKE SA may be without a CHILD_SA."""

MAX_CHILDLESS = 16
"""IKE SAs without a CHILD_SA that one identity may have; the oldest ends."""

SOONEST = 0.001
"""Seconds between two turns of one IKE SA."""

UNLIKELY = 30.0
"""Seconds before what will hardly go better is tried again."""

FRESH, OUTLIVES = 2.0, 5.0
"""A peer that does not answer but whose ESP has come within `FRESH` seconds has lost its IKE SAs, as when its IKEv2 was
restarted: its CHILD_SAs have `OUTLIVES` seconds until a new IKE SA must have replaced them."""

FLEXVPN_SUPPORTED = b"FLEXVPN-SUPPORTED"

_REPLY = 2
_SUBNETS = (13, 15)


@define(eq=False)
class Lifecycle:
    node: Node
    directory: NodeDirectory
    kept: Kept
    _depth: int = 0
    _after: list[Callable[[], None]] = field(factory=list)

    # --- running an IKE SA --------------------------------------------------------------------------------------------

    def drive(self, peer: Peer, sa: IkeSa, call: Callable[[], Iterable[say.Output]]) -> None:
        """Let `sa` do something, and do what it says. What it raises is a fault of ours, and ends that IKE SA alone."""
        node = self.node
        before, node.active = node.active, peer
        self._depth += 1
        try:
            for output in self._spared(peer, list(call())):
                self._perform(peer, sa, output)
            if sa.spi_own in peer.spis:
                self._rearm(sa)
            if peer.sas and peer.ends != peer.sa.ends:
                node.relocate(peer, peer.sa.ends)
        except Exception as error:
            self.broken(peer, error)
        finally:
            self._depth -= 1
            node.active = before
        self.settle()

    def settle(self) -> None:
        """Do what was put off until an IKE SA has had its say."""
        while not self._depth and self._after:
            self._after.pop(0)()

    def broken(self, peer: Peer, error: Exception) -> None:
        # Only the type and the place: a message may have a key in it.
        trace, place = error.__traceback__, ""
        while trace is not None:
            place = f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
            trace = trace.tb_next
        self.node.count("broken")
        self.node.log("an IKE SA failed", "error", **self.node.describe(peer), error=type(error).__name__, place=place)
        self.end(peer, say.Closed("internal failure", established=peer.established is not None))

    def register(self, peer: Peer, sa: IkeSa) -> None:
        if sa not in peer.sas:
            peer.sas.append(sa)
        peer.spis.add(sa.spi_own)
        self.node.ike_spis[sa.spi_own] = (peer, sa)
        self._rearm(sa)

    def _rearm(self, sa: IkeSa) -> None:
        when = sa.deadline()
        # One that is due again at once must not keep all others from their turn.
        self.node.timers.set(sa, None if when is None else max(when, self.node.now + SOONEST))

    def _forget(self, peer: Peer, sa: IkeSa) -> None:
        if sa in peer.sas:
            peer.sas.remove(sa)
        peer.spis.discard(sa.spi_own)
        self.node.ike_spis.pop(sa.spi_own, None)
        self.node.timers.set(sa, None)

    def _perform(self, peer: Peer, sa: IkeSa, output: say.Output) -> None:
        node = self.node
        match output:
            case say.Send() | say.Keyed():
                node.put(output)
            case say.Log():
                node.log(output.event, output.level, **{**node.describe(peer), **output.fields})
            case say.PutInbound(esp):
                peer.inbound.add(esp.spi)
                node.esp_spis[esp.spi] = peer.number
                node.timers.set(("spi", esp.spi), None)
                node.put(PutInbound(esp))
            case say.PutOutbound(esp):
                if (before := node.carriers.put(peer.number, esp)) is not None:
                    peer.outbound.discard((esp.key, before))
                peer.outbound.add((esp.key, esp.spi))
                node.vacant.pop(esp.key, None)
                node.put(PutOutbound(esp))
                self._carried(peer, esp.key)
            case say.RemoveInbound(spi):
                self._remove_inbound(peer, spi)
            case say.RemoveOutbound(key, spi):
                self._remove_outbound(peer, key, spi)
            case say.ChildUp():
                self._child_up(peer, output)
            case say.Denied():
                self.refused(peer, output.reason)
            case say.ChildDown():
                self._child_down(peer, output)
            case say.Established():
                self._established(peer, output)
            case say.Configured():
                self._configured(peer, output)
            case say.Moved(ends):
                self._moved(peer, ends)
            case say.Rekeyed(successor):
                self._rekeyed(peer, successor)
            case say.Spawned(other):
                self.register(peer, other)
                peer.sas.remove(other)
                peer.sas.insert(0, other)
            case say.Doubted():
                self._doubted(peer)
            case say.Closed():
                self._closed(peer, sa, output)

    # --- IKE SAs ------------------------------------------------------------------------------------------------------

    def _established(self, peer: Peer, said: say.Established) -> None:
        node = self.node
        peer.identity, peer.text = said.identity, identity_text(said.identity)
        peer.certificate = said.certificate
        peer.profile = peer.profile or peer.sa.snapshot().profile
        peer.holder = node.profiles.holder(peer.profile, (peer.ends.vrf, peer.home), said.identity, said.certificate)
        peer.flexvpn = FLEXVPN_SUPPORTED in said.vendor_ids
        node.admission.closed(peer.number)
        node.proved(peer)
        node.count("established")
        self._policy(peer)
        node.timers.set(("childless", peer.number), node.now + CHILDLESS)
        if not peer.initiator:
            self._after.append(partial(self._few_childless, peer))
        node.log("IKE SA is up", **node.describe(peer), initiator=peer.initiator)
        node.post(IkeSaUp(peer.number, peer.ends.local, peer.remote, peer.text, peer.profile, initiator=peer.initiator))
        if said.initial_contact:
            self._after.append(lambda: self._initial_contact(peer))
        if peer.doomed:
            self._after.append(lambda: self.close(peer, peer.doomed))

    def _few_childless(self, peer: Peer) -> None:
        """Of one identity: whoever has proved it once might hold as many as there can be."""
        node = self.node
        numbers = node.by_holder.get(peer.holder, set())
        if len(numbers) <= MAX_CHILDLESS:
            return
        idle = [one for number in numbers if (one := node.peers[number]).sas and not one.children and not one.closing]
        idle.sort(key=lambda one: one.number)
        for one in idle[:-MAX_CHILDLESS]:
            self.close(one, "too many SAs without a CHILD_SA")

    def _policy(self, peer: Peer) -> None:
        """Of an initiator: the responder's was asked for in `authorise`."""
        node = self.node
        profile = node.profiles.get(peer.profile)
        if profile is None:
            return
        if peer.initiator:
            policy = node.profiles.policy(profile, certificate=peer.certificate is not None)
            if isinstance(policy, say.Refusal):
                node.log("no authorization policy", "warning", **node.describe(peer), reason=policy.reason)
            else:
                peer.policy = policy
        peer.accept = peer.policy.route_accept if peer.policy is not None else None
        row = node.protected.get(peer.key.interface) if peer.key is not None else None
        if peer.accept is None and row is not None and row.negotiated:
            peer.accept = RouteAccept()

    def _initial_contact(self, peer: Peer) -> None:
        """RFC 7296 2.4: the peer holds no other SA with us, so what we hold of before is of no use. SAs that were not yet there
        when it began are not of before: both ends may have started at once."""
        node = self.node
        for number in list(node.by_holder.get(peer.holder, ())):
            other = node.peers.get(number)
            if other is None or other is peer or other.established is None or other.established >= peer.since:
                continue
            self._twice(other, peer)
            other.lingers = True
            self.abandon(other, "the peer has begun anew")

    def _twice(self, old: Peer, new: Peer) -> None:
        """Two nodes with one identity throw each other out for ever: somebody should know."""
        if old.sas and old.remote != new.remote:
            before = format_address(old.remote)
            self.node.log("one identity at two addresses", "warning", **self.node.describe(new), before=before)

    def abandon(self, peer: Peer, reason: str) -> None:
        """End it without a word to the peer."""
        node = self.node
        if not peer.sas:
            self.end(peer, say.Closed(reason, established=True))
            return
        sa = peer.sa
        self.drive(peer, sa, lambda: sa.abandon(reason))
        if peer.number in node.peers:
            self.end(peer, say.Closed(reason, established=peer.established is not None))

    def close(self, peer: Peer, reason: str) -> None:
        """Say DELETE, and be done with it."""
        if peer.closing:
            return
        if not peer.sas:
            self.end(peer, say.Closed(reason, established=True))
            return
        peer.closing = reason
        sa, now = peer.sa, self.node.now
        self.drive(peer, sa, lambda: sa.close(reason, now))

    def _rekeyed(self, peer: Peer, successor: IkeSa) -> None:
        if successor in peer.sas:
            peer.sas.remove(successor)
        successor.number = peer.number
        self.register(peer, successor)
        self.node.count("rekeyed")
        self.node.post(Rekeyed(peer.key or SaKey(peer.interface), peer.number, peer.number, ike=True))

    def _closed(self, peer: Peer, sa: IkeSa, said: say.Closed) -> None:
        main = bool(peer.sas) and peer.sas[-1] is sa
        self._forget(peer, sa)
        if said.silent and self._flows(peer):
            self._outlived(peer, said)
        elif main or not peer.sas:
            self.end(peer, said)

    def _spared(self, peer: Peer, outputs: list[say.Output]) -> list[say.Output]:
        """Without what ends CHILD_SAs that flow on."""
        last = outputs[-1] if outputs else None
        if not (isinstance(last, say.Closed) and last.silent and self._flows(peer)):
            return outputs
        ends = (say.RemoveInbound, say.RemoveOutbound, say.ChildDown)
        return [output for output in outputs if not isinstance(output, ends)]

    def _flows(self, peer: Peer) -> bool:
        """Whether its packets arrive, although it does not answer, and we are who makes the next IKE SA (and have not yet)."""
        now, children = self.node.now, peer.children.values()
        return not peer.closing and any(
            child.inbound.use.last is not None
            and child.inbound.use.last > now - FRESH
            and self.node.wanted(peer, child.key) is not None
            and self.node.carriers.peers(child.key) == [peer.number]
            for child in children
        )

    def _outlived(self, peer: Peer, said: say.Closed) -> None:
        """Its CHILD_SAs stand without an IKE SA until others replace them, and not for long: RFC 7296 2.4 wants none of a peer
        that has failed."""
        node = self.node
        for sa in list(peer.sas):
            self._forget(peer, sa)
        for ike_spi in peer.spis:
            node.ike_spis.pop(ike_spi, None)
        peer.lingers = True
        node.timers.set(("inherited", peer.number), node.now + OUTLIVES)
        node.log(
            "a new IKE SA is made, as the peer sends but does not answer", **node.describe(peer), reason=said.reason
        )
        for key in {child.key for child in peer.children.values()}:
            want = node.wanted(peer, key)
            if want is not None:
                if want.ike == peer.number:
                    node.wants.landed(want)
                want.up = False
                node.wants.soon(want)

    def _doubted(self, peer: Peer) -> None:
        """If it has begun anew, a new IKE SA with it comes up; this one stays until that has taken over, or for good."""
        node = self.node
        wants = {child.key: node.wanted(peer, child.key) for child in peer.children.values()}
        calls = [want for want in wants.values() if want is not None and not want.ike]
        if peer.doubted or peer.closing or not calls:
            return
        peer.doubted = True
        node.log("the peer may have begun anew: a new IKE SA is made", **node.describe(peer))
        for want in calls:
            want.up = False
            node.wants.soon(want)

    def _moved(self, peer: Peer, ends: say.Ends) -> None:
        node = self.node
        before = peer.remote
        node.relocate(peer, ends)
        node.log("peer moved", **node.describe(peer), before=format_address(before), port=ends.remote_port)
        node.post(PeerMoved(peer.number, peer.text, before, ends.remote, ends.remote_port))
        access = node.accesses.get(peer.access) if peer.access else None
        if access is not None:
            row = access.rows[peer.number]
            access.rows[peer.number] = row._replace(local=ends.local, remote=ends.remote)
        self.refresh(peer)

    def end(self, peer: Peer, said: say.Closed) -> None:
        """Nothing of it is left."""
        node = self.node
        if not node.leave(peer):
            return
        node.admission.closed(peer.number)
        for sa in list(peer.sas):
            self._forget(peer, sa)
        for ike_spi in peer.spis:
            node.ike_spis.pop(ike_spi, None)
        node.inits.pop(peer.init, None)
        for timer in ("drop", "childless", "inherited"):
            node.timers.set((timer, peer.number), None)
        for spi in list(peer.inbound):
            self._remove_inbound(peer, spi)
        for spi in peer.reserved:
            if node.esp_spis.get(spi) == peer.number and spi not in peer.inbound:
                self._free(spi)
        keys = {key for key, _ in peer.outbound} | {child.key for child in peer.children.values()}
        for key, spi in list(peer.outbound):
            self._remove_outbound(peer, key, spi)
        self._release(peer)
        self._told(peer, said)
        keys |= {SaKey(peer.template, peer.home)} if peer.template else set()
        if peer.key is not None:
            keys.add(peer.key)
        for key in keys:
            self._missed(key, peer, said)

    def _free(self, spi: int) -> None:
        # While it lingers in the SAD it is not free.
        if ("spi", spi) not in self.node.timers:
            self.node.esp_spis.pop(spi, None)

    def _release(self, peer: Peer) -> None:
        node = self.node
        node.claims.drop(peer.number)
        for pool, address in peer.leases:
            node.pools.release(peer.number, pool, address, node.now)
        if peer.access:
            node.accesses.release(peer.access, peer.number)

    def _told(self, peer: Peer, said: say.Closed) -> None:
        node = self.node
        reason = peer.closing or said.reason
        ends = (peer.ends.local, peer.remote)
        if peer.established is not None:
            node.count("closed")
            node.log("IKE SA is down", **node.describe(peer), reason=reason, peer=said.peer)
            node.post(IkeSaDown(peer.number, *ends, peer.text, reason, peer=said.peer))
        else:
            node.count("failed")
            level: say.Level = "info" if peer.initiator or peer.text else "debug"
            node.log("IKE SA was not made", level, **node.describe(peer), reason=reason)
            node.post(PeerRefused(*ends, peer.text, reason))
            self.refused(peer, reason)

    def refused(self, peer: Peer, reason: str) -> None:
        """Remember it for `show`; and a tunnel that waits for this peer says what it has been waiting for in vain."""
        node = self.node
        node.refusals.note(peer.remote, peer.text, peer.profile, reason, node.now, ours=peer.initiator)
        ends = say.Ends(peer.ends.local, peer.home, vrf=peer.ends.vrf)
        target = node.target(peer.profile, ends) if peer.profile and not peer.initiator else None
        if target is None:
            return
        key = SaKey(target[0], peer.home if target[2] else b"")
        want = node.wants.get(key)
        if want is not None and want.passive and not want.up:
            want.reason = f"the peer came and was not let in: {reason}"
            node.touch(key)

    # --- wanted neighbours --------------------------------------------------------------------------------------------

    def _carried(self, peer: Peer, key: SaKey) -> None:
        node = self.node
        node.changed(peer, key)
        want = node.wanted(peer, key)
        if want is None or want.up:
            return
        calling = node.peers.get(want.ike)
        node.wants.satisfied(want)
        if calling is not None and not calling.children and calling.sas and calling.sa.state is State.INIT:
            # The peer came first, and what we have begun is not yet heard of: else both ends would have to choose.
            self._after.append(lambda: self.abandon(calling, "the peer came first"))

    def _missed(self, key: SaKey, peer: Peer, said: say.Closed) -> None:
        """`peer` is no longer on its way to `key`, or no longer carries it."""
        node = self.node
        node.touch(key)
        keep(node, self.kept, key)
        want = node.wants.get(key)
        if want is None:
            return
        if want.ike == peer.number:
            node.wants.landed(want)
        if node.carried(key):
            if not want.ike:
                node.wants.satisfied(want)
        else:
            reason = (peer.closing or said.reason).replace("from the peer", f"from {format_address(peer.remote)}")
            self.failed(want, reason, retry=said.retry)

    def failed(self, want: Want, reason: str, *, retry: bool = True) -> None:
        node = self.node
        want.up, want.reason = False, reason
        node.touch(want.key)
        if not want.ike:
            node.wants.later(want, node.now, soonest=0.0 if retry else UNLIKELY)

    # --- CHILD_SAs ----------------------------------------------------------------------------------------------------

    def _child_up(self, peer: Peer, said: say.ChildUp) -> None:
        node = self.node
        replaced = peer.children.pop(said.replaces, None) if said.replaces else None
        peer.children[said.number] = Child(said.key, said.number, said.inbound, said.outbound, node.now)
        node.timers.set(("childless", peer.number), None)
        if replaced is not None:
            node.count("child rekeyed")
            node.post(Rekeyed(said.key, said.number, said.replaces))
        else:
            node.count("child up")
            node.post(ChildSaUp(said.key, said.number, peer.text))
        if peer.interface != said.key.interface:
            peer.interface = said.key.interface
            node.by_interface.setdefault(peer.interface, set()).add(peer.number)
        node.changed(peer, said.key)
        if replaced is None:
            node.log("CHILD_SA is up", **node.describe(peer), interface=said.key.interface, child=said.number)
            self.refresh(peer)
            self._after.append(lambda: self._supersede(said.key, peer))
        keep(node, self.kept, said.key)

    def _child_down(self, peer: Peer, said: say.ChildDown) -> None:
        node = self.node
        peer.children.pop(said.number, None)
        node.changed(peer, said.key)
        node.post(ChildSaDown(said.key, said.number, said.reason))
        node.log(
            "CHILD_SA was refused" if said.refused else "CHILD_SA is down",
            **node.describe(peer),
            interface=said.key.interface,
            reason=said.reason,
        )
        want = node.wanted(peer, said.key)
        if want is not None:
            if want.ike == peer.number:
                node.wants.landed(want)
            if not node.carried(want.key):
                self.failed(want, said.reason, retry=not said.refused)
        if not peer.children:
            node.timers.set(("childless", peer.number), node.now + CHILDLESS)
            if said.refused and peer.initiator and not peer.closing:
                # An IKE SA of ours that cannot carry anything is of no use to anybody.
                self._after.append(lambda: self.close(peer, said.reason))
        keep(node, self.kept, said.key)

    def _remove_inbound(self, peer: Peer, spi: int) -> None:
        node = self.node
        peer.inbound.discard(spi)
        peer.reserved.discard(spi)
        if peer.lingers:
            node.timers.set(("spi", spi), node.now + LINGER)
        else:
            self.remove_spi(spi)

    def remove_spi(self, spi: int) -> None:
        self.node.esp_spis.pop(spi, None)
        self.node.timers.set(("spi", spi), None)
        self.node.put(RemoveInbound(spi))

    def remove_lingering(self) -> None:
        for spi in self.node.timers.of("spi"):
            self.remove_spi(spi)

    def _remove_outbound(self, peer: Peer, key: SaKey, spi: int) -> None:
        node = self.node
        peer.outbound.discard((key, spi))
        current, left = node.carriers.remove(peer.number, key, spi)
        if not current:
            return
        if left is not None:
            node.put(PutOutbound(left))
        else:
            node.vacant[key] = spi
        node.changed(peer, key)

    # --- several SAs of one neighbour ---------------------------------------------------------------------------------

    def _supersede(self, key: SaKey, peer: Peer) -> None:
        """`peer` has just brought an SA for `key`: what becomes of others that carry it."""
        node = self.node
        if peer.number not in node.peers:
            return
        for number in node.carriers.peers(key):
            other = node.peers[number]
            if other is peer or other.closing:
                continue
            if not other.sas:
                self.end(other, say.Closed("replaced by a new SA", established=True))
            elif other.initiator == peer.initiator or (other.established or 0.0) < peer.since:
                self._twice(other, peer)
                self._drop_later(other, SUPERSEDED)
            else:
                # Both ends started at once: the SA with the smaller initiator SPI is deleted by its own initiator.
                loser = min((peer, other), key=lambda one: one.sa.initiator_spi)
                self._drop_later(loser, COLLISION if loser.initiator else NEVER_DELETED)

    def _drop_later(self, peer: Peer, delay: float) -> None:
        peer.lingers = True
        self.node.timers.set(("drop", peer.number), self.node.now + delay)

    def drop_superseded(self, number: int) -> None:
        """Its time has come, if all that it carries is carried by another too."""
        node = self.node
        peer = node.peers.get(number)
        if peer is None:
            return
        keys = {child.key for child in peer.children.values()}
        if all(any(other != number for other in node.carriers.peers(key)) for key in keys):
            self.close(peer, "another SA of the same peer has taken over")
        else:
            peer.lingers = False

    # --- mode config and the overlay ----------------------------------------------------------------------------------

    def _configured(self, peer: Peer, said: say.Configured) -> None:
        if said.kind == _REPLY:
            row = self.node.protected.get(peer.key.interface) if peer.key is not None else None
            if peer.key is not None and row is not None and row.negotiated:
                peer.received = self._acceptable(peer, own_addresses(said.attributes))
                self.node.received[peer.key.interface] = peer.received
            peer.attributes = said.attributes
        else:
            peer.set_attributes = said.attributes
        self.refresh(peer)

    def _acceptable(self, peer: Peer, addresses: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Without those that would be somewhere twice: a peer gives us an address, and takes none of ours away."""
        node = self.node
        tunnel = peer.key.interface if peer.key is not None else ""
        interface = node.interfaces.get(tunnel)
        vrf = interface.vrf if interface is not None else ""
        found = []
        for address in addresses:
            others = node.owners(vrf, address) - {tunnel}
            if not others and address not in (peer.ends.local, peer.remote):
                found.append(address)
                continue
            where = f"is of {min(others)}" if others else "is an outer one of the tunnel"
            reason = f"the address {format_address(address)} that the peer gives us {where}"
            node.log("an address is refused", "warning", **node.describe(peer), reason=reason)
            self.refused(peer, reason)
        return tuple(found)

    def refresh(self, peer: Peer) -> None:
        """Bring what stands in routing because of `peer` up to what is known now."""
        node = self.node
        interface = node.interfaces.get(peer.interface)
        rows: dict[Slot, object] = {}
        access = node.accesses.get(peer.access) if peer.access and peer.children else None
        if access is not None:
            rows[Slot(AccessWanted, "", access.name)] = access.rows[peer.number]
        child = next(iter(peer.children.values()), None)
        transport = (child.key.remote if child is not None else b"") or peer.remote
        if child is not None:
            rows.update(identity_rows(child.key.interface, peer.assigned, peer.text, transport))
        if interface is None and not peer.sas:
            return  # inherited rows stand until more is known
        if interface is not None and peer.children:
            if peer.sas:
                self._judge(peer)
            overlay = OverlayOf(peer.received, peer.assigned, peer.routes, transport, peer.accept or RouteAccept())
            rows.update(overlay_rows(overlay, interface))
        node.claims.hold(peer.number, rows, peer.holder)
        if interface is not None and peer.children:
            self._yield_assigned(peer, interface.vrf)
        for key in {child.key for child in peer.children.values()}:
            keep(node, self.kept, key)
        self._after.append(lambda: self._announce(peer))

    def _yield_assigned(self, peer: Peer, vrf: str) -> None:
        """What we have given to `peer` is no longer for others to announce."""
        node = self.node
        for prefix in map(Prefix.host, peer.assigned):
            for number in node.claims.claimants(vrf, prefix):
                other = node.peers.get(number)
                if other is not None and other.holder != peer.holder and prefix in other.routes:
                    other.routes = tuple(route for route in other.routes if route != prefix)
                    self._after.append(partial(self.refresh, other))

    def _judge(self, peer: Peer) -> None:
        """Which of the peer's routes are taken."""
        node = self.node
        accept = peer.accept
        if accept is None or not accept.enabled:
            peer.routes = ()
            return
        interface = node.interfaces[peer.interface]
        own = (*addresses_of(interface), *peer.received)
        found = announced(
            (*(a for a in peer.attributes if a.kind in _SUBNETS), *peer.set_attributes),
            (peer.ends.local, peer.remote),
            own,
            node.objection(peer.holder, interface.vrf),
        )
        for prefix, reason in found.refused.items():
            if peer.refused.get(prefix) != reason:
                node.log(
                    "a peer's route is refused", "warning", **node.describe(peer), prefix=str(prefix), reason=reason
                )
        peer.routes, peer.refused = found.taken, dict(found.refused)

    def _announce(self, peer: Peer) -> None:
        """Tell the peer our own addresses and routes, by CFG_SET, once they are known and when they change."""
        node = self.node
        if not peer.initiator or peer.number not in node.peers or not peer.children or peer.closing or not peer.sas:
            return
        profile = node.profiles.get(peer.profile)
        if profile is None or not profile.config_exchange_set_send or peer.sa.state is not State.ESTABLISHED:
            return
        attributes = subnet_attributes(node.routes_of(peer.policy, peer.interface))
        if not attributes or attributes == peer.pushed:
            return
        peer.pushed = attributes
        sa, now = peer.sa, node.now
        self.drive(peer, sa, lambda: sa.push(attributes, now))


def init_digest(octets: bytes, ends: say.Ends) -> bytes:
    """Of an IKE_SA_INIT: RFC 7296 2.1 has retransmissions be the same octets."""
    where = ends.where + ends.remote_port.to_bytes(2) + ends.local
    return hashlib.blake2b(where + octets, digest_size=16).digest()
