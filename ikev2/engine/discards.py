"""Where packets to an overlay address end that nobody holds: routes to nowhere for the pools that peers are given theirs from.

Without them such a packet would follow the default route of the node, in clear, to wherever that leads. Whoever holds an
address has a route of its own, which is longer, or takes the place of the discard; so do routes of the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ikev2.config import Ikev2Config, IpPool
from ikev2.engine.pools import MAX_POOL
from stack.addr import Prefix
from stack.events import Route

__all__ = ["DISCARD", "MAX_DISCARDS", "Discarded", "covering", "discards", "pools_of", "prefixes_of"]

DISCARD = Route(250, (), "static")

MAX_DISCARDS = 1024
"""Prefixes of all pools in all VRFs. Those of one pool of IPv4 addresses are 62 at most."""

Discarded = tuple[str, Prefix]
"""VRF and prefix."""


def covering(first: bytes, last: bytes) -> Iterator[Prefix]:
    """The fewest prefixes that cover a range of addresses, and nothing else."""
    bits = len(first) * 8
    low, high = int.from_bytes(first), int.from_bytes(last)
    while low <= high:
        size = min((low & -low).bit_length() - 1 if low else bits, (high - low + 1).bit_length() - 1)
        yield Prefix.of(low.to_bytes(bits // 8), bits - size)
        low += 1 << size


def prefixes_of(pool: IpPool) -> tuple[Prefix, ...]:
    """Of a large IPv6 range none: it is a whole subnet, which other routes may be part of."""
    if len(pool.first) != len(pool.last):
        return ()
    if len(pool.first) == 16 and int.from_bytes(pool.last) - int.from_bytes(pool.first) >= MAX_POOL:
        return ()
    return tuple(covering(pool.first, pool.last))


def pools_of(config: Ikev2Config) -> Mapping[str, tuple[str, ...]]:
    """IKE profile -> pools that its peers may be given an address of."""
    found: dict[str, tuple[str, ...]] = {}
    for profile in config.profiles.values():
        policies = [config.authorization_policies.get(aaa.policy) for aaa in profile.aaa]
        names = [name for policy in policies if policy is not None for name in (policy.pool, policy.ipv6_pool)]
        found[profile.name] = tuple(dict.fromkeys(name for name in names if name in config.pools))
    return found


def discards(config: Ikev2Config, places: Mapping[str, Iterable[str]]) -> frozenset[Discarded]:
    """`places`: IKE profile -> VRFs that its peers' interfaces are in."""
    found: dict[Discarded, None] = {}
    for profile, names in pools_of(config).items():
        for name in names:
            for prefix in prefixes_of(config.pools[name]):
                found.update(dict.fromkeys((vrf, prefix) for vrf in sorted(places.get(profile, ()))))
    return frozenset(list(found)[:MAX_DISCARDS])
