"""What a new incarnation needs of the one that crashed: whose the SAs in the SAD are, and the rows that stand because of them.

Keys are not in it: they stay in the SAD. The tables are the speaker's own, kept up to date as it goes, so a crash finds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, field

from ikev2.engine.discards import Discarded
from ikev2.engine.node import Node
from ikev2.engine.peers import Child, Peer
from ikev2.engine.pools import Pools
from ikev2.engine.profiles import Profiles
from stack.claims import Slot
from stack.events import AccessRow, SaKey
from stack.tables.sad import Bundle, Sa
from stack.values import value

__all__ = ["Kept", "KeptPeer", "inherit", "keep"]


@value
class KeptPeer:
    """A protected neighbour's: which peer it is and what stands in routing because of it."""

    key: SaKey
    peer: Peer
    rows: Mapping[Slot, Any]
    since: float
    access: tuple[str, AccessRow] | None = None
    wanted: SaKey | None = None
    """Of a virtual access interface: the template's neighbour that somebody wants, which it is."""


@define(eq=False)
class Kept:
    peers: dict[SaKey, KeptPeer] = field(factory=dict)
    pools: Pools | None = None
    profiles: Profiles | None = field(default=None, repr=False)
    """As the configuration was when it was last in force: it has pre-shared keys, as the configuration has."""
    numbers: int = 0
    discards: frozenset[Discarded] = frozenset()


def keep(node: Node, kept: Kept, key: SaKey) -> None:
    """Bring what is kept of `key` up to date."""
    current = node.carriers.current(key)
    peer = node.peers.get(current[0]) if current is not None else None
    if peer is None:
        kept.peers.pop(key, None)
        return
    access = node.accesses.get(peer.access) if peer.access else None
    since = node.up_since.get(key, node.now)
    named = (access.name, access.row) if access is not None else None
    want = node.wanted(peer, key) if named is not None else None
    wanted = want.key if want is not None else None
    kept.peers[key] = KeptPeer(key, peer, node.claims.of(peer.number), since, named, wanted)


def inherit(node: Node, kept: Kept, inbound: Mapping[int, Sa], bundles: Iterable[Bundle]) -> list[int]:
    """Take over what flows: a peer without an IKE SA for each neighbour that is still sent to, with a number below 0. Returns
    the SPIs in the SAD that belong to none of them."""
    if kept.pools is not None:
        for name, lease in kept.pools.leases():
            node.pools.restore([(name, lease.address, lease.holder, lease.text, lease.since)])
    by_key: dict[SaKey, list[Sa]] = {}
    for sa in inbound.values():
        by_key.setdefault(sa.key, []).append(sa)
    taken: set[int] = set()
    for order, bundle in enumerate(list(bundles), 1):
        outbound, was = bundle.outbound, kept.peers.get(bundle.key)
        if outbound is None or was is None or _over(outbound, node.now):
            continue
        sas = by_key.get(bundle.key, [])
        _take_over(node, -order, was, outbound, sas)
        taken.update(sa.spi for sa in sas)
    for key in list(kept.peers):
        keep(node, kept, key)
    return [spi for spi in inbound if spi not in taken]


def _over(sa: Sa, now: float) -> bool:
    return bool(sa.hard_time) and sa.hard_time <= now


def _take_over(node: Node, number: int, was: KeptPeer, outbound: Sa, inbound: list[Sa]) -> None:
    before = was.peer
    peer = Peer(
        number,
        before.ends,
        before.initiator,
        before.since,
        profile=before.profile,
        ipsec=before.ipsec,
        key=before.key,
        home=before.home,
        identity=before.identity,
        text=before.text,
        holder=before.holder,
        established=before.established,
        policy=before.policy,
        accept=before.accept,
        interface=was.key.interface,
        template=before.template,
        leases=list(before.leases),
        assigned=before.assigned,
        received=before.received,
        attributes=before.attributes,
        set_attributes=before.set_attributes,
        routes=before.routes,
        lingers=True,
    )
    pair = next((sa for sa in inbound if sa.child == outbound.child), None)
    if pair is not None:
        peer.children[outbound.child] = Child(was.key, outbound.child, pair, outbound, was.since)
    for sa in inbound:
        peer.inbound.add(sa.spi)
        node.esp_spis[sa.spi] = number
    peer.outbound.add((was.key, outbound.spi))
    node.carriers.put(number, outbound)
    node.up_since[was.key] = was.since
    node.enter(peer)
    node.by_holder.setdefault(peer.holder, set()).add(number)
    node.by_interface.setdefault(peer.interface, set()).add(number)
    if was.access is not None:
        name, row = was.access
        access = node.accesses.take(peer.holder, number, row, peer.text, was.since, name=name)
        peer.access = access.name if access is not None else ""
    if peer.received:
        node.received[peer.interface] = peer.received
    if was.wanted is not None:
        node.expected[was.wanted] = peer.ends.vrf
        node.touch(was.wanted)
    for pool_name, address in peer.leases:
        if (pool := node.pools.get(pool_name)) is not None and pool.contains(address):
            pool.lease(_holder(peer), peer.text, number, node.now, wish=address)
    node.claims.hold(number, was.rows, peer.holder)
    hard = [sa.hard_time for sa in (outbound, *inbound) if sa.hard_time]
    node.timers.set(("inherited", number), max(hard) if hard else node.now + DAY)
    node.touch(was.key)


DAY = 86400.0
"""Seconds that an inherited SA without a limit of its own stands at most."""


def _holder(peer: Peer) -> bytes:
    return peer.holder[0].encode() + b"\0" + peer.holder[1]
