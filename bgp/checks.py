"""What is legal but wrong in BGP's configuration, and what other packages' checks may want to know of it."""

from __future__ import annotations

from collections.abc import Iterator

from bgp.config import BgpConfig, NeighborConfig
from stack.addr import DEFAULT_VRF, Safi, format_address
from stack.config import NodeConfig
from stack.ios.grammar import Claim, Finding, Reference, Sections

__all__ = ["CHECKS"]

Said = Finding | Claim | Reference

_USUAL_LIMIT = BgpConfig().listen_limit
_NO_MAP = "a route map that does not exist"


def check_bgp(config: Sections) -> Iterator[Said]:
    bgp = config[BgpConfig]
    own = {(i.vrf, one.address) for i in config[NodeConfig].interfaces.values() for one in i.addresses if not one.eui64}
    for name, group in bgp.peer_groups.items():
        yield from _peer(name, group, bgp)
    for neighbor in bgp.neighbors.values():
        who = format_address(neighbor.address)
        yield from _peer(who, neighbor, bgp)
        if (neighbor.vrf, neighbor.address) in own:
            yield Finding("warning", f"neighbour {who} is an address of this node itself", f"neighbor {who}")
        group_as = bgp.peer_groups[neighbor.peer_group].remote_as if neighbor.peer_group in bgp.peer_groups else 0
        if not (neighbor.remote_as or group_as):
            yield Finding(
                "warning", f"neighbour {who} has no remote-as: there will be no session with it", f"neighbor {who}"
            )
    if bgp.listen_ranges and bgp.listen_limit == _USUAL_LIMIT:
        one = bgp.listen_ranges[0]
        text = f"a listen range without `bgp listen limit`: {_USUAL_LIMIT} sessions at most"
        yield Finding("warning", text, f"bgp listen range {one.prefix} peer-group {one.peer_group}")
    if bgp.next_hop_interface:
        line = f"bgp next-hop {bgp.next_hop_interface}"
        yield Claim("bgp-next-hop", bgp.next_hop_interface, line)
        yield Reference("interface", bgp.next_hop_interface, line, "the routes we send have no next hop")
    yield from _families(bgp)


def _families(bgp: BgpConfig) -> Iterator[Said]:
    for (afi, _, vrf), family in bgp.families.items():
        if vrf:
            line = f"address-family {'ipv4' if afi == 1 else 'ipv6'} vrf {vrf}"
            yield Reference("vrf", vrf, line, "what stands in it has no table", "error")
        for one in family.redistribute:
            if one.route_map:
                line = f"redistribute {one.source} route-map {one.route_map}"
                yield Reference("route-map", one.route_map, line, f"{_NO_MAP} redistributes nothing")
                yield Claim("route-map-used", one.route_map)
        for prefix, name in family.networks:
            if name:
                yield Reference(
                    "route-map", name, f"network {format_address(prefix.network)}", f"{_NO_MAP} passes nothing"
                )
                yield Claim("route-map-used", name)
    for _, vrf in bgp.label_modes:
        if vrf != "*":
            yield Reference("vrf", vrf, f"mpls label mode vrf {vrf}")


def _peer(who: str, neighbor: NeighborConfig, bgp: BgpConfig) -> Iterator[Said]:
    group = bgp.peer_groups.get(neighbor.peer_group, NeighborConfig())
    source = neighbor.update_source or group.update_source
    remote_as = neighbor.remote_as or group.remote_as
    families = {**group.families, **neighbor.families}
    vpn = any(safi is Safi.VPN and member.activate for (_, safi), member in families.items())
    line = f"neighbor {who} update-source {source}"
    if source and neighbor.vrf == DEFAULT_VRF:
        yield Reference("interface", source, line, "the session has no address of ours")
        if vpn:
            yield Claim("update-source", source, line)
    elif vpn and neighbor.address:
        text = f"VPN neighbour {who} has no update-source: the next hop of our routes is whatever address leads to it"
        yield Finding("note", text, f"neighbor {who} remote-as {remote_as}")
    external = remote_as not in (0, bgp.asn)
    hops = neighbor.ebgp_multihop or group.ebgp_multihop or neighbor.ttl_security or group.ttl_security
    if external and source.startswith("Loopback") and not hops and not bgp_listens(bgp, who):
        text = f"eBGP neighbour {who} is reached from {source} but without ebgp-multihop: packets die one hop away"
        yield Finding("warning", text, line)
    for family, member in families.items():
        if family[1] is Safi.VPN and member.activate and not member.send_extended:
            text = (
                f"no route target is sent to VPN neighbour {who}: it cannot import anything (`send-community extended`)"
            )
            yield Finding("warning", text, f"neighbor {who} activate")
    for member in neighbor.families.values():
        for name, way in ((member.route_map_in, "in"), (member.route_map_out, "out")):
            if name:
                yield Reference(
                    "route-map", name, f"neighbor {who} route-map {name} {way}", f"{_NO_MAP} passes nothing"
                )
                yield Claim("route-map-used", name)
        for name, way in ((member.prefix_list_in, "in"), (member.prefix_list_out, "out")):
            if name:
                means = "a prefix list that does not exist passes nothing"
                yield Reference("prefix-list", name, f"neighbor {who} prefix-list {name} {way}", means)


def bgp_listens(bgp: BgpConfig, group: str) -> bool:
    """Whether sessions of a peer group come in by a listen range, so that hops are the other side's matter."""
    return any(one.peer_group == group for one in bgp.listen_ranges)


CHECKS = (check_bgp,)
