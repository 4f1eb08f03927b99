"""Golden texts of what mfi shows, on addresses and labels of their own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mfi.config import MfiConfig
from mfi.engine import Engine
from mfi.service import SERVICE
from mfi.show import forwarding_table, label_range, label_table
from stack.addr import RD, Afi, NextHopFec, Prefix, PrefixFec, SwapFec, VrfFec, parse_address
from stack.bus import Bus
from stack.events import AdjacencyKey, LabelCounters, LabelRequest, NextHopKey
from stack.ios.command import Scene
from stack.ios.commands import Interpreter
from stack.tables import Tables
from stack.tables.nexthop import NextHop

P, A = Prefix.parse, parse_address


def world() -> tuple[Tables, Engine]:
    tables = Tables()
    hops = tables.nexthops.writer("routing")
    for number, interface, address, labels in (
        (4, "Ethernet0/3", "172.29.8.2", ()),
        (5, "Tunnel7", "", ()),
        (6, "Ethernet0/0", "10.77.0.2", (301,)),
    ):
        far = A(address) if address else b""
        hops.put(number, NextHop(NextHopKey("", far), AdjacencyKey(interface, far), labels))
    hops.put(8, NextHop(NextHopKey("", A("10.77.0.9")), None, reason="no route to 10.77.0.9"))
    engine = Engine(MfiConfig(first=600, last=699, static_first=16, static_last=99), tables.lfib.writer("mfi"))
    engine.feed(
        "bgp",
        {
            VrfFec("blue", Afi.IPV6): LabelRequest(frozenset({"mgre"})),
            PrefixFec("blue", P("172.29.0.0/20")): LabelRequest(frozenset({"mgre"}), 4),
            PrefixFec("blue", P("2001:db8:77:ab::/64")): LabelRequest(frozenset({"mgre"}), 4),
            PrefixFec("blue", P("172.29.8.0/24")): LabelRequest(frozenset({"mgre"})),
            NextHopFec("blue", "Ethernet0/3", A("172.29.8.2")): LabelRequest(frozenset({"ethernet"}), 4),
            SwapFec(RD.parse("9:9"), P("10.1.0.0/16"), 5, (77,)): LabelRequest(frozenset({"protected"}), vrf="blue"),
            SwapFec(RD.parse("9:9"), P("10.2.0.0/16"), 5, (3,)): LabelRequest(frozenset({"protected"}), vrf="blue"),
            PrefixFec("blue", P("172.30.0.0/20")): LabelRequest(frozenset({"mgre"}), 8),
        },
    )
    engine.feed("tunnel", {PrefixFec("", P("10.77.1.4/32")): LabelRequest(frozenset({"ethernet"}), 6, 20)})
    engine.feed("nhrp", {PrefixFec("blue", P("172.29.0.0/20")): LabelRequest(frozenset({"protected"}))})
    engine.settle(0.0)
    return tables, engine


FORWARDING = """\
Local      Outgoing   Prefix           Bytes Label   Outgoing   Next Hop
Label      Label      or Tunnel Id     Switched      interface
20         301        10.77.1.4/32     0             Ethernet0/0 10.77.0.2
600        Pop Label  IPv6 VRF[V]      0             aggregate/blue
601        No Label   172.29.0.0/20[V] 5120          Ethernet0/3 172.29.8.2
602        No Label   2001:db8:77:ab::/64[V]
                                       0             Ethernet0/3 172.29.8.2
603        No Label   172.29.8.0/24[V] 0             aggregate/blue
604        No Label   nh-id(172.29.8.2)[V]
                                       0             Ethernet0/3 172.29.8.2
605        77         9:9:10.1.0.0/16  88            Tunnel7    point2point
606        Pop Label  9:9:10.2.0.0/16  0             Tunnel7    point2point
607        No Label   172.30.0.0/20[V] 0             drop"""


def test_routes_that_are_told_on_belong_to_the_vrf_of_their_rd() -> None:
    """The hub of MPLS over FlexVPN: its label for a spoke's route is another one than the spoke's, and is swapped."""
    tables, engine = world()
    swapped = SwapFec(RD.parse("9:9"), P("10.3.0.0/16"), 5, (78,))
    engine.feed("bgp", {swapped: LabelRequest(frozenset({"protected"}))})
    engine.settle(0.0)
    known = {RD.parse("9:9"): "blue"}
    shown = forwarding_table(tables.lfib, tables.nexthops, {}, "blue", known)
    assert "608        78         10.3.0.0/16[V]   0             Tunnel7    point2point" in shown.text.splitlines()
    assert "605        77         10.1.0.0/16[V]   0             Tunnel7    point2point" in shown.text.splitlines()
    row = next(row for row in shown.value if row["local-label"] == 608)
    assert (row["vrf"], row["fec"], row["outgoing-label"]) == ("blue", "9:9:10.3.0.0/16", "78")
    assert 608 not in [
        row["local-label"] for row in forwarding_table(tables.lfib, tables.nexthops, {}, "red", known).value
    ]


def test_show_mpls_forwarding_table() -> None:
    tables, _ = world()
    shown = forwarding_table(tables.lfib, tables.nexthops, {601: 5120, 605: 88})
    assert shown.text == FORWARDING
    assert shown.value[0] == {
        "local-label": 20,
        "outgoing-label": "301",
        "labels-pushed": [301],
        "operation": "pop-forward",
        "fec": "10.77.1.4/32",
        "vrf": "",
        "octets": 0,
        "interface": "Ethernet0/0",
        "next-hop": "10.77.0.2",
        "next-hop-id": 6,
        "scope": ["ethernet"],
        "reason": "",
    }
    assert shown.value[-1]["reason"] == "no route to 10.77.0.9"
    only = forwarding_table(tables.lfib, tables.nexthops, {}, "")
    assert [row["local-label"] for row in only.value] == [20]


def test_show_mpls_label_table() -> None:
    _, engine = world()
    engine.feed("bgp", {PrefixFec("blue", P("10.9.0.0/16")): LabelRequest(frozenset({"mgre"}), fixed=601)})
    engine.settle(0.0)
    shown = label_table(engine.snapshot())
    lines = shown.text.splitlines()
    assert lines[1] == "20       10.77.1.4/32                     -            tunnel               ethernet"
    assert "601      172.29.0.0/20[V]                 blue         bgp, nhrp            mgre, protected" in lines
    assert lines[-1] == "         label 601 is bound to 172.29.0.0/20 in VRF blue"
    assert shown.value[-1]["label"] is None


def test_show_mpls_label_range() -> None:
    shown = label_range(MfiConfig(first=600, last=699, static_first=16, static_last=99, quarantine=12.5), 3, 1)
    assert shown.text == (
        "Downstream Generic label region: Min/Max label: 600/699\n"
        "Range for static labels: Min/Max label: 16/99\n"
        "Labels in use: 3, resting after use: 1 (for 12.5 s)"
    )
    assert shown.value["in-use"] == 3


def test_commands_find_counters_if_somebody_counts() -> None:
    tables, engine = world()
    bus = Bus()
    interpreter = Interpreter(SERVICE.commands)
    scene = Scene(SimpleNamespace(engine=engine), tables, bus, None, None, 0.0)

    def shown(line: str) -> Any:
        command, values, finish = interpreter.resolve(line)
        return finish(command.run(scene, values))

    octets = {row["local-label"]: row["octets"] for row in shown("show mpls forwarding-table").value}
    assert set(octets.values()) == {0}
    bus.attach("forwarder").serve(LabelCounters, lambda _request: {605: 88})
    octets = {row["local-label"]: row["octets"] for row in shown("sh mpls forw vrf blue").value}
    assert octets[605] == 88
    assert 20 not in octets
    assert shown("show mpls label range").value["in-use"] == 9
    assert len(shown("show mpls label table").value) == 9
