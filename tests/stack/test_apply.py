"""A configuration applied to a running node leaves what a node has that was started with it: nothing less, nothing more.

The first PE of the mGRE lab (and of the same in IPsec) goes from one variant of its configuration to another, in many steps and
at any pace, with services killed in between; then it is compared with a fresh one. Ids, labels and times aside, nothing may
differ.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import attrs
import pytest
import structlog

from stack.addr import Afi
from stack.config import Config
from stack.lab.conduct import Conduct
from stack.lab.memory import MemoryTestbed
from stack.lab.scenario import device_of, load
from stack.router import Router
from stack.testing import SeededEntropy, VirtualClock, run
from stack.testing.node import MemoryNode

QUIET = structlog.wrap_logger(
    structlog.ReturnLogger(), processors=[], wrapper_class=structlog.make_filtering_bound_logger(50)
)
NODE = "pe1"
ESP_PORTS = ("raw50", "raw17")
"""Opened when a tunnel is protected for the first time, and kept as long as the forwarder runs."""


MGRE, IPSEC = "mgre", "ipsec"


def base(lab: str = MGRE) -> str:
    return load(lab).node[NODE]


def without_blocks(text: str, *starts: str) -> str:
    """Whole top-level blocks left out."""
    kept, skipping = [], False
    for line in text.splitlines():
        if line and not line.startswith(" "):
            skipping = line.startswith(starts)
        if not skipping:
            kept.append(line)
    return "\n".join([*kept, ""])


def without_family(text: str, vrf: str) -> str:
    kept, skipping = [], False
    for line in text.splitlines():
        skipping = skipping or (line.startswith(" address-family") and line.endswith(f"vrf {vrf}"))
        if not skipping:
            kept.append(line)
        skipping = skipping and line.strip() != "exit-address-family"
    return "\n".join([*kept, ""])


def without_lines(text: str, words: str) -> str:
    return "\n".join([line for line in text.splitlines() if words not in line] + [""])


def swapped(text: str, one: str, other: str) -> str:
    return text.replace(one, "\0").replace(other, one).replace("\0", other)


@cache
def variants(lab: str = MGRE) -> dict[str, str]:
    return _protected() if lab == IPSEC else _clear()


def _protected() -> dict[str, str]:
    """Protection comes, goes, and is another one: some agree with the other PEs, who keep theirs, and some do not."""
    text = base(IPSEC)
    line = " protection ipsec profile core\n"
    profile = text[text.index("crypto ipsec profile core") : text.index("l3vpn encapsulation")]
    second = profile.replace("profile core", "profile second", 1)
    tunnel = f"""interface Tunnel9
 ip address 10.99.0.1 255.255.255.252
 mpls bgp forwarding
 tunnel source Ethernet0/0
 tunnel destination 192.0.2.2
 tunnel key 9
{line.replace(" protection", " tunnel protection")}!
router bgp 65000
"""
    return {
        "base": text,
        "bare": f"hostname {NODE}\n",
        "no protection": text.replace(line, ""),
        "another profile": text.replace(profile, profile + second).replace(line, line.replace("core", "second")),
        "a profile that does not exist": text.replace(line, line.replace("core", "none")),
        "the profile removed": text.replace(profile, ""),
        "another transform set": text.replace("transform-set core esp-gcm 256", "transform-set core esp-gcm 128"),
        "another key of ours": text.replace("three-routers-and-a-core", "not-what-the-others-have"),
        "no IKE profile": without_blocks(text, "crypto ikev2 profile"),
        "another transport source": text.replace("192.0.2.1 255", "192.0.2.9 255").replace(
            "id 192.0.2.1", "id 192.0.2.9"
        ),
        "a neighbour removed": without_lines(text, "neighbor 192.0.2.2 "),
        "no profile": without_lines(without_blocks(text, "l3vpn encapsulation"), "encapsulate l3vpn"),
        "a protected tunnel beside it": text.replace("router bgp 65000\n", tunnel),
        "the protected tunnel shut": text.replace(
            "router bgp 65000\n", tunnel.replace(" tunnel key", " shutdown\n tunnel key")
        ),
        "the protected tunnel in a VRF": text.replace(
            "router bgp 65000\n", tunnel.replace(" ip address 10.99", " vrf forwarding Customer Red\n ip address 10.99")
        ),
        "the protected tunnel to elsewhere": text.replace(
            "router bgp 65000\n", tunnel.replace("destination 192.0.2.2", "destination 198.51.100.6")
        ),
        "another GRE key": text.replace("gre key 1234", "gre key 999"),
    }


def _clear() -> dict[str, str]:
    text = base()
    red_port = "vrf forwarding Customer Red\n ip address 10.1.1.1 255.255.255.0\n ipv6 address 2001:db8:1::1/64"
    other_port = "vrf forwarding Customer Blue\n ip address 10.1.9.1 255.255.255.0\n ipv6 address 2001:db8:9::1/64"
    modes = "".join(f"mpls label mode all-vrfs protocol bgp-vpnv{n} per-vrf\n" for n in (4, 6))
    return {
        "base": text,
        "bare": f"hostname {NODE}\n",
        "a VRF removed": without_family(
            without_blocks(text, "vrf definition Customer Red", "interface Ethernet0/1"), "Customer Red"
        ),
        "a VRF renamed": text.replace("Customer Red", "Customer Green"),
        "an interface moved between VRFs": text.replace(red_port, other_port),
        "interfaces of two VRFs swapped": swapped(text, "forwarding Customer Red", "forwarding Customer Blue"),
        "another AS": text.replace("router bgp 65000", "router bgp 65009"),
        "a neighbour removed": without_lines(text, "neighbor 192.0.2.2 "),
        "no BGP": without_blocks(text, "router bgp"),
        "no profile": without_lines(without_blocks(text, "l3vpn encapsulation"), "encapsulate l3vpn"),
        "another label mode": text.replace("ip route 192.0.2.2", f"{modes}ip route 192.0.2.2"),
        "another transport source": text.replace("192.0.2.1 255", "192.0.2.9 255").replace(
            "id 192.0.2.1", "id 192.0.2.9"
        ),
        "another key": text.replace("gre key 1234", "gre key 999"),
    }


def plain(row: Any) -> str:
    """A row in words that are the same for equal rows: a set of octets prints in an order that its history decides."""
    fields = attrs.asdict(row, recurse=False).items()
    return repr([(name, sorted(value) if isinstance(value, frozenset) else value) for name, value in fields])


def state(router: Router, node: MemoryNode) -> dict[str, Any]:
    """What a node has and holds, in terms that do not depend on how it got there."""
    tables = router.context.tables
    hops = tables.nexthops.rows

    def hop(number: int) -> Any:
        row = hops.get(number)
        return None if row is None else (row.key, row.adjacency, row.labels)

    def port(name: str) -> str:
        return "host port" if name.startswith("hostport") else name

    bgp: Any = router.service("bgp")
    return {
        "LFIB": sorted(
            repr((type(row.fec), row.operation, row.vrf, sorted(row.scope), hop(row.next_hop)))
            for row in tables.lfib.rows.values()
        ),
        "FIB": {
            (vrf, afi): sorted(
                repr((prefix, leaf.kind, hop(leaf.next_hop), leaf.interface)) for prefix, leaf in fib.items(afi)
            )
            for vrf, fib in tables.fib.fibs.items()
            for afi in Afi
        },
        "RIB": {vrf: sorted(map(repr, rib)) for vrf, rib in tables.rib.ribs.items() if rib},
        "interfaces": sorted(repr((i.row, i.up, i.mtu, i.addresses)) for i in tables.interfaces),
        "adjacencies": sorted(
            repr((a.key, a.source, a.destination, a.gre_key, a.complete, a.mtu, a.protection, a.sa))
            for a in tables.adjacencies
        ),
        "SAs out": sorted(repr((b.key, b.outbound and b.outbound.form)) for b in tables.sad),
        "SAs in": sorted(repr((sa.key, sa.form)) for sa in tables.sad.inbound.values()),
        "receptions": sorted(map(plain, tables.receptions)),
        "VRFs": sorted(vrf.name for vrf in tables.vrfs),
        "host addresses": sorted(repr((port(device), *rest)) for device, *rest in node.host.addresses()),
        "host routes": sorted(repr((r.prefix, r.via, r.device, ours)) for r, ours in node.host.routes()),
        "ports": sorted(port(one.name) for one in node._ports if one.name not in ESP_PORTS),
        "listeners": sorted(one.options.vrf for one in node.tcp._listeners),
        "neighbours": sorted((p.key, p.hold) for p in bgp.snapshot().peers),
        "BGP tables": sorted((vrf, str(f), len(t.nets)) for (vrf, f), t in bgp.ribs.tables.items() if t.nets),
        "rows": {
            (use.topic, use.owner): use.rows
            for use in router.bus.snapshot()
            if use.rows and use.topic not in ("NextHopWanted", "NextHopState")
        },
        "stale": [use for use in router.bus.snapshot() if use.stale],
        "services": [(process.name, process.state) for process in router.processes()],
    }


async def walked(steps: list[tuple[str, float, str]], lab: str = MGRE) -> dict[str, Any]:
    """Start with the first variant; each step: the next variant after so many seconds, and a service to kill with it."""
    conduct = Conduct(load(lab), None)  # type: ignore[arg-type]  # the testbed reads the conduct's texts: next lines
    bed = MemoryTestbed(conduct)
    conduct.bed = bed
    await bed.start(None)
    await bed.routers[NODE].stop()
    ends = [end for link in conduct.scenario.link.values() for end in link]
    node = bed.world.node(NODE)
    bed.routers[NODE] = router = Router(
        Config.from_ios(variants(lab)[steps[0][0]], source=NODE),
        network=node,
        clock=VirtualClock(),
        entropy=SeededEntropy("apply"),
        bindings={interface: device_of(interface) for owner, interface in ends if owner == NODE},
        log=QUIET,
    )
    await router.start()
    for variant, after, victim in steps[1:]:
        await asyncio.sleep(after)
        router.apply(Config.from_ios(variants(lab)[variant], source=NODE))
        service: Any = router.service(victim)
        if service is not None:
            service.fail(RuntimeError("killed by the test"))
    await asyncio.sleep(90)
    found = state(router, node)
    await bed.stop()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert node._ports == []
    assert [route for route, ours in node.host.routes() if ours] == []
    return found


@cache
def fresh(variant: str, lab: str = MGRE) -> dict[str, Any]:
    return run(walked([(variant, 0.0, "")], lab), limit=1_000)


def differences(found: Any, wanted: Any, where: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({**found, **wanted}, key=repr):
            yield from differences(found.get(key), wanted.get(key), f"{where} {key}")
    elif found != wanted:
        yield f"{where}: {found!r}, a fresh node has {wanted!r}"


OTHERS = [(lab, name) for lab in (MGRE, IPSEC) for name in variants(lab) if name != "base"]


@pytest.mark.parametrize(("lab", "variant"), OTHERS)
def test_there_and_back(lab: str, variant: str) -> None:
    there = run(walked([("base", 0.0, ""), (variant, 20.0, "")], lab), limit=1_000)
    assert list(differences(there, fresh(variant, lab))) == []
    back = run(walked([(variant, 0.0, ""), ("base", 20.0, "")], lab), limit=1_000)
    assert list(differences(back, fresh("base", lab))) == []


@pytest.mark.parametrize("lab", [MGRE, IPSEC])
@pytest.mark.parametrize("seed", range(8))
def test_S01_many_steps_at_any_pace_while_services_are_killed(seed: int, lab: str) -> None:
    dice = random.Random(seed)
    names, victims = list(variants(lab)), ("", "", "bgp", "mfi", "routing", "tunnel", "forwarder")
    if lab == IPSEC:
        victims = (*victims, "ikev2", "ikev2")
    steps = [
        (dice.choice(names), dice.choice((0.0, 0.0, 0.01, 0.3, 1.0, 3.0, 8.0)), dice.choice(victims))
        for _ in range(dice.randint(3, 7))
    ]
    assert list(differences(run(walked(steps, lab), limit=2_000), fresh(steps[-1][0], lab))) == [], steps
