"""`IkeSa.snapshot`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ikev2.engine.children import Child, ChildState
from ikev2.engine.sastate import ChildSaSnapshot, IkeSaSnapshot

if TYPE_CHECKING:
    from ikev2.engine.core import Core

__all__ = ["view"]


def view(sa: Core) -> IkeSaSnapshot:
    terms = sa.terms
    return IkeSaSnapshot(
        number=sa.number,
        initiator=sa.initiator,
        state=sa.state,
        ends=sa.ends,
        initiator_spi=sa.spi_i,
        responder_spi=sa.spi_r,
        since=sa.since,
        established=sa.established,
        profile=terms.profile if terms else "",
        local=terms.local if terms else None,
        remote=sa.peer,
        suite=sa.suite,
        auth_own=sa.auth_own,
        auth_peer=sa.auth_peer,
        certificate=sa.certificate,
        lifetime=terms.lifetime if terms else 0.0,
        rekey_at=sa.rekey_at or None,
        expires_at=sa.expires_at or None,
        dpd=terms.dpd if terms else None,
        fragmentation=sa.fragmentation,
        fragmentation_mtu=(sa.settings.fragmentation_mtu or 0) if sa.fragmentation else 0,
        nat_own=sa.nat_own,
        nat_peer=sa.nat_peer,
        next_own=sa.next_own,
        next_peer=sa.next_peer,
        queued=len(sa.queue) + len(sa.pending),
        retransmissions=sa.retransmissions,
        window=sa.peer_window,
        last_heard=sa.heard,
        vendor_ids=sa.vendor_ids,
        children=tuple(_child(child) for child in sa.children.values()),
        drops=dict(sa.drops),
    )


def _child(child: Child) -> ChildSaSnapshot:
    return ChildSaSnapshot(
        key=child.terms.key,
        number=child.number,
        inbound=child.inbound,
        outbound=child.outbound if child.carries else None,
        peer_spi=child.outbound.spi,
        since=child.since,
        soft_time=child.soft_time,
        hard_time=child.hard_time,
        group=child.agreed.group,
        replaced=child.redundant or child.state in {ChildState.REPLACED, ChildState.DELETING},
    )
