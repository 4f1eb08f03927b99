"""`mpls static binding`: labels that no protocol carries. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from stack.addr import DEFAULT_VRF, LabelStack, Prefix, PrefixFec
from stack.events import SCOPE_ETHERNET, LabelRequest, NextHopKey, NextHopRow
from tunnel.config import StaticBinding

__all__ = ["next_hops", "offered", "wanted"]


def offered(bindings: Iterable[StaticBinding]) -> dict[tuple[str, Prefix, bytes], LabelStack]:
    """What to push towards a neighbour, for BindingOffered."""
    return {
        (DEFAULT_VRF, binding.prefix, binding.next_hop): (binding.output,)
        for binding in bindings
        if binding.output is not None
    }


def next_hops(bindings: Iterable[StaticBinding]) -> Iterable[NextHopKey]:
    """The ways on which locally labelled prefixes go on."""
    for binding in bindings:
        if binding.local is not None:
            yield NextHopKey(DEFAULT_VRF, binding.prefix.network, labelled=True)


def wanted(
    bindings: Iterable[StaticBinding], own: Collection[bytes], hops: Mapping[NextHopKey, NextHopRow]
) -> dict[PrefixFec, LabelRequest]:
    """Local labels, for LabelWanted: what arrives with one is popped here if the prefix is ours, else sent on its way (the
    next hop pushes the label that the next router wants: a swap). While there is no way, there is no label."""
    found: dict[PrefixFec, LabelRequest] = {}
    for binding in bindings:
        if binding.local is None:
            continue
        scope = frozenset({SCOPE_ETHERNET})
        hop = hops.get(NextHopKey(DEFAULT_VRF, binding.prefix.network, labelled=True))
        if binding.prefix.network in own:
            found[PrefixFec(DEFAULT_VRF, binding.prefix)] = LabelRequest(scope, 0, binding.local)
        elif hop is not None and hop.usable and hop.id:
            found[PrefixFec(DEFAULT_VRF, binding.prefix)] = LabelRequest(scope, hop.id, binding.local)
    return found
