"""What the configuration means for one neighbour: its peer group merged in, its families, its TTLs, what needs a reset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeVar

from attrs import NOTHING, Factory, evolve, fields

from bgp.config import BgpConfig, ConnectionMode, ListenRange, NeighborConfig, NeighborFamily, Timers
from bgp.wire import IPV4_UNICAST, IPV6_UNICAST, Family
from stack.addr import DEFAULT_VRF, Afi, Prefix, Safi

__all__ = [
    "Ear",
    "HopLimits",
    "hop_limits",
    "listen_range",
    "listeners",
    "merged",
    "must_be_connected",
    "needs_reset",
    "session_families",
    "session_sources",
    "session_timers",
    "update_sources",
]

T = TypeVar("T", NeighborConfig, NeighborFamily)

_OWN = {"address", "vrf", "peer_group", "description", "families"}
"""Fields that a neighbour never takes from its peer group, or not as a whole."""

_RESETTING = ("remote_as", "update_source", "ebgp_multihop", "ttl_security", "mode", "password")
"""Fields whose change ends a session; that of the others counts from now on, or from the next session on."""


class HopLimits(NamedTuple):
    """TTLs of one connection: what is sent, and the least that is accepted (0: any)."""

    sent: int
    accepted: int


def merged(config: BgpConfig, neighbor: NeighborConfig) -> NeighborConfig:
    """`neighbor` with what it leaves open taken from its peer group. A value equal to the default counts as left open."""
    group = config.peer_groups.get(neighbor.peer_group)
    if group is None:
        return neighbor
    families = dict(group.families)
    for family, own in neighbor.families.items():
        shared = group.families.get(family)
        families[family] = own if shared is None else _laid_over(own, shared, {"activate"})
    return evolve(_laid_over(neighbor, group, _OWN), families=families)


def _laid_over(own: T, shared: T, keep: set[str]) -> T:
    taken = {
        one.name: getattr(shared, one.name)
        for one in fields(type(own))
        if one.name not in keep and getattr(own, one.name) == _default(one.default)
    }
    return evolve(own, **taken)


def _default(default: object) -> object:
    if isinstance(default, Factory):  # type: ignore[arg-type]  # Factory is declared as a function to type checkers
        return default.factory()  # type: ignore[attr-defined]  # as above
    return default if default is not NOTHING else None


def session_families(config: BgpConfig, neighbor: NeighborConfig) -> frozenset[Family]:
    """The families to offer to `neighbor` (merged). Where nothing is said, IPv4 unicast is on in the default VRF unless
    `no bgp default ipv4-unicast`, and in a VRF the family of the neighbour's own address."""
    families = {Family(*family) for family, one in neighbor.families.items() if one.activate}
    if neighbor.vrf == DEFAULT_VRF:
        said = (Afi.IPV4, Safi.UNICAST) in neighbor.families
        if config.default_ipv4_unicast and not said and len(neighbor.address) != 16:
            families.add(IPV4_UNICAST)
    elif not neighbor.families:
        families.add(IPV4_UNICAST if len(neighbor.address) == 4 else IPV6_UNICAST)
    return frozenset(families)


def session_timers(config: BgpConfig, neighbor: NeighborConfig) -> Timers:
    return neighbor.timers or config.timers


def hop_limits(neighbor: NeighborConfig, *, ibgp: bool) -> HopLimits:
    """RFC 5082 3 with ttl-security: sent with 255, accepted from so many hops away at most."""
    if neighbor.ttl_security:
        return HopLimits(255, 256 - neighbor.ttl_security)
    if ibgp:
        return HopLimits(255, 0)
    return HopLimits(neighbor.ebgp_multihop or 1, 0)


def must_be_connected(neighbor: NeighborConfig, *, ibgp: bool) -> bool:
    """Whether the neighbour has to be on a subnet of ours: eBGP without multihop."""
    return not ibgp and neighbor.ebgp_multihop <= 1 and neighbor.ttl_security <= 1


def needs_reset(
    old: tuple[BgpConfig, NeighborConfig],
    new: tuple[BgpConfig, NeighborConfig],
) -> bool:
    """Whether going from the one merged configuration to the other ends the session."""
    if (old[0].asn, old[0].router_id, old[0].port) != (new[0].asn, new[0].router_id, new[0].port):
        return True
    if session_families(*old) != session_families(*new):
        return True
    return any(getattr(old[1], name) != getattr(new[1], name) for name in _RESETTING)


def listen_range(config: BgpConfig, vrf: str, remote: bytes) -> tuple[ListenRange, NeighborConfig] | None:
    """The most specific listen range that `remote` is in, and its peer group as a neighbour's configuration."""
    best: ListenRange | None = None
    groups: Mapping[str, NeighborConfig] = config.peer_groups
    for one in config.listen_ranges:
        group = groups.get(one.peer_group)
        if group is None or group.vrf != vrf or not one.prefix.covers(remote):
            continue
        if best is None or one.prefix.length > best.prefix.length:
            best = one
    if best is None:
        return None
    return best, evolve(groups[best.peer_group], address=remote, peer_group=best.peer_group, description="")


def session_sources(config: BgpConfig) -> dict[str, str]:
    """Interface -> how BGP uses it as its own end. Those of VPN neighbours if there are any, else of all in the default
    VRF: the L3VPN transport source follows them."""
    neighbors = [merged(config, one) for one in (*config.neighbors.values(), *_groups_in_use(config))]
    globals_ = [one for one in neighbors if one.vrf == DEFAULT_VRF and one.update_source]
    vpn = [one for one in globals_ if any(family.vpn for family in session_families(config, one))]
    sources = dict.fromkeys((one.update_source for one in vpn or globals_), "update-source")
    if config.next_hop_interface:
        sources[config.next_hop_interface] = "bgp next-hop"
    return sources


def update_sources(config: BgpConfig) -> frozenset[str]:
    """Every interface that an `update-source` names."""
    return frozenset(one.update_source for one in (*config.neighbors.values(), *config.peer_groups.values()))


def _groups_in_use(config: BgpConfig) -> list[NeighborConfig]:
    used = {one.peer_group for one in config.listen_ranges}
    return [group for name, group in config.peer_groups.items() if name in used]


class Ear(NamedTuple):
    """What a listener in one VRF must know: the passwords of those who may connect, and the least TTL to accept.

    The TTL is that of the least demanding neighbour. `hops` are the rules of those who demand more (RFC 5082 3), and of
    exceptions inside their prefixes; connections that are let in get the rule of their own then.
    """

    keys: tuple[tuple[Prefix, bytes], ...]
    min_ttl: int
    hops: tuple[tuple[Prefix, int], ...] = ()


def listeners(config: BgpConfig) -> dict[str, Ear]:
    """VRF -> how to listen there; VRFs where nobody may connect are not in it."""
    keys: dict[str, list[tuple[Prefix, bytes]]] = {}
    rules: dict[str, dict[Prefix, int]] = {}
    for where, one in _who_connects(config):
        rules.setdefault(one.vrf, {})[where] = hop_limits(one, ibgp=one.remote_as == config.asn).accepted
        keys.setdefault(one.vrf, []).extend([(where, one.password.encode())] if one.password else [])
    return {vrf: Ear(tuple(keys[vrf]), min(least.values()), _demanding(least)) for vrf, least in rules.items()}


def _demanding(rules: Mapping[Prefix, int]) -> tuple[tuple[Prefix, int], ...]:
    """The rules that a listener for all does not keep by itself."""
    least = min(rules.values())
    strict = {where: ttl for where, ttl in rules.items() if ttl > least}
    ranges = [where for where in strict if where.length < 8 * len(where.network)]
    eased = {where: ttl for where, ttl in rules.items() if ttl == least and any(one.contains(where) for one in ranges)}
    return tuple(sorted({**strict, **eased}.items()))


def _who_connects(config: BgpConfig) -> Iterator[tuple[Prefix, NeighborConfig]]:
    for (_, address), neighbor in config.neighbors.items():
        one = merged(config, neighbor)
        if one.mode is not ConnectionMode.ACTIVE:
            yield Prefix.host(address), one
    for ranged in config.listen_ranges:
        group = config.peer_groups.get(ranged.peer_group)
        if group is not None:
            yield ranged.prefix, group
