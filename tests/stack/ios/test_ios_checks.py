"""Legal but wrong: what `check` finds, where, and that it stays silent about what is right."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bgp.config import BgpConfig
from stack.config import Config
from stack.ios.checks import check, check_config
from stack.ios.grammar import Finding, Reference
from stack.ios.reader import read
from tunnel.config import L3vpnProfile, TransportProtocol, TunnelConfig

GOOD = """\
hostname PE7
vrf definition Blue
 rd 65010:1
 route-target both 65010:1
 address-family ipv4
l3vpn encapsulation ip core
 transport ipv4 source Loopback7
interface Loopback7
 ip address 192.0.2.7 255.255.255.255
interface Ethernet0/0
 ip address 198.51.100.7 255.255.255.0
interface Ethernet0/1.10
 encapsulation dot1Q 10
 vrf forwarding Blue
 ip address 10.7.0.1 255.255.255.0
router bgp 65010
 neighbor 192.0.2.8 remote-as 65010
 neighbor 192.0.2.8 update-source Loopback7
 address-family vpnv4
  neighbor 192.0.2.8 activate
  neighbor 192.0.2.8 route-map over in
 address-family ipv4 vrf Blue
  redistribute connected
ip route 192.0.2.8 255.255.255.255 198.51.100.8
route-map over permit 10
 set ip next-hop encapsulate l3vpn core
"""


def findings(text, table, specs):
    return check(read(text, "pe.cfg", table=table), specs)


def test_nothing_is_said_of_what_is_right(table, specs):
    assert findings(GOOD, table, specs) == ()


CASES = {
    "update-source is not the transport source": (
        ("neighbor 192.0.2.8 update-source Loopback7", "neighbor 192.0.2.8 update-source Ethernet0/0"),
        "warning",
        "BGP's update-source is Ethernet0/0, but the L3VPN transport source is Loopback7",
        "transport ipv4 source Loopback7",
    ),
    "bgp next-hop counts before update-source": (
        ("router bgp 65010\n", "router bgp 65010\n bgp next-hop Ethernet0/0\n"),
        "warning",
        "`bgp next-hop` is Ethernet0/0, but the L3VPN transport source is Loopback7",
        "transport ipv4 source Loopback7",
    ),
    "automatic source without update-source": (
        (" transport ipv4 source Loopback7\n", ""),
        None,
        "",
        "",
    ),
    "transport source that is shut down": (
        ("interface Loopback7\n", "interface Loopback7\n shutdown\n"),
        "warning",
        "Loopback7 is shut down: the tunnel stays down",
        "transport ipv4 source Loopback7",
    ),
    "transport source in a VRF": (
        ("interface Loopback7\n", "interface Loopback7\n vrf forwarding Blue\n"),
        "warning",
        "Loopback7 is in VRF 'Blue', not in the transport network",
        "transport ipv4 source Loopback7",
    ),
    "label that is not kept for static bindings": (
        (
            "interface Loopback7\n",
            (
                "mpls label range 500 599 static 100 199\n"
                "mpls static binding ipv4 203.0.113.0 255.255.255.0 input 550\ninterface Loopback7\n"
            ),
        ),
        "warning",
        "label 550 is not among the static ones (100 to 199)",
        "mpls static binding ipv4 203.0.113.0 255.255.255.0 input 550",
    ),
    "neighbour that is the node itself": (
        ("neighbor 192.0.2.8 ", "neighbor 192.0.2.7 "),
        "warning",
        "neighbour 192.0.2.7 is an address of this node itself",
        "neighbor 192.0.2.7",
    ),
    "more than one profile": (
        ("interface Loopback7\n", "l3vpn encapsulation ip second\ninterface Loopback7\n"),
        "warning",
        "'second' is not provisioned: each PE supports one tunnel configuration only",
        "l3vpn encapsulation ip second",
    ),
    "route target that nobody imports": (
        ("route-target both 65010:1", "route-target export 65010:9\n route-target import 65010:1"),
        "note",
        "route target 65010:9 is imported by no VRF here",
        "route-target export 65010:9",
    ),
    "VRF that imports nothing": (
        ("route-target both", "route-target export"),
        "warning",
        "imports no route target",
        "vrf definition Blue",
    ),
    "route map that names no profile": (
        ("set ip next-hop encapsulate l3vpn core", "set ip next-hop encapsulate l3vpn cor"),
        "warning",
        "there is no L3VPN profile called 'cor'",
        "set ip next-hop encapsulate l3vpn cor",
    ),
    "missing route map": (
        ("route-map over in", "route-map ovre in"),
        "warning",
        "there is no route map called 'ovre'",
        "neighbor 192.0.2.8 route-map ovre in",
    ),
    "missing prefix list": (
        (" address-family ipv4 vrf", "  neighbor 192.0.2.8 prefix-list few out\n address-family ipv4 vrf"),
        "warning",
        "there is no prefix list called 'few'",
        "neighbor 192.0.2.8 prefix-list few out",
    ),
    "missing list of a route map": (
        ("route-map over permit 10\n", "route-map over permit 10\n match ip address prefix-list few\n"),
        "warning",
        "there is no prefix list called 'few': a list that does not exist permits all",
        "route-map over permit 10",
    ),
    "missing route map of redistribute": (
        ("redistribute connected", "redistribute connected route-map few"),
        "warning",
        "there is no route map called 'few'",
        "redistribute connected route-map few",
    ),
    "listen range without a limit": (
        (
            "router bgp 65010\n",
            "router bgp 65010\n neighbor far peer-group\n bgp listen range 10.9.0.0/16 peer-group far\n",
        ),
        "warning",
        "a listen range without `bgp listen limit`: 100 sessions at most",
        "bgp listen range 10.9.0.0/16 peer-group far",
    ),
    "VRF without RD": (
        (" rd 65010:1\n", ""),
        "warning",
        "'Blue' has no route distinguisher",
        "vrf definition Blue",
    ),
    "VRF without address family": (
        (" address-family ipv4\nl3vpn", "l3vpn"),
        "warning",
        "no address family of VRF 'Blue' is open",
        "vrf definition Blue",
    ),
    "two VRFs with one RD": (
        ("l3vpn enc", "vrf definition Red\n rd 65010:1\n route-target both 65010:1\n address-family ipv4\nl3vpn enc"),
        "error",
        "VRFs 'Blue' and 'Red' have the same route distinguisher",
        "vrf definition Red",
    ),
    "tunnel that is routed into itself": (
        (
            "router bgp",
            (
                "interface Tunnel4\n tunnel source Ethernet0/0\n tunnel destination 203.0.113.4\n"
                "ip route 203.0.113.0 255.255.255.0 Tunnel4\nrouter bgp"
            ),
        ),
        "error",
        "Tunnel4's destination 203.0.113.4 is routed into Tunnel4 itself",
        "tunnel destination 203.0.113.4",
    ),
    "tunnel that is routed into itself by way of another": (
        (
            "router bgp",
            (
                "interface Tunnel4\n ip address 10.4.0.1 255.255.255.252\n tunnel source Ethernet0/0\n"
                " tunnel destination 203.0.113.4\nip route 203.0.113.0 255.255.255.0 10.4.0.2\nrouter bgp"
            ),
        ),
        "error",
        "Tunnel4's destination 203.0.113.4 is routed into Tunnel4 itself",
        "tunnel destination 203.0.113.4",
    ),
    "interface in an unknown VRF": (
        ("vrf forwarding Blue", "vrf forwarding Bleu"),
        "error",
        "there is no VRF called 'Bleu': Ethernet0/1.10 would be in no table",
        "vrf forwarding Bleu",
    ),
    "two interfaces with one address": (
        ("ip address 198.51.100.7 255.255.255.0", "ip address 192.0.2.7 255.255.255.255"),
        "error",
        "Loopback7 and Ethernet0/0 have the same address 192.0.2.7 in the global table",
        "interface Ethernet0/0",
    ),
    "two interfaces on one subnet": (
        (
            "interface Ethernet0/1.10",
            "interface Ethernet0/2\n ip address 198.51.100.9 255.255.255.0\ninterface Ethernet0/1.10",
        ),
        "warning",
        "Ethernet0/0 and Ethernet0/2 are on one subnet",
        "interface Ethernet0/2",
    ),
    "two sub-interfaces with one tag": (
        ("router bgp", "interface Ethernet0/1.11\n encapsulation dot1Q 10\nrouter bgp"),
        "error",
        "have the same dot1Q tag",
        "interface Ethernet0/1.11",
    ),
    "sub-interface without a tag": (
        (" encapsulation dot1Q 10\n", ""),
        "warning",
        "Ethernet0/1.10 has no dot1Q tag",
        "interface Ethernet0/1.10",
    ),
    "transport source that is not there": (
        ("transport ipv4 source Loopback7", "transport ipv4 source Loopback9"),
        "warning",
        "there is no interface called 'Loopback9': the tunnel has no source",
        "transport ipv4 source Loopback9",
    ),
    "neighbour without an AS": (
        ("neighbor 192.0.2.8 remote-as 65010\n", ""),
        "warning",
        "neighbour 192.0.2.8 has no remote-as",
        "neighbor 192.0.2.8",
    ),
    "eBGP from a loopback without multihop": (
        ("neighbor 192.0.2.8 remote-as 65010", "neighbor 192.0.2.8 remote-as 65011"),
        "warning",
        "without ebgp-multihop",
        "neighbor 192.0.2.8 update-source Loopback7",
    ),
    "VPN neighbour that gets no route targets": (
        (
            "  neighbor 192.0.2.8 route-map",
            "  no neighbor 192.0.2.8 send-community extended\n  neighbor 192.0.2.8 route-map",
        ),
        "warning",
        "no route target is sent to VPN neighbour 192.0.2.8",
        "neighbor 192.0.2.8 activate",
    ),
    "profile that no route map uses": (
        ("  neighbor 192.0.2.8 route-map over in\n", "  neighbor 192.0.2.8 route-map L3VPN-core in\n"),
        None,
        "",
        "",
    ),
    "static route in an unknown VRF": (
        ("ip route 192", "ip route vrf Bleu 10.0.0.0 255.0.0.0 Null0\nip route 192"),
        "error",
        "there is no VRF called 'Bleu'",
        "ip route vrf Bleu",
    ),
    "protection that nobody can give": (
        ("transport ipv4 source Loopback7", "transport ipv4 source Loopback7\n protection ipsec profile P"),
        "error",
        "there is no IPsec profile called 'P'",
        "protection ipsec profile P",
    ),
}


@pytest.mark.parametrize(("change", "severity", "text", "line"), CASES.values(), ids=CASES)
def test_finding(table, specs, change, severity, text, line):
    assert change[0] in GOOD
    wrong = GOOD.replace(change[0], change[1], 1)
    found = findings(wrong, table, specs)
    if severity is None:
        assert found == ()
        return
    matching = [f for f in found if text in f.text]
    assert matching, found
    assert matching[0].severity == severity
    assert matching[0].number is not None
    assert wrong.splitlines()[matching[0].number - 1].strip().startswith(line)


def test_automatic_source_needs_an_update_source(table, specs):
    text = GOOD.replace(" transport ipv4 source Loopback7\n", "").replace(
        " neighbor 192.0.2.8 update-source Loopback7\n", ""
    )
    assert any("takes its source from BGP, which names none" in f.text for f in findings(text, table, specs))


def test_unused_profile_is_a_note_that_names_the_default_map(table, specs):
    text = GOOD.replace(" set ip next-hop encapsulate l3vpn core\n", "")
    (found,) = findings(text, table, specs)
    assert (found.severity, "`L3VPN-core` sends all" in found.text) == ("note", True)


def test_mdt_loopback_of_a_model_from_python(specs):
    """Reading refuses it already; models come by other doors."""
    shared = L3vpnProfile("core", source="Loopback7", mdt_loopback="Loopback7")
    assert any(
        "share a loopback" in f.text for f in check_config(Config().replace(TunnelConfig({"core": shared})), specs)
    )
    plain = L3vpnProfile("core", protocol=TransportProtocol.MPLS_IN_IP, protection="P")
    found = check_config(Config().replace(TunnelConfig({"core": plain})), specs)
    assert any("go round the key and the protection" in f.text and f.severity == "error" for f in found)


def test_worst_first_and_lines_without_effect_as_notes(table, specs):
    text = GOOD.replace("vrf forwarding Blue", "vrf forwarding Bleu").replace("hostname PE7", "ip cef\nhostname PE7")
    found = findings(text, table, specs)
    assert [f.severity for f in found] == sorted((f.severity for f in found), key=["error", "warning", "note"].index)
    assert found[-1].line == "ip cef"
    assert found[-1].number == 1
    assert str(found[0]) == (
        "15: error: there is no VRF called 'Bleu': Ethernet0/1.10 would be in no table (`vrf forwarding Bleu`); "
        "did you mean `Blue`?"
    )


def test_checks_of_any_package_are_heard(table):
    """A package brings its rule in its ServiceSpec and knows nobody else's."""

    def rule(config):
        assert config[BgpConfig].asn == 65010
        yield Finding("error", "made up")
        yield Reference("moon", "Io", "orbit Io", "nothing to circle")

    found = check_config(
        read(GOOD, table=table).config, [SimpleNamespace(checks=(rule,), route_maps=None, config=None)]
    )
    assert {f.text for f in found} >= {"made up", "there is no moon called 'Io': nothing to circle"}
