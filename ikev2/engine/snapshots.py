"""How `Speaker.snapshot()` is made of what the speaker has: copies, without keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from ikev2.engine.access import template_number
from ikev2.engine.authorise import text_of
from ikev2.engine.identities import identity_text
from ikev2.engine.node import Node
from ikev2.engine.overlay import overlay_snapshots
from ikev2.engine.peers import Child, Peer
from ikev2.engine.sa import IkeSa, IkeSaSnapshot, State
from ikev2.engine.sastate import ChildSaSnapshot
from ikev2.engine.snapshot import (
    AccessSnapshot,
    ChildSnapshot,
    EspSnapshot,
    IkeSnapshot,
    IkeStatus,
    ProfileSnapshot,
    SpeakerSnapshot,
    TrustpointSnapshot,
    WantSnapshot,
)
from ikev2.pki.errors import TrustpointError
from ikev2.wire.numbers import AttributeKind, AuthMethod
from stack.esp import Integrity
from stack.events import SaKey
from stack.tables.sad import Sa

__all__ = ["speaker_snapshot"]

_STATUS = {State.ESTABLISHED: IkeStatus.READY, State.REKEYED: IkeStatus.DELETE, State.DELETING: IkeStatus.DELETE}


def speaker_snapshot(node: Node, now: float, wall: float) -> SpeakerSnapshot:
    ikes = tuple(_ike(node, peer, sa) for peer in node.peers.values() for sa in peer.sas)
    left = tuple(_inherited(node, peer, child) for peer in node.peers.values() for child in _old(peer))
    return SpeakerSnapshot(
        now=now,
        wall=wall,
        ikes=ikes,
        children=(*(child for ike in ikes for child in ike.children), *left),
        wants=tuple(_wants(node)),
        accesses=tuple(_accesses(node)),
        pools=node.pools.snapshot(),
        overlay=overlay_snapshots(node.claims),
        profiles=tuple(
            ProfileSnapshot(profile.name, node.profiles.reason(profile)) for profile in node.config.profiles.values()
        ),
        trustpoints=tuple(_trustpoints(node)),
        admission=node.admission.snapshot(len(node.peers)),
        refusals=tuple(node.refusals),
        counters=dict(node.counters),
    )


def _old(peer: Peer) -> list[Child]:
    return [] if peer.sas else list(peer.children.values())


def _wants(node: Node) -> Iterator[WantSnapshot]:
    for want in sorted(node.wants, key=lambda want: want.key):
        request = want.request
        bearer = node.bearer(want.key)
        up = node.carriers.current(bearer) is not None
        yield WantSnapshot(
            want.key,
            request.profile,
            request.local,
            request.remote,
            up,
            "up" if up else want.reason or "negotiating",
            want.attempts,
            want.next_try,
            want.passive,
            bearer.interface if up and bearer is not want.key else "",
            request.vrf,
        )


def _accesses(node: Node) -> Iterator[AccessSnapshot]:
    for access in node.accesses:
        user = max(access.rows, default=0)
        row = access.row
        yield AccessSnapshot(
            access.name,
            row.template,
            access.identity,
            access.holder[0],
            row.local,
            row.remote,
            access.since,
            max(user, 0),
        )


def _trustpoints(node: Node) -> Iterator[TrustpointSnapshot]:
    for name, config in node.config.trustpoints.items():
        material = node.profiles.trustpoints.get(name)
        if material is None or isinstance(material, TrustpointError):
            reason = str(material) if material is not None else "it was not loaded"
            yield TrustpointSnapshot(name, reason, revocation=config.revocation)
        else:
            trusted = tuple(anchor.certificate for anchor in material.anchors)
            yield TrustpointSnapshot(name, "", material.own, trusted, config.revocation)


def _ike(node: Node, peer: Peer, sa: IkeSa) -> IkeSnapshot:
    said: IkeSaSnapshot = sa.snapshot()
    suite = said.suite
    status = _STATUS.get(said.state, IkeStatus.NEGOTIATING)
    main = sa is peer.sa
    spis = (said.initiator_spi, said.responder_spi)
    return IkeSnapshot(
        number=peer.number,
        initiator=said.initiator,
        status=IkeStatus.DELETE if peer.closing else status,
        description=peer.closing or said.state.value,
        ends=said.ends,
        local_spi=spis[0] if said.initiator else spis[1],
        remote_spi=spis[1] if said.initiator else spis[0],
        since=said.since,
        established=said.established,
        lifetime=said.lifetime,
        profile=peer.profile or said.profile,
        local_identity=identity_text(said.local),
        remote_identity=peer.text or identity_text(said.remote),
        encryption=suite.cipher.text if suite else "",
        integrity=suite.integrity.digest if suite and suite.integrity is not Integrity.NONE else "",
        prf=suite.prf.text if suite else "",
        group=suite.group if suite else 0,
        auth_local=_auth(said.auth_own, _own_key(node, peer)),
        auth_remote=_auth(said.auth_peer, peer.certificate.certificate.key if peer.certificate is not None else None),
        dpd=said.dpd,
        fragmentation=said.fragmentation,
        fragmentation_mtu=said.fragmentation_mtu,
        nat_local=said.nat_own,
        nat_remote=said.nat_peer,
        next_request=said.next_own,
        next_expected=said.next_peer,
        queued=said.queued,
        retransmissions=said.retransmissions,
        window=said.window,
        interface=peer.interface or (peer.key.interface if peer.key is not None else ""),
        template=template_number(peer.template) if peer.access else None,
        assigned=peer.assigned,
        pushed=peer.received,
        remote_subnets=peer.routes,
        refused_subnets=dict(peer.refused),
        banner=text_of(peer.attributes, AttributeKind.UNITY_BANNER),
        def_domain=text_of(peer.attributes, AttributeKind.UNITY_DEF_DOMAIN),
        dns=tuple(a.octets for a in peer.attributes if a.kind == AttributeKind.INTERNAL_IP4_DNS and len(a.octets) == 4),
        peer_version=text_of((*peer.attributes, *peer.set_attributes), AttributeKind.APPLICATION_VERSION),
        flexvpn=peer.flexvpn,
        children=tuple(_child(node, peer, child) for child in said.children) if main else (),
        certificate=peer.certificate,
    )


def _own_key(node: Node, peer: Peer) -> Any:
    profile = node.profiles.get(peer.profile)
    credential = node.profiles.side(profile).credential if profile is not None else None
    return credential.private_key if credential is not None else None


def _auth(method: int, key: Any) -> str:
    """As IOS prints it. RFC 7427's one method is named by its key."""
    if not method:
        return ""
    if method == AuthMethod.PSK:
        return "PSK"
    if method == AuthMethod.RSA or isinstance(key, RSAPrivateKey | RSAPublicKey):
        return "RSA"
    if method == AuthMethod.DIGITAL_SIGNATURE and not isinstance(key, EllipticCurvePrivateKey | EllipticCurvePublicKey):
        return "Ed25519" if key is not None else "Digital Signature"
    return "ECDSA"


def _child(node: Node, peer: Peer, said: ChildSaSnapshot) -> ChildSnapshot:
    current = node.carriers.current(said.key)
    return ChildSnapshot(
        key=said.key,
        number=said.number,
        ike=peer.number,
        carries=current is not None and said.outbound is not None and current[1].spi == said.outbound.spi,
        inbound=_esp(said.inbound),
        outbound=_esp(said.outbound),
        since=said.since,
        profile=_ipsec(node, peer, said.key),
        identity=peer.text,
        group=said.group,
    )


def _ipsec(node: Node, peer: Peer, key: SaKey) -> str:
    row = node.protected.get(key.interface)
    return peer.ipsec or (row.profile if row is not None else "")


def _inherited(node: Node, peer: Peer, child: Child) -> ChildSnapshot:
    current = node.carriers.current(child.key)
    return ChildSnapshot(
        key=child.key,
        number=child.number,
        ike=0,
        carries=current is not None and current[1] is child.outbound,
        inbound=_esp(child.inbound),
        outbound=_esp(child.outbound),
        since=child.since,
        profile=peer.ipsec,
        identity=peer.text,
    )


def _esp(sa: Sa | None) -> EspSnapshot | None:
    if sa is None:
        return None
    use = sa.use
    return EspSnapshot(
        spi=sa.spi,
        local=sa.local,
        remote=sa.remote,
        form=sa.form,
        esn=sa.esn,
        window=sa.window,
        ports=sa.ports,
        own=sa.own,
        far=sa.far,
        hard_packets=sa.hard_packets,
        hard_octets=sa.hard_octets,
        hard_time=sa.hard_time,
        sequence=use.sequence,
        packets=use.packets,
        octets=use.octets,
        last=use.last,
        integrity_failures=use.integrity_failures,
        replays=use.replays,
        refused=use.refused,
    )
