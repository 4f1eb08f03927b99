"""BGP's show commands: golden text on addresses, names and counts of our own; JSON; clear."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bgp.config import NeighborConfig, NeighborFamily
from bgp.engine.fsm import State
from bgp.engine.peers import PeerSnapshot
from bgp.engine.session_ends import End, EndReason, Hold
from bgp.engine.speaker import SpeakerSnapshot
from bgp.show import COMMANDS
from bgp.show.words import community, extended_community, network
from bgp.wire import IPV4_UNICAST, VPNV4, VPNV6, Family, RawAttribute
from stack.addr import Afi, Prefix, Safi
from stack.events import PolicyState, Via
from stack.ios.command import Command, CommandError, Scene, Shown
from stack.ios.syntax import Syntax, Tree, tokenise
from stack.ios.times import age
from stack.policy import routemap
from stack.policy.routemap import Lists, RouteMap, Sequence, SetEncapsulate
from tests.bgp.engine.rib_world import World, attributes, config, ip, redistribute

NOW = 5000.0


class Service:
    def __init__(self, world: World, speaker: SpeakerSnapshot | None = None) -> None:
        self.ribs = world.ribs
        self._speaker = speaker
        self.cleared: list[tuple[Any, ...]] = []

    def snapshot(self) -> SpeakerSnapshot | None:
        return self._speaker

    def clear(self, target: Any = None, *, soft: bool = False, direction: str = "both", vrf: Any = None) -> int:
        self.cleared.append((target, soft, direction, vrf))
        return 0 if target == 666 else 3


TREE: Tree[Command] = Tree()
for _command in COMMANDS:
    TREE.add(Syntax.parse(_command.syntax), _command)


def run(service: Any, line: str) -> Shown:
    match = TREE.match(tokenise(line), line)
    assert hasattr(match, "rows"), match
    [command] = match.rows
    shown = command.run(Scene(service, None, None, None, None, NOW), match.values)
    assert json.loads(json.dumps(shown.value)) == shown.value  # plain lists, dicts, strings and numbers
    return shown


def hub() -> World:
    """A hub with two VRFs, two spokes of one AS beside it, and a neighbour of its own AS."""
    families = [redistribute("connected", "static", vrf=vrf, default=True) for vrf in ("gold", "iron")]
    world = World(config=config(*families))
    world.vrf("gold", "65010:7", imports=("65010:7",), exports=("65010:7",))
    world.vrf("iron", "65010:8", imports=("65010:8",), exports=("65010:8",), index=2)
    one, two = world.peer("10.4.4.3", asn=65100, router_id="172.30.1.3"), world.peer("10.4.4.4", asn=65100)
    world.select("gold", "192.168.60.0/24")
    world.select("gold", "0.0.0.0/0", "static", null=True)
    world.select("iron", "10.8.0.0/16", "static", via=Via(ip("192.168.61.9"), vrf="iron"), metric=5)
    world.select("iron", "0.0.0.0/0", "static", null=True)
    attrs = attributes((65100,), ("65010:7",), origin=2, med=0)
    one.announce(VPNV4, "65010:7 192.168.63.0/24", attrs=attrs, label=26)
    two.announce(VPNV4, "65010:7 192.168.63.0/24", attrs=attrs, label=27)
    two.announce(VPNV4, "65010:9 10.99.128.0/17", attrs=attributes((65100,), ("1:1",)), label=28)
    return world


def test_the_list_of_all_vpnv4_routes() -> None:
    assert run(Service(hub()), "show ip bgp vpnv4 all").text == (
        "BGP table version is 16, local router ID is 198.51.100.1\n"
        "Status codes: s suppressed, d damped, h history, * valid, > best, i - internal, \n"
        "              r RIB-failure, S Stale, m multipath, b backup-path, x best-external, f RT-Filter, \n"
        "              a additional-path\n"
        "Origin codes: i - IGP, e - EGP, ? - incomplete\n"
        "\n"
        "     Network          Next Hop            Metric LocPrf Weight Path\n"
        "Route Distinguisher: 65010:7 (default for vrf gold)\n"
        " *>  0.0.0.0          0.0.0.0                  0         32768 ?\n"
        " *>  192.168.60.0     0.0.0.0                  0         32768 ?\n"
        " *>  192.168.63.0     10.4.4.3                 0             0 65100 ?\n"
        " *                    10.4.4.4                 0             0 65100 ?\n"
        "Route Distinguisher: 65010:8 (default for vrf iron)\n"
        " *>  0.0.0.0          0.0.0.0                  0         32768 ?\n"
        " *>  10.8.0.0/16      192.168.61.9             5         32768 ?\n"
        "Route Distinguisher: 65010:9\n"
        " *>  10.99.128.0/17   10.4.4.4                               0 65100 i"
    )


def test_the_list_of_labels() -> None:
    text = run(Service(hub()), "show ip bgp vpnv4 all label").text
    assert text == (
        "   Network          Next Hop      In label/Out label\n"
        "Route Distinguisher: 65010:7 (gold)\n"
        "   0.0.0.0          0.0.0.0         1001/nolabel(gold)\n"
        "   192.168.60.0     0.0.0.0         1000/nolabel(gold)\n"
        "   192.168.63.0     10.4.4.3        1004/26\n"
        "                    10.4.4.4        nolabel/27\n"
        "Route Distinguisher: 65010:8 (iron)\n"
        "   0.0.0.0          0.0.0.0         1003/nolabel(iron)\n"
        "   10.8.0.0/16      192.168.61.9    1002/nolabel(iron)\n"
        "Route Distinguisher: 65010:9\n"
        "   10.99.128.0/17   10.4.4.4        1005/28"
    )
    assert run(Service(hub()), "show ip bgp vpnv4 all labels").text == text


def test_an_address_is_answered_with_the_longest_match_in_each_rd() -> None:
    """semantics 20: the other VRF answers with its default route, for the same address."""
    text = run(Service(hub()), "show ip bgp vpnv4 all 192.168.63.77").text
    assert text == (
        "BGP routing table entry for 65010:7:192.168.63.0/24, version 15\n"
        "Paths: (2 available, best #1, table gold)\n"
        "  Advertised to update-groups:\n"
        "     1\n"
        "  Refresh Epoch 1\n"
        "  65100\n"
        "    10.4.4.3 from 10.4.4.3 (172.30.1.3)\n"
        "      Origin incomplete, metric 0, localpref 100, valid, external, best\n"
        "      Extended Community: RT:65010:7\n"
        "      mpls labels in/out 1004/26\n"
        "  Refresh Epoch 1\n"
        "  65100\n"
        "    10.4.4.4 from 10.4.4.4 (10.4.4.4)\n"
        "      Origin incomplete, metric 0, localpref 100, valid, external\n"
        "      Extended Community: RT:65010:7\n"
        "      mpls labels in/out nolabel/27\n"
        "      not best: newer external path (RFC 5004 4)\n"
        "BGP routing table entry for 65010:8:0.0.0.0/0, version 11\n"
        "Paths: (1 available, best #1, table iron)\n"
        "  Advertised to update-groups:\n"
        "     1\n"
        "  Refresh Epoch 1\n"
        "  Local\n"
        "    0.0.0.0 from 0.0.0.0 (198.51.100.1)\n"
        "      Origin incomplete, metric 0, localpref 100, weight 32768, valid, sourced, best\n"
        "      Extended Community: RT:65010:8\n"
        "      mpls labels in/out 1003/aggregate(iron)"
    )


def test_a_dynamic_neighbour_is_marked() -> None:
    from attrs import evolve

    world = hub()
    peer = world.ribs.peers["", ip("10.4.4.3")]
    peer.source.view = evolve(peer.view, dynamic=True)
    assert "    10.4.4.3 from *10.4.4.3 (172.30.1.3)" in run(Service(world), "show ip bgp vpnv4 all 192.168.63.1").text


def test_one_vrf_one_rd_one_prefix() -> None:
    service = Service(hub())
    assert "iron" not in run(service, "show ip bgp vpnv4 vrf gold").text
    text = run(service, "show ip bgp vpnv4 vrf iron 10.8.0.0/16").text
    assert "    192.168.61.9 from 0.0.0.0 (198.51.100.1)" in text
    assert "      mpls labels in/out 1002/nolabel" in text
    assert "65010:7" not in run(service, "show ip bgp vpnv4 rd 65010:9").text
    assert run(service, "show ip bgp vpnv4 all 10.8.0.0/15").text == "% Network not in table"
    with pytest.raises(CommandError, match=r"no VRF 'silver'; there are: gold, iron"):
        run(service, "show ip bgp vpnv4 vrf silver")


def test_reasons_of_paths_that_cannot_be_used() -> None:
    world = World(unusable={"192.0.2.9": "no route to it"})
    world.vrf("gold", "65010:7", imports=("65010:7",))
    peer = world.peer("192.0.2.1")
    rts = attributes((), ("65010:7",), local_pref=100)
    peer.announce(VPNV4, "65010:7 10.1.0.0/16", attrs=rts, label=3)
    peer.announce(VPNV4, "65010:7 10.2.0.0/16", attrs=rts, hop="192.0.2.9")
    peer.announce(VPNV4, "65010:7 10.3.0.0/16", attrs=attributes((65010,), ("65010:7",), local_pref=100))
    peer.announce(VPNV4, "65010:7 10.4.0.0/16", attrs=attributes((), ("9:9",), local_pref=100))
    text = run(Service(world), "show ip bgp vpnv4 all").text
    assert "   i 10.1.0.0/16      192.0.2.1                     100      0 i" in text
    lines = {n: run(Service(world), f"show ip bgp vpnv4 all 10.{n}.0.0/16").text.splitlines() for n in range(1, 5)}
    assert lines[1][-1] == "      not best: its label is reserved, so it cannot be a VPN label (RFC 3032 2.1)"
    assert lines[2][-1] == "      not best: its next hop is not usable (RFC 4271 9.1.2.1) (no route to it)"
    assert "    192.0.2.9 (inaccessible) from 192.0.2.1 (192.0.2.1)" in lines[2]
    assert lines[3][-1] == "      not best: our own AS is in the path (RFC 4271 9.1.2)"
    assert lines[4][-1] == "      not best: no VRF with its RD imports it"
    assert lines[1][1] == "Paths: (1 available, no best path, table gold)"
    assert lines[1][2] == "  Not advertised to any peer"


def test_encapsulation_communities_originator_and_unknown_attributes() -> None:
    world = World(metrics={"192.0.2.1": 20})
    sets = (SetEncapsulate(Afi.IPV4, "my profile"),)
    compiled = routemap.compile({"M": RouteMap("M", (Sequence(10, sets=sets),))}, Lists())
    world.tell(PolicyState, {("route-map", "M"): compiled["M"]})
    world.vrf("gold", "65010:7", imports=("65010:7",))
    peer = world.peer("192.0.2.1", route_map_in="M")
    attrs = attributes(
        (7, 8), ("65010:7",), communities=[0xFFFFFF01, 0x00070001], originator_id=ip("9.9.9.9"),
        cluster_list=[ip("8.8.8.8"), ip("7.7.7.7")], local_pref=50,
    ).with_raw(RawAttribute(0xE0, 200, b"\x1b[2J"))  # fmt: skip
    peer.announce(VPNV4, "65010:5 10.1.0.0/16", attrs=attrs)
    text = run(Service(world), "show ip bgp vpnv4 vrf gold 10.1.2.3").text
    assert text == (
        "BGP routing table entry for 65010:7:10.1.0.0/16, version 3\n"
        "Paths: (1 available, best #1, table gold)\n"
        "  Not advertised to any peer\n"
        "  Refresh Epoch 1\n"
        "  7 8, imported path from 65010:5:10.1.0.0/16\n"
        "    192.0.2.1 (metric 20) from 192.0.2.1 (192.0.2.1)\n"
        "      Origin IGP, localpref 50, valid, internal, best\n"
        "      Community: no-export 7:1\n"
        "      Extended Community: RT:65010:7\n"
        "      Originator: 9.9.9.9, Cluster list: 8.8.8.8, 7.7.7.7\n"
        "      unknown transitive attribute: flag 0xe0 type 0xc8 length 0x4\n"
        "      next hop encapsulation l3vpn my profile\n"
        "      mpls labels in/out nolabel/100"
    )
    assert "\x1b" not in json.dumps(run(Service(world), "show ip bgp vpnv4 all").value)


def test_vpnv6_wraps_what_is_too_long() -> None:
    world = World()
    world.vrf("gold", "65010:7", imports=("65010:7",))
    world.peer("2001:db8:ffff::12:3456", families=(VPNV6,)).announce(
        VPNV6, "65010:7 2001:db8:1234:5678::/64", attrs=attributes((5,), ("65010:7",), local_pref=100, med=2)
    )
    lines = run(Service(world), "show ip bgp vpnv6 all").text.splitlines()
    assert lines[-4:] == [
        "Route Distinguisher: 65010:7 (default for vrf gold)",
        " *>i 2001:db8:1234:5678::/64",
        "                      2001:db8:ffff::12:3456",
        "                                               2    100      0 5 i",
    ]


def test_unicast_tables() -> None:
    world = World()
    peer = world.peer("203.0.113.9", asn=65020, families=(IPV4_UNICAST,))
    peer.announce(IPV4_UNICAST, "10.0.0.0/8", "172.16.0.0/16", "172.16.1.0/24")
    service = Service(world)
    assert [line[5:22].strip() for line in run(service, "show ip bgp").text.splitlines()[7:]] == [
        "10.0.0.0",
        "172.16.0.0",
        "172.16.1.0/24",
    ]
    text = run(service, "show ip bgp 172.16.1.1").text
    assert text.startswith(
        "BGP routing table entry for 172.16.1.0/24, version 4\nPaths: (1 available, best #1, table default)"
    )
    assert run(service, "show bgp ipv4 unicast 172.16.0.0/16").value[0]["prefix"] == "172.16.0.0/16"
    assert run(service, "show bgp ipv6").text == ""


def test_all_families() -> None:
    shown = run(Service(hub()), "show bgp all")
    titles = [text for text in shown.text.splitlines() if text.startswith("For address family")]
    assert titles == [f"For address family: {name} Unicast" for name in ("IPv4", "IPv6", "VPNv4", "VPNv6")]
    assert " *>  192.168.63.0     10.4.4.3 " in shown.text
    assert [one["afi-safi"] for one in shown.value] == [
        "ipv4 unicast",
        "ipv6 unicast",
        "vpnv4 unicast",
        "vpnv6 unicast",
    ]


def test_json_says_why() -> None:
    value = run(Service(hub()), "show ip bgp vpnv4 all 192.168.63.1").value
    best, other = value[0]["paths"]
    assert value[0]["route-distinguisher"] == "65010:7"
    assert (best["best-path"], best["label-in"], best["label-out"], best["as-path"]) == (True, 1004, [26], "65100")
    assert (other["best-path"], other["reason"]) == (False, "newer")


# --- neighbours -------------------------------------------------------------------------------------------------------


def peer(address: str, state: State, *families: Family, vrf: str = "", **values: Any) -> PeerSnapshot:
    one = NeighborFamily()
    neighbor = NeighborConfig(
        address=ip(address), vrf=vrf, remote_as=65100, families={(Afi(f.afi), Safi(f.safi)): one for f in families}
    )
    base: dict[str, Any] = {
        "key": (vrf, ip(address)), "config": neighbor, "dynamic": False, "asn": 65100, "local_asn": 65010,
        "state": state, "since": NOW - 3723, "hold": Hold.NONE, "local": ip("198.51.100.1"), "remote": ip(address),
        "router_id": ip(address), "local_id": ip("198.51.100.1"),
        "families": frozenset(families) if state is State.ESTABLISHED else frozenset(), "offered": frozenset(families),
        "hold_time": 180, "keepalive": 60.0, "incoming": True, "refresh": True, "asn4": True,
        "last_received": NOW - 9, "last_sent": NOW - 61, "last_end": End(EndReason.NONE), "last_end_at": 0.0,
        "last_attempt": End(EndReason.NONE), "next_attempt": None, "waiting_octets": 0, "blocked": False,
        "received": {"Open": 1, "Update": 12, "Keepalive": 60}, "sent": {"Open": 1, "Update": 3, "Keepalive": 61},
        "refused": {}, "octets_received": 2000, "octets_sent": 1500,
        "established": 1 if state is State.ESTABLISHED else 0, "dropped": 0, "faulty_updates": 0,
        "contained_faults": 0,
    }  # fmt: skip
    return PeerSnapshot(**base | values)


def speaker(*peers: PeerSnapshot) -> SpeakerSnapshot:
    return SpeakerSnapshot(
        asn=65010, router_id=ip("198.51.100.1"), peers=peers, refused={}, listening=(),
        dynamic=sum(p.dynamic for p in peers), listen_limit=40, deferred_refreshes=0,
    )  # fmt: skip


def test_the_summary_of_a_family() -> None:
    told = speaker(
        peer("10.4.4.3", State.ESTABLISHED, VPNV4, IPV4_UNICAST, dynamic=True),
        peer("10.4.4.4", State.ESTABLISHED, VPNV4, since=NOW - 100_000),
        peer("10.4.4.5", State.ACTIVE, VPNV4),
        peer("10.4.4.6", State.IDLE, VPNV4, hold=Hold.SHUTDOWN, established=3),
        peer("203.0.113.200", State.IDLE, IPV4_UNICAST),
    )
    text = run(Service(hub(), told), "show ip bgp vpnv4 all summary").text
    assert text == (
        "BGP router identifier 198.51.100.1, local AS number 65010\n"
        "BGP table version is 16, main routing table version 16\n"
        "6 network entries and 7 paths, 7 path attribute sets\n"
        "\n"
        "Neighbor        V           AS MsgRcvd MsgSent   TblVer  InQ OutQ Up/Down  State/PfxRcd\n"
        "*10.4.4.3       4        65100      73      65       16    0    0 01:02:03        1\n"
        "10.4.4.4        4        65100      73      65       16    0    0 1d03h           2\n"
        "10.4.4.5        4        65100      73      65        1    0    0 never      Active\n"
        "10.4.4.6        4        65100      73      65        1    0    0 01:02:03 Idle (Admin)\n"
        "* Dynamically created based on a listen range command\n"
        "Dynamically created neighbors: 1, Listen limit: 40"
    )


def test_the_summary_of_all_families_leaves_out_those_without_neighbours() -> None:
    told = speaker(peer("10.4.4.3", State.ESTABLISHED, VPNV4), peer("203.0.113.200", State.CONNECT, IPV4_UNICAST))
    for line in ("show bgp summary", "show bgp all summary"):
        shown = run(Service(hub(), told), line)
        titles = [text for text in shown.text.splitlines() if text.startswith("For address family")]
        assert titles == ["For address family: IPv4 Unicast", "For address family: VPNv4 Unicast"]
        assert [one["neighbors"][0]["session-state"] for one in shown.value] == ["CONNECT", "ESTABLISHED"]
    assert "10.4.4.3" not in run(Service(hub(), told), "show ip bgp summary").text


def test_neighbors_in_full() -> None:
    told = speaker(peer("10.4.4.3", State.ESTABLISHED, VPNV4), peer("10.4.4.9", State.IDLE, VPNV4, hold=Hold.NO_SOURCE))
    text = run(Service(hub(), told), "show bgp neighbors 10.4.4.3").text
    assert text == (
        "BGP neighbor is 10.4.4.3,  remote AS 65100, external link\n"
        "  BGP version 4, remote router ID 10.4.4.3\n"
        "  BGP state = Established, up for 01:02:03\n"
        "  Last read 00:00:09, last write 00:01:01, hold time is 180, keepalive interval is 60 seconds\n"
        "  Neighbor capabilities:\n"
        "    Route refresh: advertised and received(new)\n"
        "    Four-octets ASN Capability: advertised and received\n"
        "    Address family VPNv4 Unicast: advertised and received\n"
        "  Message statistics:\n"
        "    InQ depth is 0\n"
        "    OutQ depth is 0\n"
        "\n"
        "                     Sent       Rcvd\n"
        "    Opens:              1          1\n"
        "    Notifications:      0          0\n"
        "    Updates:            3         12\n"
        "    Keepalives:        61         60\n"
        "    Route Refresh:      0          0\n"
        "    Total:             65         73\n"
        "  Default minimum time between advertisement runs is 0 seconds\n"
        "\n"
        " For address family: VPNv4 Unicast\n"
        "  BGP table version 16, neighbor version 16/0\n"
        "  Output queue size : 0\n"
        "  1 accepted prefixes\n"
        "\n"
        "  Connections established 1; dropped 0\n"
        "Local host: 198.51.100.1, Foreign host: 10.4.4.3"
    )
    idle = run(Service(hub(), told), "show ip bgp neighbors 10.4.4.9").text
    assert "  Not started: update-source has no usable address" in idle.splitlines()
    assert len(run(Service(hub(), told), "show bgp neighbors").value) == 2
    with pytest.raises(CommandError, match=r"no neighbor 1\.2\.3\.4"):
        run(Service(hub(), told), "show bgp neighbors 1.2.3.4")


# --- clear ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("clear ip bgp", (None, False, "both", None)),
        ("clear ip bgp *", (None, False, "both", None)),
        ("clear ip bgp soft", (None, True, "both", None)),
        ("clear ip bgp * soft in", (None, True, "in", None)),
        ("clear ip bgp 10.4.4.3 soft out", (ip("10.4.4.3"), True, "out", None)),
        ("clear ip bgp 65100", (65100, False, "both", None)),
        ("clear ip bgp 65100 vrf Customer A soft", (65100, True, "both", "Customer A")),
        ("clear ip bgp 2001:db8::1", (ip("2001:db8::1"), False, "both", None)),
    ],
)
def test_clear(line: str, meant: tuple[Any, ...]) -> None:
    service = Service(World())
    assert run(service, line).value["neighbors"] == 3
    assert service.cleared == [meant]


def test_clear_of_nobody_says_so() -> None:
    with pytest.raises(CommandError, match="no neighbor matches AS 666"):
        run(Service(World()), "clear ip bgp 666")


def test_without_the_service_a_command_says_where_to_look() -> None:
    with pytest.raises(CommandError, match="show processes"):
        run(None, "show ip bgp vpnv4 all")


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "00:00:00"),
        (86_399, "23:59:59"),
        (86_400, "1d00h"),
        (604_799, "6d23h"),
        (604_800, "1w0d"),
        (31_449_599, "51w6d"),
        (31_449_600, "1y00w"),
        (-5, "00:00:00"),
    ],
)
def test_ages_as_ios_prints_them(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("prefix", "text"),
    [
        ("0.0.0.0/0", "0.0.0.0"),
        ("10.0.0.0/8", "10.0.0.0"),
        ("10.1.0.0/16", "10.1.0.0/16"),
        ("172.16.0.0/16", "172.16.0.0"),
        ("192.168.1.0/24", "192.168.1.0"),
        ("192.168.1.1/32", "192.168.1.1/32"),
        ("192.0.0.0/8", "192.0.0.0/8"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::/0", "::/0"),
    ],
)
def test_natural_masks_are_left_out(prefix: str, text: str) -> None:
    assert network(Prefix.parse(prefix)) == text


def test_communities_as_text() -> None:
    assert [community(v) for v in (0xFFFFFF02, 0xFFFFFF03, 0xFFFF0001, 5)] == [
        "no-advertise",
        "local-AS",
        "65535:1",
        "0:5",
    ]
    assert extended_community(bytes.fromhex("0002fde800000064")) == "RT:65000:100"
    assert extended_community(bytes.fromhex("0003fde800000064")) == "SoO:65000:100"
    assert extended_community(bytes.fromhex("030c000000000008")) == "0x030c000000000008"
