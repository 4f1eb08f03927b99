"""The rows of a verdict. Each check looks at a running testbed and answers with what it saw; it fails by raising `Red`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import permutations
from typing import Any, NamedTuple

from stack.addr import Prefix, format_address, parse_address
from stack.lab.conduct import TROUBLE, Conduct, Red, Row, words_of
from stack.lab.scenario import Check, replaced
from stack.lab.spokes import idle, shortcut, shows, took

__all__ = ["KINDS", "judge"]

MPLS_ETHERTYPE = 0x8847
GRE, ESP, MPLS_IN_IP = 47, 50, 137

BURST = 50
"""Echoes between two looks at what is being rekeyed."""


async def judge(conduct: Conduct, check: Check) -> Row:
    """The row that a check comes to."""
    started = conduct.bed.now()
    try:
        seen = await KINDS[check.kind].look(conduct, check)
        ok = True
    except (Red, *TROUBLE) as trouble:
        seen, ok = str(trouble), False
    return Row(check.name, ok, seen, conduct.bed.now() - started)


async def sessions(conduct: Conduct, check: Check) -> str:
    wanted: Mapping[str, int] = check.words["nodes"]

    async def look_once() -> str:
        up = {node: _established(await conduct.bed.show(node, "show bgp summary")) for node in wanted}
        short = [f"{node}: {up[node]} of {count}" for node, count in wanted.items() if up[node] < count]
        if short:
            raise Red(f"established {', '.join(short)}")
        return f"{sum(up.values())} session ends established"

    return await conduct.until(check, look_once)


def _established(value: Any) -> int:
    """Peers that are up, in `show bgp summary`'s plain value."""
    peers = {
        (row["vrf"], row["neighbor-address"])
        for family in value
        for row in family["neighbors"]
        if row["session-state"] == "ESTABLISHED"
    }
    return len(peers)


async def _endpoints(conduct: Conduct, node: str) -> set[str]:
    value = await conduct.bed.show(node, "show tunnel endpoints")
    return {row["transport"] for tunnel in value for row in tunnel["endpoints"]}


async def endpoints(conduct: Conduct, check: Check) -> str:
    return await conduct.until(check, lambda: _look_endpoints(conduct, check, check.words["node"]))


async def _look_endpoints(conduct: Conduct, check: Check, node: str) -> str:
    seen = await _endpoints(conduct, node)
    listed = ", ".join(sorted(seen)) or "none"
    lacking = [address for address in check.words.get("present", []) if address not in seen]
    extra = [address for address in check.words.get("absent", []) if address in seen]
    if lacking:
        raise Red(f"{node} lacks {', '.join(lacking)}; it has {listed}")
    if extra:
        raise Red(f"{node} still has {', '.join(extra)}")
    return f"{node} has {listed}"


def _address(conduct: Conduct, host: str, family: int) -> str:
    size = 4 if family == 4 else 16
    texts = (text.partition("/")[0] for text in conduct.scenario.host[host].addresses)
    found = next((text for text in texts if len(parse_address(text)) == size), None)
    if found is None:
        raise Red(f"{host} has no IPv{family} address")
    return found


async def mesh(conduct: Conduct, check: Check) -> str:
    """Every host of a customer pings every other."""
    customer, family = check.words["customer"], check.words["family"]
    hosts = [name for name, host in conduct.scenario.host.items() if host.customer == customer]
    pairs = list(permutations(hosts, 2))
    if not pairs:
        raise Red(f"hosts of {customer}: {len(hosts)}, two are wanted to ping each other")
    addresses = {host: _address(conduct, host, family) for host in hosts}
    silent = list(pairs)

    async def look_once() -> str:
        pings = [conduct.ping(one, addresses[other]) for one, other in silent]
        answers = list(zip(silent, await asyncio.gather(*pings), strict=True))
        silent[:] = [pair for pair, answer in answers if not answer.ok]
        seen = f"{len(pairs) - len(silent)} of {len(pairs)} pairs"
        if silent:
            words = next(words_of(answer) for _, answer in answers if not answer.ok)
            raise Red(f"{seen}; {silent[0][0]} to {silent[0][1]}: {words}")
        return seen

    return await conduct.until(check, look_once)


async def _reach(conduct: Conduct, check: Check, host: str, destination: str) -> None:
    async def look_once() -> str:
        answer = await conduct.ping(host, destination)
        if not answer.ok:
            raise Red(f"{host} to {destination}: {words_of(answer)}")
        return ""

    await conduct.until(check, look_once)


async def ping(conduct: Conduct, check: Check) -> str:
    await _reach(conduct, check, check.words["host"], check.words["to"])
    return f"{check.words['host']} reaches {check.words['to']}"


async def unreachable(conduct: Conduct, check: Check) -> str:
    """The PE must say that there is no way. Silence would mean that the packet went somewhere, if not back again."""
    answer = await conduct.ping(check.words["host"], check.words["to"])
    if answer.kind == "timeout":  # answers about errors are rate limited: ask once more
        answer = await conduct.ping(check.words["host"], check.words["to"])
    if answer.ok:
        raise Red(f"{check.words['host']} reaches {check.words['to']}, answered by {answer.source}")
    if "unreachable" not in answer.kind:
        raise Red(f"nobody says that there is no way to {check.words['to']}: {words_of(answer)}")
    return words_of(answer)


async def path(conduct: Conduct, check: Check) -> str:
    """Echoes of growing TTL."""
    hops = []
    for ttl in range(1, len(check.words["hops"]) + 1):
        answer = await conduct.ping(check.words["host"], check.words["to"], ttl)
        if answer.kind == "timeout":  # answers about errors are rate limited: ask once more
            answer = await conduct.ping(check.words["host"], check.words["to"], ttl)
        hops.append(answer.source or answer.kind)
    if hops != check.words["hops"]:
        raise Red(" > ".join(hops))
    return " > ".join(hops)


async def encapsulation(conduct: Conduct, check: Check) -> str:
    """Which customer packets cross a link by LSP, and which by GRE; each must, and no other way."""
    lsp = [Prefix.parse(text) for text in check.words["lsp"]]
    seen = conduct.seen(check.words["link"])
    labelled = [frame for frame in seen if frame.ethertype == MPLS_ETHERTYPE]
    tunnelled = [frame for frame in seen if frame.gre == MPLS_ETHERTYPE]
    if bool(labelled) != bool(lsp):
        raise Red(f"{len(labelled)} frames of EtherType 0x8847, {'some' if lsp else 'none'} wanted")
    if not tunnelled:
        raise Red("no GRE packet carries a label")
    strangers = {format_address(f.inner[1]) for f in labelled if not any(p.covers(f.inner[1]) for p in lsp)}
    if strangers:
        raise Red(f"by LSP to {', '.join(sorted(strangers))}, which belongs in the tunnel")
    astray = {format_address(f.inner[1]) for f in tunnelled if any(p.covers(f.inner[1]) for p in lsp)}
    if astray:
        raise Red(f"in the tunnel to {', '.join(sorted(astray))}, which belongs on the LSP")
    keys = {frame.key for frame in tunnelled}
    if keys != {check.words["gre_key"]}:
        raise Red(f"GRE keys {sorted(map(str, keys))}, {check.words['gre_key']} wanted")
    return f"0x8847 frames {len(labelled)}, GRE 0x8847 {len(tunnelled)}, key {check.words['gre_key']}"


async def protected(conduct: Conduct, check: Check) -> str:
    """Each node carries this many neighbours by a security association."""
    wanted: Mapping[str, int] = check.words["nodes"]

    async def look_once() -> str:
        up = {node: len(await _associations(conduct, node)) for node in wanted}
        short = [f"{node}: {up[node]} of {count}" for node, count in wanted.items() if up[node] < count]
        if short:
            raise Red(f"security associations {', '.join(short)}")
        return f"{sum(up.values())} ends of security associations up"

    return await conduct.until(check, look_once)


async def _associations(conduct: Conduct, node: str) -> Mapping[str, str]:
    """Peer -> SPI by which it is sent to. Behind an interface of its own a peer is called by that."""
    value = await conduct.bed.show(node, "show crypto ipsec sa")
    return {
        child["remote"] or child["interface"]: child["outbound"]["spi"]
        for child in value
        if child["outbound"] is not None and child["carries"]
    }


async def esp(conduct: Conduct, check: Check) -> str:
    """What crosses these links between tunnel ends is ESP, and nothing of it is GRE or bare MPLS."""
    sealed = 0
    for link in check.words["links"]:
        seen = conduct.seen(link)
        sealed += sum(frame.protocol == ESP for frame in seen)
        clear = [frame for frame in seen if frame.protocol in (GRE, MPLS_IN_IP) or frame.ethertype == MPLS_ETHERTYPE]
        if clear:
            raise Red(f"{len(clear)} tunnel packets in clear on {link}")
    if sealed < check.words.get("least", 1):
        raise Red(f"{sealed} ESP packets, at least {check.words.get('least', 1)} wanted")
    return f"ESP {sealed}, GRE in clear 0"


async def rekey(conduct: Conduct, check: Check) -> str:
    """Echoes one after the other while the security association they go by is replaced, at least so many times."""
    host, destination, node, peer = (check.words[word] for word in ("host", "to", "node", "peer"))
    times, sent, spis = check.words["times"], 0, [(await _associations(conduct, node)).get(peer)]
    size, end = conduct.size(conduct.scenario.host[host].customer), conduct.bed.now() + check.within
    if spis[0] is None:
        raise Red(f"{node} has no security association with {peer}")
    while len(spis) <= times:
        answers = await conduct.bed.ping(host, destination, count=BURST, size=size, timeout=2.0)
        lost = sum(not answer.ok for answer in answers)
        if lost:
            raise Red(f"{lost} of {BURST} echoes lost, after {sent} and {len(spis) - 1} rekeys")
        sent += len(answers)
        spi = (await _associations(conduct, node)).get(peer)
        if spi != spis[-1]:
            spis.append(spi)
        if conduct.bed.now() > end and len(spis) <= times:
            raise Red(f"{len(spis) - 1} rekeys in {check.within:.0f} s and {sent} echoes, {times} wanted")
    return f"{sent} of {sent} echoes answered over {len(spis) - 1} rekeys"


async def cut(conduct: Conduct, check: Check) -> str:
    """A peer falls silent: `node` finds it dead, and says that nothing can be sent there. Then it comes back."""
    node, peer, link = (check.words[word] for word in ("node", "peer", "link"))
    spared = conduct.sabotage is not None and conduct.sabotage.survives == link
    if not spared:
        await conduct.bed.cut(link, whole=False)
    started = conduct.bed.now()

    async def dead() -> str:
        if peer in await _associations(conduct, node):
            raise Red(f"{node} still sends to {peer}")
        return ""

    try:
        await conduct.until(check, dead)
        found = conduct.bed.now() - started
    finally:
        if not spared:
            await conduct.bed.cut(link, whole=True)

    async def back() -> str:
        if peer not in await _associations(conduct, node):
            raise Red(f"{node} has no security association with {peer} again")
        return ""

    await conduct.until(check, back)
    await _reach(conduct, check, *check.words["ping"])
    return f"dead after {found:.1f} s, back after {conduct.bed.now() - started - found:.1f} s"


async def clear(conduct: Conduct, check: Check) -> str:
    """No customer's echo may cross these links outside a label."""
    sizes = {conduct.size(customer) for customer in conduct.scenario.customers}
    total = 0
    for link in check.words["links"]:
        seen = conduct.seen(link)
        total += len(seen)
        bare = [frame for frame in seen if frame.echo in sizes and not frame.labels]
        if bare:
            raise Red(f"{len(bare)} on {link}, to {format_address(bare[0].inner[1])}")
    if not total:
        raise Red("nothing was captured at all")
    return f"0 of {total} frames"


async def isolation(conduct: Conduct, _check: Check) -> str:
    """On a customer's links only its own echoes, told by their size."""
    sizes = {conduct.size(customer): customer for customer in conduct.scenario.customers}
    total = 0
    for name, ends in conduct.scenario.link.items():
        owner = next((owner for owner, _ in ends if owner in conduct.scenario.host), None)
        if owner is None:
            continue
        customer = conduct.scenario.host[owner].customer
        echoes = [frame.echo for frame in conduct.seen(name) if frame.echo in sizes]
        total += len(echoes)
        foreign = [size for size in echoes if sizes[size] != customer]
        if foreign:
            raise Red(f"{len(foreign)} echoes of {sizes[foreign[0]]} at {owner}")
    if not total:
        raise Red("no echo was captured at all")
    return f"0 of {total} echoes"


async def configure(conduct: Conduct, check: Check) -> str:
    """A changed configuration takes effect on a running node, and `observer` notices."""
    node = check.words["node"]
    pairs = [(old, new) for old, new in check.words["replace"]]
    await conduct.bed.configure(node, replaced(conduct.text(node), pairs))
    return await _observe(conduct, check)


async def _observe(conduct: Conduct, check: Check) -> str:
    seen = await conduct.until(check, lambda: _look_endpoints(conduct, check, check.words["observer"]))
    if "ping" in check.words:
        await _reach(conduct, check, *check.words["ping"])
        seen += f", {check.words['ping'][0]} reaches {check.words['ping'][1]}"
    return seen


async def kill(conduct: Conduct, check: Check) -> str:
    """A node ends without good-bye; others go on."""
    node = check.words["node"]
    if conduct.sabotage is None or conduct.sabotage.survives != node:
        await conduct.bed.kill(node)
    host, destination = check.words["unaffected"]
    answer = await conduct.ping(host, destination)
    if not answer.ok:
        raise Red(f"{host} to {destination}, which does not pass {node}: {words_of(answer)}")
    return await _observe(conduct, check)


async def revive(conduct: Conduct, check: Check) -> str:
    node = check.words["node"]
    if conduct.sabotage is None or conduct.sabotage.stays_dead != node:
        await conduct.bed.revive(node)
    return await _observe(conduct, check)


class Kind(NamedTuple):
    """`look` is the check; `words` it must have in the scenario, `may` it can."""

    look: Callable[[Conduct, Check], Awaitable[str]]
    words: frozenset[str] | set[str]
    may: frozenset[str] | set[str] = frozenset()


_SEEN = frozenset({"present", "absent", "ping"})

KINDS: Mapping[str, Kind] = {
    "sessions": Kind(sessions, {"nodes"}),
    "endpoints": Kind(endpoints, {"node"}, {"present", "absent"}),
    "mesh": Kind(mesh, {"customer", "family"}),
    "ping": Kind(ping, {"host", "to"}),
    "unreachable": Kind(unreachable, {"host", "to"}),
    "path": Kind(path, {"host", "to", "hops"}),
    "encapsulation": Kind(encapsulation, {"link", "lsp", "gre_key"}),
    "clear": Kind(clear, {"links"}),
    "protected": Kind(protected, {"nodes"}),
    "esp": Kind(esp, {"links"}, {"least"}),
    "rekey": Kind(rekey, {"host", "to", "node", "peer", "times"}),
    "cut": Kind(cut, {"link", "node", "peer", "ping"}),
    "isolation": Kind(isolation, frozenset()),
    "shortcut": Kind(shortcut, {"host", "to", "ttl", "far", "link"}),
    "idle": Kind(idle, {"host", "to", "ttl", "far", "gone"}),
    "shows": Kind(shows, {"looks"}),
    "took": Kind(took, {"near", "far", "vrf", "prefix"}),
    "configure": Kind(configure, {"node", "replace", "observer"}, _SEEN),
    "kill": Kind(kill, {"node", "observer", "unaffected"}, _SEEN),
    "revive": Kind(revive, {"node", "observer"}, _SEEN),
}
