"""The same as plain lists, dicts, strings and numbers. Field names after OpenConfig's BGP RIB where it has one."""

from __future__ import annotations

from typing import Any

from bgp.engine.rib.snapshot import NetView, PathView, TableView
from bgp.show.tables import next_hop_of
from bgp.show.words import community, extended_community, origin_word
from stack.addr import format_address

__all__ = ["net_value", "path_value", "table_value"]


def table_value(view: TableView) -> dict[str, Any]:
    value: dict[str, Any] = {
        "afi-safi": str(view.family),
        "table-version": view.version,
        "router-id": format_address(view.router_id),
    }
    if view.family.vpn:
        value["route-distinguishers"] = [
            {"route-distinguisher": str(rd.rd), "vrf": rd.vrf, "routes": [net_value(net) for net in rd.nets]}
            for rd in view.rds
        ]
    else:
        value["vrf"] = view.vrf or "default"
        value["routes"] = [net_value(net) for net in view.nets]
    return value


def net_value(net: NetView) -> dict[str, Any]:
    return {
        "prefix": str(net.prefix),
        "version": net.version,
        "advertised-to-update-groups": list(net.groups),
        "paths": [path_value(path) for path in net.paths],
    }


def path_value(path: PathView) -> dict[str, Any]:
    attributes = path.attributes
    return {
        "next-hop": next_hop_of(path),
        "next-hop-problem": path.hop_problem,
        "next-hop-metric": path.metric_to_hop,
        "neighbor-address": None if path.peer is None else format_address(path.peer[1]),
        "neighbor-vrf": None if path.peer is None else path.peer[0] or "default",
        "router-id": format_address(path.router_id),
        "type": "local" if path.peer is None else "external" if path.external else "internal",
        "best-path": path.best,
        "valid-route": path.valid,
        "stale": path.stale,
        "reason": None if path.reason is None else path.reason.name.lower().replace("_", "-"),
        "reason-text": "" if path.reason is None else path.reason.value,
        "reason-detail": path.detail,
        "origin": origin_word(path).lower(),
        "as-path": str(attributes.as_path),
        "as-path-asns": list(attributes.as_path.asns),
        "med": attributes.med,
        "local-pref": path.local_pref,
        "weight": path.weight,
        "communities": [community(one) for one in attributes.communities],
        "ext-communities": [extended_community(one) for one in attributes.ext_communities],
        "large-communities": [str(one) for one in attributes.large_communities],
        "originator-id": None if attributes.originator_id is None else format_address(attributes.originator_id),
        "cluster-list": [format_address(one) for one in attributes.cluster_list],
        "unknown-attributes": [
            {"type": one.code, "flags": one.flags, "value": one.value.hex()} for one in attributes.unknown
        ],
        "encapsulation-profile": path.encap,
        "label-in": path.in_label,
        "label-out": list(path.out_labels),
        "imported-from": path.imported_from,
    }
