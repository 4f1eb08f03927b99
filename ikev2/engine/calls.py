"""Whom to call, and how: from a want to an IKE SA of ours, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, evolve

from ikev2.config import IkeProfile
from ikev2.engine.access import is_template
from ikev2.engine.authorise import request_attributes
from ikev2.engine.contract import ChildTerms, Ends, Refusal
from ikev2.engine.contract import Output as SaOutput
from ikev2.engine.directory import NodeDirectory
from ikev2.engine.lifecycle import Lifecycle
from ikev2.engine.node import MAX_PEERS, Node
from ikev2.engine.peers import Peer
from ikev2.engine.sa import IkeSa, State
from ikev2.engine.wants import Want
from stack.events import SaKey, SaRequest

__all__ = ["Calls"]


@define(eq=False)
class Calls:
    node: Node
    directory: NodeDirectory
    lifecycle: Lifecycle

    def call(self, want: Want) -> None:
        node = self.node
        request = want.request
        reason = self._hopeless(want)
        if reason:
            want.passive = True
            self.lifecycle.failed(want, reason)
            return
        if not request.local or not any(request.local):
            self._not_now(want, "the tunnel has no source address")
            return
        name = node.protection(want.key, request)
        ipsec = node.profiles.ipsec(name)
        profile = node.profiles.ike_of(ipsec, request.vrf) if ipsec is not None else Refusal("")
        child = node.profiles.child_terms(name, want.key, request.local, request.remote)
        if isinstance(child, Refusal):
            self._not_now(want, child.reason)
        elif isinstance(profile, Refusal):
            self._not_now(want, profile.reason)
        elif not self._by_old(want, child):
            self._initiate(want, profile, child)

    def _by_old(self, want: Want, child: ChildTerms) -> bool:
        """By the IKE SA that was made for it, if that has outlived its CHILD_SA."""
        node = self.node
        fit = (peer for peer in node.called(want.key) if peer.sas and not (peer.closing or peer.doubted or peer.doomed))
        peer = next(fit, None)
        if peer is None or peer.sa.state is not State.ESTABLISHED:
            return False
        if peer.access:
            child = evolve(child, key=SaKey(peer.access))
        node.wants.started(want, peer.number)
        self._told(want, "negotiating")
        sa = peer.sa
        self.lifecycle.drive(peer, sa, lambda: sa.add_child(child, node.now))
        return True

    def _initiate(self, want: Want, profile: IkeProfile, child: ChildTerms) -> None:
        node, request = self.node, want.request
        ends = Ends(request.local, request.remote, vrf=request.vrf)
        row = node.protected.get(want.key.interface)
        negotiated = row is not None and row.negotiated
        asks = profile.config_exchange_request
        terms = node.profiles.terms(
            profile,
            ends,
            None,
            bind=not profile.match_certificate,
            request=request_attributes(
                negotiated=negotiated and asks,
                authorised=bool(profile.aaa) and asks,
                before=node.received.get(want.key.interface, ()),
            ),
            known_contact=bool(node.at(ends)) or self._may_be_known(profile),
        )
        if isinstance(terms, Refusal):
            self._not_now(want, terms.reason)
            return
        if len(node.peers) >= MAX_PEERS:
            self._not_now(want, "too many SAs")
            return
        ipsec = node.protection(want.key, request)
        peer = Peer(node.number(), ends, True, node.now, profile.name, ipsec, want.key)
        peer.asks_address = negotiated
        node.enter(peer)
        node.wants.started(want, peer.number)
        node.count("initiated")
        self._told(want, "negotiating")
        made = self.make(
            peer,
            lambda: IkeSa.initiate(
                peer.number, ends, self.directory, terms, child, node.entropy, node.settings, node.now
            ),
        )
        if made is not None and made[0] is not None:
            self.begin(peer, made[0], made[1])

    def _may_be_known(self, profile: IkeProfile) -> bool:
        """RFC 7296 2.4: INITIAL_CONTACT says that this is the only SA between two identities, and whoever hears it drops the
        others. Who answers at another address of a profile may be the same peer: two tunnels between two nodes."""
        return any(
            peer.established is not None and peer.profile == profile.name and not peer.closing
            for peer in self.node.living
        )

    def make(
        self, peer: Peer, make: Callable[[], tuple[IkeSa | None, list[SaOutput]]]
    ) -> tuple[IkeSa | None, list[SaOutput]] | None:
        """A new IKE SA, which may ask the directory while it is made. None: it failed, and is gone."""
        self.node.active = peer
        try:
            return make()
        except Exception as error:
            self.lifecycle.broken(peer, error)
            return None
        finally:
            self.node.active = None

    def begin(self, peer: Peer, sa: IkeSa, outputs: list[SaOutput]) -> None:
        self.lifecycle.register(peer, sa)
        self.lifecycle.drive(peer, sa, lambda: outputs)

    def _hopeless(self, want: Want) -> str:
        """Why it is never called; '' if it can be."""
        request = want.request
        if is_template(want.key.interface) and (reason := self._no_template(want.key, request)):
            return reason
        ipsec = self.node.profiles.ipsec(self.node.protection(want.key, request))
        if ipsec is not None and ipsec.responder_only:
            return "waits for the peer (responder-only)"
        if len(request.remote) != 4:
            return "IKE runs over IPv4, and the tunnel does not" if request.remote else "waits for the peer"
        return ""

    def _no_template(self, key: SaKey, request: SaRequest) -> str:
        """Why a peer of a virtual template cannot be called; '' if it can."""
        node = self.node
        if not key.remote or key.remote != request.remote:
            return "it is not said where the peer is"
        if key.interface not in node.interfaces:
            return f"there is no interface {key.interface}"
        if not node.protection(key, request):
            return f"{key.interface} has no tunnel protection"
        if (request.vrf, request.remote) in node.own:
            return "the address is our own"
        for name, row in node.protected.items():
            if (row.local, row.remote, row.vrf) == (request.local, request.remote, request.vrf):
                # Packets of two tunnels with the same ends could not be told apart.
                return f"{name} has these ends already"
        return ""

    def _not_now(self, want: Want, reason: str) -> None:
        want.attempts += 1
        self.lifecycle.failed(want, reason)

    def _told(self, want: Want, reason: str) -> None:
        if not want.reason:
            want.reason = reason
        self.node.touch(want.key)
