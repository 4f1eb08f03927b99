"""`show ip cef`, `show ipv6 cef`: the FIB, from a leaf down to the octets' way out. Pure renderers, and their commands.

A leaf is first followed to plain steps (`chain_of`), which are the JSON value; text is made of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from zlib import crc32

from stack.addr import DEFAULT_VRF, Afi, LabelStack, Prefix, PrefixFec, SwapFec, format_address, parse_address
from stack.events import AdjacencyKey, NextHopKey
from stack.ios.command import Command, CommandError, Scene, Shown
from stack.tables import Tables
from stack.tables.fib import Leaf, LeafKind
from stack.tables.nexthop import NextHop

__all__ = ["CEF_COMMANDS", "cef_by_interface", "cef_entry", "cef_table", "chain_of", "known_vrf"]

MAX_STEPS = 32
"""Steps of a chain that are shown."""

Chain = list[dict[str, Any]]


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
        kind = "attached host" if prefix.length == len(prefix.network) * 8 else "attached prefix"
        return [{"type": kind, "interface": leaf.interface, "labels": list(leaf.labels)}]
    hop = tables.nexthops.get(leaf.next_hop)
    if hop is None:
        return [{"type": "unresolved", "next-hop-id": leaf.next_hop, "reason": "its next hop is gone"}]
    return _next_hop_steps(tables, leaf, hop)


def _next_hop_steps(tables: Tables, leaf: Leaf, hop: NextHop) -> Chain:
    key = hop.key
    base = {"next-hop-id": leaf.next_hop, "labels": list(leaf.labels), "must-be-labelled": key.labelled}
    if hop.adjacency is None:
        return [{**base, "type": "unresolved", "address": format_address(key.address), "reason": hop.reason}]
    last = {
        "type": "attached nexthop" if hop.adjacency.address else "attached host",
        "interface": hop.adjacency.interface,
        "address": format_address(hop.adjacency.address) if hop.adjacency.address else "",
        "labels": list(hop.labels),
        "implicit-null": key.labelled and not hop.labels and not key.encap,
    }
    if hop.reason:
        last["dropped"] = hop.reason  # a protected tunnel that cannot be sent to
    if not key.address or (key.interface and not key.encap):
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
    far = f", addr {format_address(address)}" if address else ""
    if adjacency is None or not adjacency.destination:
        return f"IP adj out of {interface}{far}"
    under = _outer(tables, adjacency.destination)
    return f"{'TAG' if labelled else 'IP'} midchain out of {interface}{far}{' ' + under if under else ''}"


def _outer(tables: Tables, destination: bytes) -> str:
    """How a tunnel's outer packets leave."""
    fib = tables.fib.get(DEFAULT_VRF)
    leaf = fib.lookup(destination) if fib is not None else None
    if leaf is None:
        return ""
    if leaf.kind is LeafKind.ATTACHED:
        return f"IP adj out of {leaf.interface}, addr {format_address(destination)}"
    hop = tables.nexthops.get(leaf.next_hop)
    if hop is None or hop.adjacency is None:
        return ""
    far = hop.adjacency.address
    return f"IP adj out of {hop.adjacency.interface}" + (f", addr {format_address(far)}" if far else "")


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


def cef_entry(tables: Tables, vrf: str, prefix: Prefix) -> Shown:
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
    local = [
        label
        for label, row in sorted(tables.lfib.rows.items())
        if row.vrf == vrf and isinstance(row.fec, PrefixFec | SwapFec) and row.fec.prefix == prefix
    ]
    count = len(entry.candidates) if entry is not None else 0
    value = {
        "prefix": str(prefix),
        "vrf": vrf,
        "kind": leaf.kind.name.lower(),
        "source": best.owner if best else None,
        "local-labels": local,
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
    if leaf.labels or local:
        lines += ["  feature space:", "   IPRM: 0x00018000"]
        lines.append(f"   LFD: {prefix} {len(local)} local label{'' if len(local) == 1 else 's'}")
        lines += [f"   local label info: other/{label}" for label in local]
        lines.append("        contains path extension list")
        lines += [f"        {what} chain 0x{_hex(label, 3)}" for label in local for what in _CHAINS]
    lines.append("  ifnums: (none)")
    for depth, step in enumerate(value["chain"]):
        lines += _step_lines(step, prefix, depth)
    if value["output"]:
        lines.append(f"  output chain: {value['output']}")
    return lines


_CHAINS = ("disposition", "label switch")


def kind_code(kind: str) -> str:
    """The letter of a route's source, as in `show ip route`."""
    letters = {"connected": "C", "local": "L", "static": "S", "nhrp": "H"}
    return letters.get(kind, "B" if "bgp" in kind else kind[:1].upper())


def _hex(number: int, salt: int) -> str:
    """IOS prints addresses of structures here. Ours are made of the ids: the same thing has the same one."""
    return f"{0xF0000000 + salt * 0x1000000 + number * 0x88:08X}"


def _step_lines(step: Mapping[str, Any], prefix: Prefix, depth: int) -> list[str]:
    number = step.get("next-hop-id") or crc32(f"{step.get('interface')} {step.get('address')}".encode()) % 0x1F000
    family = _v(prefix.network)
    flags = ", flags must-be-labelled" if step.get("must-be-labelled") else ""
    pad = " " * (2 + depth)
    lines = [
        f"{pad}path {_hex(number, 1)}, path list {_hex(number, 2)}, share 1/1, type {step['type']}, for {family}{flags}"
    ]
    labels, implicit = step.get("labels", ()), step.get("implicit-null", False)
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
    if step.get("address"):
        way = (
            f"IP midchain out of {interface}"
            if interface.startswith(("Tunnel", "Virtual"))
            else f"IP adj out of {interface}"
        )
        return f"nexthop {step['address']} {interface}, adjacency {way}, addr {step['address']} {_hex(number, 5)}"
    midchain = interface.startswith(("Tunnel", "Virtual"))
    return f"attached to {interface}, adjacency IP {'midchain' if midchain else 'adj'} out of {interface} {_hex(number, 5)}"


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
    address = last.get("address", "")
    octets = parse_address(address) if address else b""
    words.append(_way_out(tables, last["interface"], octets, labelled=bool(words)))
    return " ".join(words)


# --- commands ---------------------------------------------------------------------------------------------------------


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
        return cef_entry(scene.tables, vrf, values["prefix"])
    if "address" in values:
        length = values.get("mask", len(values["address"]) * 8)
        return cef_entry(scene.tables, vrf, Prefix.of(values["address"], length))
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
