"""FRR as VPNv4/VPNv6 peer, iBGP and eBGP, and as route reflector between our PEs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from stack.lab.namespace import World
from stack.lab.probe import Prober
from tests.conftest import require_root, require_tool
from tests.interop.frr import Frr, prefixes
from tests.interop.nodes import Node
from tests.interop.pes import bridge, join, pe, pe_config

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

FRR_PEER = """
router bgp {asn}
 bgp router-id 192.0.2.9
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 neighbor 192.0.2.1 remote-as 65000
 neighbor 192.0.2.1 update-source 192.0.2.9
 neighbor 192.0.2.1 timers 3 9
{session} address-family ipv4 vpn
  network 10.66.0.0/24 rd 65000:9 label 500
  neighbor 192.0.2.1 activate
  neighbor 192.0.2.1 route-map RT out
 exit-address-family
 address-family ipv6 vpn
  network 2001:db8:66::/48 rd 65000:9 label 501
  neighbor 192.0.2.1 activate
  neighbor 192.0.2.1 route-map RT6 out
 exit-address-family
!
route-map RT permit 10
 set extcommunity rt 65000:100
!
route-map RT6 permit 10
 set extcommunity rt 65000:100
 set ipv6 vpn next-hop ::ffff:192.0.2.9
"""

FRR_REFLECTOR = """
router bgp 65000
 bgp router-id 192.0.2.9
 no bgp default ipv4-unicast
 neighbor pes peer-group
 neighbor pes remote-as 65000
 neighbor pes update-source 192.0.2.9
 neighbor pes timers 3 9
 neighbor 192.0.2.1 peer-group pes
 neighbor 192.0.2.2 peer-group pes
 address-family ipv4 vpn
  neighbor pes activate
  neighbor pes route-reflector-client
 exit-address-family
 address-family ipv6 vpn
  neighbor pes activate
  neighbor pes route-reflector-client
 exit-address-family
"""

OURS, OURS6 = "10.1.1.0/24", "2001:db8:1::/64"
THEIRS, THEIRS6 = "10.66.0.0/24", "2001:db8:66::/48"


@pytest.fixture
def world() -> Iterator[World]:
    require_root()
    require_tool("bgpd")
    with World() as world:
        bridge(world)
        yield world


def frr_at(world: World, config: str) -> Frr:
    """FRR as 192.0.2.9 on the core's LAN; not started."""
    namespace = join(world, "frr")
    namespace.address("eth0", "198.51.100.9/24")
    namespace.address("lo", "192.0.2.9/32")
    for number in (1, 2):
        namespace.route(f"192.0.2.{number}/32", via=f"198.51.100.{number}")
    return Frr(namespace, config)


def learnt(node: Node, *wanted: str, absent: bool = False) -> None:
    """Prefixes in (or out of) VRF red."""
    for prefix in wanted:
        command = f"show {'ipv6' if ':' in prefix else 'ip'} route vrf red"
        node.until(command, lambda value, p=prefix: (p in str(value)) is not absent)


def heard(frr: Frr, *wanted: str, absent: bool = False) -> None:
    """Prefixes in (or out of) FRR's VPN tables."""
    for prefix in wanted:
        command = f"show bgp {'ipv6' if ':' in prefix else 'ipv4'} vpn"
        frr.until(command, lambda value, p=prefix: (p in prefixes(value)) is not absent)


def messages(node: Node, way: str, kind: str) -> int:
    """How many messages of a kind (`Update`, `RouteRefresh`) the one neighbour has `received` or been `sent`."""
    (row,) = node.show("show bgp neighbors")
    return int(row["messages"][way].get(kind, 0))


@pytest.mark.parametrize("asn", [65000, 65009])
def test_frr_as_vpn_peer(world: World, tmp_path: Path, asn: int) -> None:
    """iBGP, and eBGP over several hops: VPN routes both ways with their labels; refresh from both sides; withdrawals."""
    session = "" if asn == 65000 else " neighbor 192.0.2.1 ebgp-multihop 5\n"
    with ExitStack() as stack:
        frr = stack.enter_context(frr_at(world, FRR_PEER.format(asn=asn, session=session)))
        node = stack.enter_context(pe(world, tmp_path, 1, pe_config(1, asn=asn)))
        # What FRR originates stands in our VRF, with its labels, by the tunnel.
        learnt(node, THEIRS, THEIRS6)
        node.until("show tunnel endpoints", lambda value: "192.0.2.9" in str(value))
        assert "nexthop 192.0.2.9 Tunnel0 label 500" in node.text("show ip cef vrf red tunnel 0")
        assert "label 501" in node.text("show ipv6 cef vrf red tunnel 0")
        # What we originate stands in FRR's tables, with the label of our LFIB, a route target and our transport source.
        heard(frr, OURS, OURS6)
        labels = {row["fec"].removesuffix("[V]"): row["local-label"] for row in node.show("show mpls forwarding-table")}
        for family, prefix, hop in (("ipv4", OURS, "192.0.2.1"), ("ipv6", OURS6, "::ffff:c000:201")):
            text = frr.vtysh(f"show bgp {family} vpn rd 65000:11 {prefix}")
            assert f"Remote label: {labels[prefix]}" in text
            assert "Extended Community: RT:65000:100" in text
            assert f"    {hop} from 192.0.2.1 (192.0.2.1)" in text
            assert ("\n  65000\n" in text) is (asn != 65000)  # its AS path
        refresh_from_both_sides(frr, node)
        withdrawals_both_ways(frr, node, asn)


def refresh_from_both_sides(frr: Frr, node: Node) -> None:
    # FRR asks, by ROUTE-REFRESH, and gets everything again.
    asked, sent = messages(node, "received", "RouteRefresh"), messages(node, "sent", "Update")
    frr.vtysh("clear bgp ipv4 vpn 192.0.2.1 soft in", "clear bgp ipv6 vpn 192.0.2.1 soft in")
    node.until("show bgp neighbors", lambda _: messages(node, "received", "RouteRefresh") >= asked + 2)
    node.until("show bgp neighbors", lambda _: messages(node, "sent", "Update") >= sent + 2)
    heard(frr, OURS, OURS6)
    # What FRR changes in its policy comes when it says so.
    frr.vtysh("configure terminal", "route-map RT permit 10", "set metric 77", "end", "clear bgp 192.0.2.1 soft out")
    node.until("show ip bgp vpnv4 all", lambda value: "'med': 77" in str(value))
    # Our inbound policy changes: what FRR had sent is looked at again without asking it.
    config = node.config
    node.configure(
        config.replace("route-map TUNNEL permit 10", "route-map TUNNEL permit 10\n set local-preference 222")
    )
    node.show("clear ip bgp * soft in")
    node.until("show ip bgp vpnv4 all", lambda value: "'local-pref': 222" in str(value))
    node.configure(config)
    node.until("show ip bgp vpnv4 all", lambda value: "'local-pref': 222" not in str(value))
    # We say everything again.
    sent = messages(node, "sent", "Update")
    node.show("clear ip bgp * soft out")
    node.until("show bgp neighbors", lambda _: messages(node, "sent", "Update") >= sent + 2)
    learnt(node, THEIRS, THEIRS6)
    heard(frr, OURS, OURS6)
    (row,) = node.show("show bgp neighbors")
    assert (row["dropped"], row["faulty-updates"]) == (0, 0)


def withdrawals_both_ways(frr: Frr, node: Node, asn: int) -> None:
    config = node.config
    node.configure(config.replace("  redistribute connected", "  no redistribute connected"))
    heard(frr, OURS, OURS6, absent=True)
    node.configure(config)
    heard(frr, OURS, OURS6)
    withdraw = "no network 10.66.0.0/24 rd 65000:9 label 500", "no network 2001:db8:66::/48 rd 65000:9 label 501"
    head = "configure terminal", f"router bgp {asn}"
    frr.vtysh(*head, "address-family ipv4 vpn", withdraw[0], "exit", "address-family ipv6 vpn", withdraw[1])
    learnt(node, THEIRS, THEIRS6, absent=True)
    if asn != 65000:
        # FRR sends an eBGP peer's routes back to it, under its own next hop. They are loops to us, but a PE that says how
        # to reach a VPN through it is an endpoint; until nothing is left that it could send back.
        assert "192.0.2.9" in str(node.show("show tunnel endpoints"))
        node.configure(config.replace("  redistribute connected", "  no redistribute connected"))
    node.until("show tunnel endpoints", lambda value: "192.0.2.9" not in str(value))
    again = [line.removeprefix("no ") for line in withdraw]
    frr.vtysh(*head, "address-family ipv4 vpn", again[0], "exit", "address-family ipv6 vpn", again[1])
    learnt(node, THEIRS, THEIRS6)
    node.until("show tunnel endpoints", lambda value: "192.0.2.9" in str(value))


FLAPS = 20


def descriptors(node: Node) -> Counter[str]:
    """Open files by what they are; read until two readings agree, since our own question is one of them for a moment."""
    assert node.process is not None
    seen: list[Counter[str]] = [Counter(), Counter({"none": 1})]
    while seen[-1] != seen[-2]:
        kinds: Counter[str] = Counter()
        for path in Path(f"/proc/{node.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                kinds[str(path.readlink()).partition(":")[0]] += 1
        seen.append(kinds)
    return seen[-1]


def holdings(node: Node) -> dict[str, Any]:
    """Everything of a node that must be the same after a session has come back."""
    topics = node.show("show bus")["topics"]
    labels = node.show("show mpls label range")
    return {
        "descriptors": descriptors(node),
        "tasks": node.show("show version")["tasks"],
        "rows": {(row["topic"], row["owner"]): (row["rows"], row["stale"], row["waiting"]) for row in topics},
        "labels": {name: labels[name] for name in ("in-use", "resting")},
        "incarnations": {row["service"]: row["incarnation"] for row in node.show("show processes")},
        "bindings": node.show("show mpls label table"),
    }


def test_session_flapped_20_times_leaks_nothing(world: World, tmp_path: Path) -> None:
    """Reset by us and by FRR in turn; all routes come back, under the labels they had."""
    with ExitStack() as stack:
        frr = stack.enter_context(frr_at(world, FRR_PEER.format(asn=65000, session="")))
        node = stack.enter_context(pe(world, tmp_path, 1))
        learnt(node, THEIRS, THEIRS6)
        heard(frr, OURS, OURS6)
        before = holdings(node)
        for flap in range(FLAPS):
            transitions = flap + 2
            if flap % 2:
                frr.vtysh("clear bgp 192.0.2.1")
            else:
                node.show("clear ip bgp *")
            node.until("show bgp neighbors", lambda v, n=transitions: v[0]["established-transitions"] == n, within=10)
            if flap % 4 == 3:  # FRR takes a second to say what it has; in between the session goes before it does
                learnt(node, THEIRS, THEIRS6)
        heard(frr, OURS, OURS6)
        learnt(node, THEIRS, THEIRS6)
        node.until("show bgp neighbors", lambda _: holdings(node) == before, within=5)
        (row,) = node.show("show bgp neighbors")
        assert (row["dropped"], row["established-transitions"]) == (FLAPS, FLAPS + 1)


def test_frr_as_route_reflector_between_our_pes(world: World, tmp_path: Path) -> None:
    with ExitStack() as stack:
        frr = stack.enter_context(frr_at(world, FRR_REFLECTOR))
        nodes = {number: stack.enter_context(pe(world, tmp_path, number)) for number in (1, 2)}
        for number, other in ((1, 2), (2, 1)):
            nodes[number].until("show tunnel endpoints", lambda value, o=other: f"192.0.2.{o}" in str(value))
            learnt(nodes[number], f"10.1.{other}.0/24", f"2001:db8:{other}::/64")
        # Not one is lost, the very first included, which waits for ARP and neighbour discovery at both ends.
        for destination in ("10.1.2.10", "2001:db8:2::10"):
            with Prober(destination, namespace=world.namespaces["red1"]) as prober:
                replies = prober.ping(5)
            assert [reply.kind for reply in replies] == ["reply"] * 5, replies
        # The reflector goes, says good-bye, and its clients' routes with it.
        frr.vtysh("configure terminal", "router bgp 65000", "neighbor 192.0.2.2 shutdown")
        learnt(nodes[1], "10.1.2.0/24", "2001:db8:2::/64", absent=True)
        nodes[1].until("show tunnel endpoints", lambda value: "192.0.2.2" not in str(value))
        with Prober("10.1.2.10", namespace=world.namespaces["red1"]) as prober:
            assert prober.once().kind == "unreachable"
