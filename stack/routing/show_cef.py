"""`show ip cef`, `show ipv6 cef`: the FIB, from a leaf down to the octets' way out. Pure renderers, and their commands.

A leaf is first followed to plain steps (`chain_of`), which are the JSON value; text is made of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

from stack.addr import (
    DEFAULT_VRF,
    Afi,
    LabelStack,
    Prefix,
    PrefixFec,
    ReservedLabel,
    SwapFec,
    format_address,
    parse_address,
)
from stack.events import AdjacencyKey, BindingOffered, InterfaceKind, NextHopKey
from stack.ios.command import Command, CommandError, Scene, Shown
from stack.tables import Tables
from stack.tables.fib import Leaf, LeafKind
from stack.tables.lfib import Nhlfe
from stack.tables.nexthop import NextHop

__all__ = ["CEF_COMMANDS", "cef_by_interface", "cef_entry", "cef_table", "chain_of", "known_vrf"]

MAX_STEPS = 32
"""Steps of a chain that are shown."""

Chain = list[dict[str, Any]]

Bindings = Mapping[tuple[str, Prefix, bytes], LabelStack]
"""Labels of others: (vrf, prefix, next hop; empty: any) -> what they want to see; (3,) is implicit null."""

_IMPLICIT: LabelStack = (int(ReservedLabel.IMPLICIT_NULL),)


def known_vrf(scene: Scene, values: Mapping[str, Any]) -> str:
    """The VRF that a command names ('default' and none: the global table). Raises CommandError if there is none such."""
    name: str = values.get("vrf", DEFAULT_VRF)
    if scene.tables.fib.get(name) is not None:
        return name
    if name == "default":
        return DEFAULT_VRF
    raise CommandError(f"there is no VRF {name}; there are: {', '.join(sorted(filter(None, scene.tables.fib.fibs)))}")


def _v(address: bytes) -> str:
    return "IPv4" if len(address) in {0, 4} else "IPv6"


def _table(vrf: str) -> str:
    return vrf or "Default"


def _labels(labels: LabelStack, *, implicit: bool = False) -> str:
    words = [f"label {label}" for label in labels]
    return " ".join([*words, *(["label implicit-null"] if implicit else [])])


# --- from a leaf to its way out ---------------------------------------------------------------------------------------


def chain_of(tables: Tables, prefix: Prefix, leaf: Leaf) -> Chain:
    """The steps that packets for `prefix` take: recursive look-ups, then an adjacency, then a tunnel's own way out."""
    if leaf.kind is LeafKind.RECEIVE:
        return [{"type": "receive", "interface": leaf.interface}]
    if leaf.kind is LeafKind.DISCARD:
        return [{"type": "discard", "interface": "Null0"}]
    if leaf.kind is LeafKind.ATTACHED:
        host = prefix.length == len(prefix.network) * 8
        step = {"type": "attached host" if host else "attached prefix", "interface": leaf.interface}
        if host and AdjacencyKey(leaf.interface, prefix.network) in tables.adjacencies.rows:
            step["neighbour"] = format_address(prefix.network)  # one of several behind that interface
        return [{**step, "labels": list(leaf.labels)}]
    hop = tables.nexthops.get(leaf.next_hop)
    if hop is None:
        return [{"type": "unresolved", "next-hop-id": leaf.next_hop, "reason": "its next hop is gone"}]
    return _next_hop_steps(tables, leaf, hop)


def _next_hop_steps(tables: Tables, leaf: Leaf, hop: NextHop) -> Chain:
    key = hop.key
    base = {"next-hop-id": leaf.next_hop, "labels": list(leaf.labels), "must-be-labelled": key.labelled}
    if hop.adjacency is None:
        return [{**base, "type": "unresolved", "address": format_address(key.address), "reason": hop.reason}]
    direct = not key.address or bool(key.interface and not key.encap)
    address = hop.adjacency.address or (key.address if direct else b"")
    last = {
        "type": "attached nexthop" if address else "attached host",
        "interface": hop.adjacency.interface,
        "address": format_address(address) if address else "",
        "point-to-point": not hop.adjacency.address,
        "labels": list(hop.labels),
        "implicit-null": key.labelled and not hop.labels and not key.encap,
    }
    if hop.reason:
        last["dropped"] = hop.reason  # a protected tunnel that cannot be sent to
    if direct:
        return [{**base, **last, "labels": [*hop.labels, *leaf.labels]}]
    vrf, covering = _terminal(tables, key)
    if covering is not None and covering.length < len(key.address) * 8 and not key.encap:
        last["type"] = "attached nexthop"
    recursive = {
        **base,
        "type": "recursive",
        "address": format_address(key.address),
        "vrf": vrf,
        "terminal-prefix": str(covering) if covering is not None else None,
        "encapsulation": key.encap,
        "look-ups": list(hop.path),
    }
    return [recursive, last]


def _terminal(tables: Tables, key: NextHopKey) -> tuple[str, Prefix | None]:
    """The table that a next hop is looked up in, and the prefix that covers it there."""
    vrf = key.vrf
    if key.encap:
        interface = next((i for i in tables.interfaces if i.row.internal and i.row.vrf), None)
        vrf = interface.row.vrf if interface is not None else f"l3vpn {key.encap}"
    fib = tables.fib.get(vrf)
    found = fib.match(key.address) if fib is not None else None
    return vrf, found[0] if found else None


def _way_out(tables: Tables, interface: str, address: bytes, *, labelled: bool) -> str:
    """`IP adj out of Ethernet0/0, addr A`, under a tunnel's midchain if the interface is a tunnel."""
    adjacency = tables.adjacencies.get(AdjacencyKey(interface, address))
    if adjacency is None or not adjacency.destination:
        return _adjacency("IP adj", interface, address)
    under = _outer(tables, adjacency.destination)
    chain = _adjacency(f"{'TAG' if labelled else 'IP'} midchain", interface, address)
    return f"{chain} {under}".rstrip()


def _adjacency(kind: str, interface: str, address: bytes) -> str:
    """`TAG midchain out of Tunnel0 F5706948`."""
    far = f", addr {format_address(address)}" if address else ""
    return f"{kind} out of {interface}{far} {_hex(_number(interface, address, kind), 6)}"


def _number(interface: str, address: bytes, kind: str = "") -> int:
    """A number for what has no id: the same thing has the same one."""
    return crc32(f"{kind} {interface} {address.hex()}".encode()) % 0x1F000


def _outer(tables: Tables, destination: bytes) -> str:
    """How a tunnel's outer packets leave."""
    fib = tables.fib.get(DEFAULT_VRF)
    leaf = fib.lookup(destination) if fib is not None else None
    if leaf is None:
        return ""
    if leaf.kind is LeafKind.ATTACHED:
        return _adjacency("IP adj", leaf.interface, destination)
    hop = tables.nexthops.get(leaf.next_hop)
    if hop is None or hop.adjacency is None:
        return ""
    return _adjacency("IP adj", hop.adjacency.interface, hop.adjacency.address)


# --- show ip cef ------------------------------------------------------------------------------------------------------


def _sorted(tables: Tables, vrf: str, afi: Afi) -> list[tuple[Prefix, Leaf]]:
    fib = tables.fib.get(vrf)
    return sorted(fib.items(afi)) if fib is not None else []


def cef_table(tables: Tables, vrf: str, afi: Afi) -> Shown:
    """All prefixes of a VRF: one line each."""
    lines = [f"{'Prefix':<20} {'Next Hop':<20} Interface"]
    value = []
    for prefix, leaf in _sorted(tables, vrf, afi):
        chain = chain_of(tables, prefix, leaf)
        last = chain[-1]
        where = {"receive": "receive", "discard": "discard", "unresolved": "unresolved"}.get(last["type"])
        where = where or chain[0].get("address") or "attached"
        lines.append(f"{prefix!s:<20} {where:<20} {last.get('interface', '')}".rstrip())
        value.append({"prefix": str(prefix), "vrf": vrf, "kind": leaf.kind.name.lower(), "chain": chain})
    return Shown("\n".join(lines), value)


def cef_by_interface(tables: Tables, vrf: str, afi: Afi, interface: str) -> Shown:
    """The prefixes that leave by `interface`, with next hop and labels, below the mGRE document's blank line."""
    lines: list[str] = []
    value = []
    for prefix, leaf in _sorted(tables, vrf, afi):
        chain = chain_of(tables, prefix, leaf)
        last = chain[-1]
        if last.get("interface") != interface or last["type"] == "receive":
            continue
        labels = [label for step in reversed(chain) for label in step.get("labels", ())]
        address = chain[0].get("address") or last.get("address", "")
        words = f"nexthop {address} {interface}" if address else f"attached to {interface}"
        lines += [str(prefix), f"    {words}{' ' + _label_words(labels) if labels else ''}"]
        value.append({"prefix": str(prefix), "vrf": vrf, "next-hop": address, "interface": interface, "labels": labels})
    return Shown("\n".join(["", *lines]), value)


def _label_words(labels: list[int]) -> str:
    return "label " + " ".join(map(str, labels))


def cef_entry(tables: Tables, vrf: str, prefix: Prefix, bindings: Bindings | None = None) -> Shown:
    """One prefix, in full: where it comes from, what labels it carries, and every step of its way out."""
    fib = tables.fib.get(vrf)
    found = fib.match(prefix.network) if fib is not None else None
    exact = fib.get(prefix) if fib is not None else None
    if exact is not None:
        found = prefix, exact
    if found is None or found[0].length > prefix.length:
        raise CommandError(f"no FIB entry covers {prefix} in {f'VRF {vrf}' if vrf else 'the default table'}")
    prefix, leaf = found
    chain = chain_of(tables, prefix, leaf)
    entry = tables.rib.get(vrf, prefix)
    best = entry.best() if entry is not None else None
    override = entry.override if entry is not None else None
    local = [label for label, row in sorted(tables.lfib.rows.items()) if _is_of(tables, row, vrf, prefix)]
    remote = _remote(tables, vrf, prefix, leaf, chain[-1], bindings or {})
    if remote == _IMPLICIT:
        chain[-1]["neighbour-label"] = "implicit-null"
    count = len(entry.candidates) if entry is not None else 0
    value = {
        "prefix": str(prefix),
        "vrf": vrf,
        "kind": leaf.kind.name.lower(),
        "source": best.owner if best else None,
        "override": override.owner if override else None,
        "local-labels": local,
        "remote-labels": ["implicit-null" if label == _IMPLICIT[0] else label for label in remote or ()],
        "refcount": 2 + count + len(local) + (leaf.kind is LeafKind.FORWARD),
        "chain": chain,
        "output": _output(tables, chain),
    }
    return Shown("\n".join(_entry_lines(prefix, leaf, value, best.route.kind if best else "")), value)


def _entry_lines(prefix: Prefix, leaf: Leaf, value: Mapping[str, Any], kind: str) -> list[str]:
    local = value["local-labels"]
    code = f"RIB[{kind_code(kind)}], " if kind else ""
    flags = "attached, connected, " if leaf.kind is LeafKind.ATTACHED else ""
    flags = "receive, " if leaf.kind is LeafKind.RECEIVE else flags
    flags += "rib defined all labels, " if leaf.labels else ""
    flags = f"flags {flags}" if flags else ""
    lines = [f"{prefix}, epoch 0, {flags}{code}refcount {value['refcount']}, per-destination sharing"]
    lines.append(f"  sources: RIB{', LTE' if local else ''}")
    extended = any(step.get("labels") or step.get("implicit-null") for step in value["chain"]) or value["remote-labels"]
    if extended or local:
        lines += ["  feature space:", "   IPRM: 0x00018000"]
        lines.append(f"   LFD: {prefix} {len(local)} local label{'' if len(local) == 1 else 's'}")
        lines += [f"   local label info: other/{label}" for label in local]
        if extended:
            lines.append("        contains path extension list")
        lines += [f"        {what} chain 0x{_hex(label, 3)}" for label in local for what in _CHAINS]
    lines.append("  ifnums: (none)")
    for depth, step in enumerate(value["chain"]):
        lines += _step_lines(step, prefix, depth)
    if value["output"]:
        lines.append(f"  output chain: {value['output']}")
    return lines


_CHAINS = ("disposition", "label switch")


def _is_of(tables: Tables, row: Nhlfe, vrf: str, prefix: Prefix) -> bool:
    """Whether a label of ours is that prefix's: a VPN route that is told on with our label belongs to the VRF of its RD."""
    if not isinstance(row.fec, PrefixFec | SwapFec) or row.fec.prefix != prefix:
        return False
    if row.vrf == vrf:
        return True
    known = tables.vrfs.get(vrf) if vrf and isinstance(row.fec, SwapFec) else None
    return known is not None and isinstance(row.fec, SwapFec) and known.rd == row.fec.rd


def _remote(
    tables: Tables, vrf: str, prefix: Prefix, leaf: Leaf, last: Mapping[str, Any], bindings: Bindings
) -> LabelStack | None:
    """What the neighbour wants to see on labelled packets to a host that it is itself, or None: its binding, or implicit null
    of the far end of a tunnel that takes labels (it and we are each other's next hop)."""
    host = prefix.length == len(prefix.network) * 8
    if not host or leaf.kind not in (LeafKind.FORWARD, LeafKind.ATTACHED) or not last["type"].startswith("attached"):
        return None
    for hop in (prefix.network, b""):
        if (labels := bindings.get((vrf, prefix, hop))) is not None:
            return labels
    interface = tables.interfaces.get(last["interface"])
    tunnel = interface is not None and interface.row.kind is InterfaceKind.TUNNEL and interface.row.mpls
    return _IMPLICIT if tunnel and not last.get("labels") else None


def kind_code(kind: str) -> str:
    """The letter of a route's source, as in `show ip route`."""
    letters = {"connected": "C", "local": "L", "static": "S", "nhrp": "H"}
    return letters.get(kind, "B" if "bgp" in kind else kind[:1].upper())


def _hex(number: int, salt: int) -> str:
    """IOS prints addresses of structures here. Ours are made of the ids: the same thing has the same one."""
    return f"{0xF0000000 + salt * 0x1000000 + number * 0x88:08X}"


def _step_lines(step: Mapping[str, Any], prefix: Prefix, depth: int) -> list[str]:
    number = step.get("next-hop-id") or _number(step.get("interface", ""), step.get("address", "").encode())
    family = _v(prefix.network)
    flags = ", flags must-be-labelled" if step.get("must-be-labelled") else ""
    pad = " " * (2 + depth)
    lines = [
        f"{pad}path {_hex(number, 1)}, path list {_hex(number, 2)}, share 1/1, type {step['type']}, for {family}{flags}"
    ]
    labels, implicit = step.get("labels", ()), step.get("implicit-null", False)
    implicit = implicit or "neighbour-label" in step
    if labels or implicit:
        flag = "0x1" if implicit else "0x0"
        lines.append(f"{pad} MPLS short path extensions: MOI flags = {flag} {_labels(labels, implicit=implicit)}")
    lines.append(f"{pad} {_step_words(step, number)}")
    return lines


def _step_words(step: Mapping[str, Any], number: int) -> str:
    kind, interface = step["type"], step.get("interface", "")
    if kind == "recursive":
        address = step["address"]
        family = "v4" if ":" not in address else "v6"
        labels = f" {_labels(step['labels'])}" if step["labels"] else ""
        table = _table(step["vrf"])
        where = f"{address}[{'IPv4' if family == 'v4' else 'IPv6'}:{table}]"
        terminal = (
            f"1 terminal fib, {family}:{table}:{step['terminal-prefix']}" if step["terminal-prefix"] else "no fib"
        )
        return f"recursive via {where}{labels}, fib {_hex(number, 4)}, {terminal}"
    if kind == "receive":
        return f"receive for {interface}"
    if kind == "discard":
        return "discard"
    if kind == "unresolved":
        return f"unresolved: {step['reason']}"
    midchain = "midchain" if interface.startswith(("Tunnel", "Virtual")) else "adj"
    way = f"adjacency IP {midchain} out of {interface}"
    if step.get("address"):
        far = "" if step.get("point-to-point") else f", addr {step['address']}"
        return f"nexthop {step['address']} {interface}, {way}{far} {_hex(number, 5)}"
    far = f", addr {step['neighbour']}" if "neighbour" in step else ""
    return f"attached to {interface}, {way}{far} {_hex(number, 5)}"


def _output(tables: Tables, chain: Chain) -> str:
    """What happens to a packet, in order: labels, then the adjacency, then what is under a tunnel."""
    last = chain[-1]
    if last["type"] in {"receive", "discard", "unresolved"}:
        return ""
    if last.get("dropped"):
        return f"drop ({last['dropped']})"
    words = [f"label {label}" for step in chain for label in reversed(step.get("labels", ()))]
    if last.get("implicit-null"):
        words.append("label implicit-null")
    address = last.get("address") or last.get("neighbour", "")
    octets = parse_address(address) if address else b""
    octets = b"" if last.get("point-to-point") else octets
    words.append(_way_out(tables, last["interface"], octets, labelled=bool(words)))
    return " ".join(words)


# --- commands ---------------------------------------------------------------------------------------------------------


def _bindings(scene: Scene) -> Bindings:
    if scene.bus is None:
        return {}
    return {key: labels for held in scene.bus.rows(BindingOffered).values() for key, labels in held.items()}


def _cef(scene: Scene, values: Mapping[str, Any], afi: Afi) -> Shown:
    vrf = known_vrf(scene, values)
    if "tunnel" in values:
        name = f"Tunnel{values['tunnel']}"
        if name not in scene.tables.interfaces.rows:
            raise CommandError(f"there is no interface {name}")
        return cef_by_interface(scene.tables, vrf, afi, name)
    if "interface" in values:
        return cef_by_interface(scene.tables, vrf, afi, values["interface"])
    if "prefix" in values:
        return cef_entry(scene.tables, vrf, values["prefix"], _bindings(scene))
    if "address" in values:
        length = values.get("mask", len(values["address"]) * 8)
        return cef_entry(scene.tables, vrf, Prefix.of(values["address"], length), _bindings(scene))
    return cef_table(scene.tables, vrf, afi)


def _command(word: str, afi: Afi, address: str, prefix: str) -> tuple[Command, ...]:
    def run(scene: Scene, values: Mapping[str, Any]) -> Shown:
        return _cef(scene, values, afi)

    head = f"show {word} cef [vrf {{vrf:vrf}}]"
    return (
        Command(head, run, "the FIB: one line a prefix"),
        Command(f"{head} tunnel {{tunnel:int:0-2147483647}}", run, "what leaves by a tunnel, with labels"),
        Command(f"{head} ({address} | {{prefix:{prefix}}}) [internal | detail]", run, "one prefix and its way out"),
    )


CEF_COMMANDS: tuple[Command, ...] = (
    *_command("ip", Afi.IPV4, "{address:ipv4} [{mask:mask}]", "prefix4"),
    *_command("ipv6", Afi.IPV6, "{address:ipv6}", "prefix6"),
)
