"""What IKE SAs ask of the configuration: the contract's Directory."""

from __future__ import annotations

from typing import Any

from attrs import define, evolve

from ikev2.config import AuthorizationPolicy
from ikev2.engine.access import is_template
from ikev2.engine.authorise import asked, own_addresses, reply_attributes, wish
from ikev2.engine.contract import AccessRequest, Answer, ChildTerms, Ends, Grant, Refusal, Terms, Wait
from ikev2.engine.identities import identity_text
from ikev2.engine.node import Node
from ikev2.engine.outputs import Authorise
from ikev2.engine.peers import Peer
from ikev2.wire.numbers import AttributeKind, NotifyKind
from ikev2.wire.payloads import Attribute, Identity, Proposal
from stack.esp import EspMode, Selector
from stack.events import AccessRow, SaKey

__all__ = ["NodeDirectory", "lease_key"]


@define(eq=False)
class NodeDirectory:
    node: Node

    def epoch(self) -> float:
        return self.node.epoch

    def ike_proposals(self, ends: Ends) -> tuple[Proposal, ...]:
        return self.node.profiles.ike_proposals(ends)

    def requests(self, ends: Ends) -> bytes:
        return self.node.profiles.requests(ends)

    def esp_spi(self) -> int:
        return self.node.esp_spi()

    def ike_spi(self) -> bytes:
        return self.node.ike_spi()

    def terms(
        self,
        ends: Ends,
        identity: Identity,
        certificates: tuple[bytes, ...],
        hint: Identity | None,  # noqa: ARG002  # the contract's; a peer belongs to a profile by who it is
    ) -> Terms | Refusal:
        node = self.node
        peer = node.active
        if peer is not None and not peer.text:
            peer.text = identity_text(identity)  # as it says, for the log; not proved yet
        found = node.profiles.select(ends, identity, certificates)
        if isinstance(found, Refusal):
            return found
        profile, by_map = found
        if peer is not None:
            peer.profile = profile.name
        known = any(
            node.peers[number].sas and node.peers[number] is not peer
            for number in node.by_holder.get(
                node.profiles.holder(profile.name, (ends.vrf, ends.remote), identity, None), ()
            )
        )
        return node.profiles.terms(profile, ends, identity, bind=not by_map, known_contact=known)

    def confirm(
        self,
        ends: Ends,
        terms: Terms,
        identity: Identity,
        certificate: Any,
    ) -> Refusal | None:
        return self.node.profiles.confirm(ends, terms, identity, certificate)

    # --- authorisation ------------------------------------------------------------------------------------------------

    def authorise(self, number: int, request: AccessRequest) -> Answer:
        node = self.node
        peer = node.peers.get(number)
        if peer is None:
            return Refusal("the IKE SA is gone")
        peer.profile, peer.identity = request.profile, request.identity
        peer.holder = node.profiles.holder(
            request.profile, (peer.ends.vrf, peer.home), request.identity, request.certificate
        )
        peer.text = identity_text(request.identity)
        if node.authorises:
            peer.request, peer.asking = request, True
            node.put(Authorise(number, request))
            return Wait()
        return self.granted(peer, request)

    def granted(self, peer: Peer, request: AccessRequest, outside: Grant | None = None) -> Grant | Refusal:
        """What the authorization policy gives, with what an embedder has given: its address replaces the pool's."""
        node = self.node
        profile = node.profiles.get(request.profile)
        if profile is None:
            return Refusal(f"profile {request.profile} is gone")
        policy = node.profiles.policy(profile, certificate=request.certificate is not None)
        if isinstance(policy, Refusal):
            return policy
        peer.policy = policy
        extra = outside.reply if outside is not None else ()
        selectors = outside.selectors if outside is not None else ()
        given = own_addresses(extra)
        refusal = self._lease(peer, policy, request.attributes, given)
        if refusal is not None:
            return refusal
        peer.assigned = tuple(dict.fromkeys((*given, *(address for _, address in peer.leases))))
        if not request.attributes and not extra:
            return Grant((), selectors)
        target = node.target(request.profile, evolve(request.ends, remote=peer.home))
        routes = node.routes_of(policy, target[0]) if target is not None else ()
        leased = [address for _, address in peer.leases]
        return Grant(reply_attributes(policy, request.attributes, leased, routes, extra), selectors)

    def _lease(
        self,
        peer: Peer,
        policy: AuthorizationPolicy | None,
        attributes: tuple[Attribute, ...],
        given: tuple[bytes, ...],
    ) -> Refusal | None:
        if policy is None:
            return None
        kinds = asked(attributes)
        families = {len(address) for address in given}
        for kind, size, pool_name in (
            (AttributeKind.INTERNAL_IP4_ADDRESS, 4, policy.pool),
            (AttributeKind.INTERNAL_IP6_ADDRESS, 16, policy.ipv6_pool),
        ):
            if kind not in kinds or size in families or not pool_name:
                continue
            reason = self._take(peer, pool_name, wish(attributes, kind))
            if reason:
                # RFC 7296 3.15.4: when an address cannot be assigned, INTERNAL_ADDRESS_FAILURE.
                return Refusal(reason, NotifyKind.INTERNAL_ADDRESS_FAILURE)
        return None

    def _take(self, peer: Peer, pool_name: str, wished: bytes) -> str:
        node = self.node
        pool = node.pools.get(pool_name)
        if pool is None:
            return f"pool {pool_name} is not defined"
        if any(name == pool_name for name, _ in peer.leases):
            return ""
        address = pool.lease(lease_key(peer.holder), peer.text, peer.number, node.now, wish=wished)
        if address is None:
            return f"pool {pool_name} has no address left"
        peer.leases.append((pool_name, address))
        return ""

    # --- CHILD_SAs ----------------------------------------------------------------------------------------------------

    def child(
        self,
        number: int,
        ends: Ends,
        own: tuple[Selector, ...],  # noqa: ARG002  # the contract's; the IKE SA narrows them to what is answered here
        far: tuple[Selector, ...],  # noqa: ARG002  # as `own`
        mode: EspMode,  # noqa: ARG002  # as `own`
    ) -> ChildTerms | Refusal:
        node = self.node
        peer = node.peers.get(number)
        if peer is None:
            return Refusal("the IKE SA is gone", NotifyKind.NO_ADDITIONAL_SAS)
        target = node.target(peer.profile, evolve(ends, remote=peer.home))
        if target is None:
            return Refusal("no protected tunnel has these ends", NotifyKind.TS_UNACCEPTABLE)
        interface, ipsec, many = target
        if interface in node.protected:
            key = SaKey(interface, peer.home if many else b"")
            other = self._other(peer, key)
            if other is not None:
                node.doubts[other.number] = None
                return Refusal(f"{other.text} is there already", NotifyKind.TS_UNACCEPTABLE)
        else:
            access = self._access(peer, interface, ipsec, ends)
            if access is None:
                return Refusal("too many virtual access interfaces", NotifyKind.NO_ADDITIONAL_SAS)
            key = SaKey(access)
        peer.ipsec = ipsec
        return node.profiles.child_terms(ipsec, key, ends.local, ends.remote)

    def called(self, number: int, terms: ChildTerms, identity: Identity, certificate: Any) -> ChildTerms | Refusal:
        """Who was called for a virtual template gets its virtual access interface now that it is known who it is."""
        node = self.node
        peer = node.peers.get(number)
        if peer is None or not is_template(terms.key.interface):
            return terms
        peer.identity, peer.text = identity, identity_text(identity)
        peer.holder = node.profiles.holder(peer.profile, (peer.ends.vrf, peer.home), identity, certificate)
        access = self._access(peer, terms.key.interface, peer.ipsec, peer.ends)
        if access is None:
            return Refusal("too many virtual access interfaces")
        return evolve(terms, key=SaKey(access))

    def _other(self, peer: Peer, key: SaKey) -> Peer | None:
        """Who carries `key` already, if it is another than `peer`: two behind one NAT, or one that has taken the other's
        address. Whoever came first stays while it lives; it is asked."""
        current = self.node.carriers.current(key)
        other = self.node.peers.get(current[0]) if current is not None else None
        if other is None or other is peer or not other.sas or other.closing or other.identity == peer.identity:
            return None
        return other

    def _access(self, peer: Peer, template: str, ipsec: str, ends: Ends) -> str | None:
        """The name of its virtual access interface: the one that this identity has, so that it outlives an SA that is
        replaced before it ends."""
        row = AccessRow(template, ends.local, ends.remote, ipsec, ends.vrf, f"IKEv2 peer {peer.text}")
        access = self.node.accesses.take(peer.holder, peer.number, row, peer.text, self.node.now)
        if access is None:
            return None
        peer.access, peer.template = access.name, template
        return access.name


def lease_key(holder: tuple[str, bytes]) -> bytes:
    """A pool's holders are identities in their profile."""
    return holder[0].encode() + b"\0" + holder[1]
