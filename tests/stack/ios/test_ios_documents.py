"""The listings and steps of both feature documents, as they are printed there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bgp.config import BgpConfig, Redistribute
from stack.addr import RD, RT, Afi, Safi, parse_address
from stack.events import InterfaceKind
from stack.ios.checks import check
from stack.ios.printer import running_config
from stack.ios.reader import ConfigError, read
from stack.policy.routemap import SetEncapsulate
from tunnel.config import L3vpnProfile, TunnelConfig

DOCUMENTS = Path(__file__).parent / "documents"
FLEX = ("flexvpn_spoke1", "flexvpn_spoke2", "flexvpn_hub")

CUSTOMER = "Customer A"
V4, VPN4, VPN6 = (Afi.IPV4, Safi.UNICAST), (Afi.IPV4, Safi.VPN), (Afi.IPV6, Safi.VPN)


def text_of(name: str) -> str:
    return (DOCUMENTS / f"{name}.cfg").read_text()


def meaning(text: str) -> list[int]:
    """Numbers of the lines that say anything."""
    return [n for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.lstrip().startswith("!")]


def test_mgre_listing_loads_as_printed(loads):
    reading = loads(text_of("mgre_listing"))
    node, bgp = reading.config.node, reading.config[BgpConfig]

    vrf = node.vrfs[CUSTOMER]
    assert vrf.rd == RD.parse("100:110")
    assert vrf.families == {Afi.IPV4, Afi.IPV6}
    assert vrf.export_rts == vrf.import_rts == {afi: frozenset({RT.parse("100:1000")}) for afi in Afi}

    profile = reading.config[TunnelConfig].profiles["sample profile name"]
    assert profile == L3vpnProfile("sample profile name", source="Loopback0", key=1234)

    serial = node.interfaces["Serial2/0"]
    assert serial.kind is InterfaceKind.ETHERNET
    assert serial.vrf == CUSTOMER
    assert [(a.length, a.eui64) for a in serial.addresses] == [(27, False), (64, True)]

    neighbor = bgp.neighbors["", parse_address("209.165.200.254")]
    assert (bgp.asn, neighbor.remote_as, neighbor.update_source) == (100, 100, "Loopback0")
    assert set(neighbor.families) == {V4, VPN4, VPN6}
    for family in (VPN4, VPN6):
        told = neighbor.families[family]
        assert told.activate
        assert told.send_standard
        assert told.send_extended
        assert told.route_map_in == "SELECT_UPDATE_FOR_L3VPN"
    for family in (V4, (Afi.IPV6, Safi.UNICAST)):
        assert bgp.families[*family, CUSTOMER].redistribute == (Redistribute("connected"),)

    (sequence,) = node.route_maps["SELECT_UPDATE_FOR_L3VPN"].sequences
    assert (sequence.number, sequence.permit) == (10, True)
    assert sequence.sets == tuple(SetEncapsulate(afi, "sample profile name") for afi in Afi)


def test_every_line_of_the_mgre_listing_is_taken(loads):
    text = text_of("mgre_listing")
    assert loads(text).numbers == frozenset(meaning(text))


def test_lines_of_the_mgre_listing_without_effect_say_why(loads):
    reading = loads(text_of("mgre_listing"))
    assert [one.line for one in reading.no_effect] == [
        "ip cef",
        "ipv6 unicast-routing",
        "ipv6 cef",
        "ip router isis",
        "no fair-queue",
        "serial restart-delay 0",
        "no synchronization",
        "no auto-summary",
        "no synchronization",
        "no synchronization",
    ]
    assert all(one.reason for one in reading.no_effect)


@pytest.mark.parametrize("prompts", [True, False], ids=["with prompts", "without"])
def test_mgre_steps_load_as_printed(loads, prompts):
    text = text_of("mgre_steps")
    if not prompts:
        text = re.sub(r"^Router\S*[>#] ", "", text, flags=re.MULTILINE)
    reading = loads(text)
    assert reading.numbers == frozenset(meaning(text))
    assert reading.config[TunnelConfig].profiles == {
        "tunnel encap": L3vpnProfile("tunnel encap", source="Loopback0", key=1234)
    }
    bgp = reading.config[BgpConfig]
    first, second = parse_address("209.165.200.225"), parse_address("209.165.200.252")
    assert bgp.neighbors["", first].families[VPN4].route_map_in == "SELECT_UPDATE_FOR_L3VPN"
    assert bgp.neighbors["", second].families[VPN6].activate
    assert bgp.neighbors["", second].remote_as == 0  # the document never gives it one


def test_mgre_steps_summary_lines_with_vpv4_and_vpv6(loads):
    """The summary steps say vpv4 and vpv6; they print as what they mean (semantics 16)."""
    reading = loads(
        "router bgp 65001\n neighbor 192.0.2.9 remote-as 65001\n address-family vpv4\n  neighbor 192.0.2.9 activate\n"
        " exit\n address-family vpv6\n  neighbor 192.0.2.9 activate\n"
    )
    assert set(reading.config[BgpConfig].neighbors["", parse_address("192.0.2.9")].families) == {VPN4, VPN6}


@pytest.mark.parametrize("name", ["mgre_listing", "mgre_steps"])
def test_documents_print_and_load_again_to_the_same(loads, table, name):
    config = loads(text_of(name)).config
    printed = running_config(config, table=table)
    assert loads(printed).config == config
    assert running_config(loads(printed).config, table=table) == printed


@pytest.mark.parametrize("name", FLEX)
def test_flexvpn_listings_load_as_printed(loads, name):
    text = text_of(name)
    assert loads(text).numbers == frozenset(meaning(text))


@pytest.mark.parametrize("name", FLEX)
def test_flexvpn_listings_print_and_load_again_to_the_same(loads, table, name):
    config = loads(text_of(name)).config
    printed = running_config(config, table=table)
    assert loads(printed).config == config
    assert running_config(loads(printed).config, table=table) == printed


def test_hub_means_what_it_says(loads, table):
    reading = loads(text_of("flexvpn_hub"))
    bgp, node = reading.config[BgpConfig], reading.config.node
    group = bgp.peer_groups["mpls"]
    assert (group.remote_as, group.mode.value, group.update_source) == (100, "passive", "Loopback0")
    assert bgp.listen_limit == 5000
    assert group.families[V4].next_hop_self
    assert bgp.families[*V4, "cust1"].default_information
    assert Redistribute("static", "cust2") in bgp.families[*V4, "cust2"].redistribute
    template = node.interfaces["Virtual-Template1"]
    assert (template.kind, template.unnumbered, template.mpls) == (InterfaceKind.TEMPLATE, "Loopback0", True)
    assert (template.network_id, template.redirect) == (1, True)
    assert {r.tag for r in node.static_routes if r.null} == {666, 667}
    assert node.vrfs["cust1"].families == {Afi.IPV4}
    assert running_config(reading.config, table=table).count("ip vrf cust") == 2


@pytest.mark.parametrize("name", FLEX)
def test_flexvpn_listings_have_no_errors(loads, specs, name):
    """Warnings are right: as printed, certificates are missing and a virtual template is named that is not there."""
    assert [one for one in check(loads(text_of(name)), specs) if one.severity == "error"] == []


def test_undefined_route_map_of_the_hub_is_a_warning(loads, specs):
    """Semantics 16: `redistribute static route-map global` names a map that the document never defines."""
    text = text_of("flexvpn_hub")
    (finding,) = [f for f in check(loads(text), specs) if "'global'" in f.text]
    assert finding.severity == "warning"
    assert text.splitlines()[finding.number - 1].strip() == "redistribute static route-map global"


def test_half_a_listing_is_no_crash(table):
    lines = text_of("flexvpn_hub").splitlines()
    for end in range(len(lines)):
        try:
            read("\n".join(lines[:end]), "half.cfg", table=table)
        except ConfigError as error:
            assert str(error).endswith("nothing was changed")  # noqa: PT017  (either way is right; how is what counts)
