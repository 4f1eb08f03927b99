"""The lines that protect tunnels: what they mean, what is refused with a reason, and what `check` finds."""

from __future__ import annotations

import pytest

from stack.config import Config
from stack.events import AddressRow, Interface, InterfaceKind, InterfaceOffered, InterfaceRow
from stack.ios.checks import check_config
from stack.ios.printer import running_config
from stack.ios.reader import ConfigError
from stack.offers import offers_of
from tunnel.config import TunnelConfig
from tunnel.engine.tunnels import tunnel_source

SPOKE = """\
interface Ethernet0/0
 ip address 172.16.1.1 255.255.255.252
interface Tunnel0
 ip address negotiated
 tunnel source Ethernet0/0
 tunnel destination 172.16.0.1
 tunnel protection ipsec profile default
"""
HUB = """\
interface Loopback0
 ip address 10.0.0.1 255.255.255.255
interface Ethernet0/0
 ip address 172.16.0.1 255.255.255.252
interface Virtual-Template1 type tunnel
 ip unnumbered Loopback0
 tunnel source Ethernet0/0
 mpls bgp forwarding
 tunnel protection ipsec profile default
"""


def rows(config: Config) -> dict[str, InterfaceRow]:
    offers = offers_of(config, vrf_index=lambda _name: 0, bindings={}, mac_of=lambda _device: b"")
    return dict(offers.rows[InterfaceOffered, "router", ""])


def findings(text: str) -> list[str]:
    return [f"{one.severity}: {one.text}" for one in check_config(Config.from_ios(text))]


def test_a_spoke_asks_for_its_address_and_is_protected() -> None:
    row = rows(Config.from_ios(SPOKE))["Tunnel0"]
    assert (row.kind, row.protection, row.negotiated, row.point_to_point) == (
        InterfaceKind.TUNNEL, "default", True, True,
    )  # fmt: skip


def test_a_hubs_template_has_all_that_its_clones_need() -> None:
    config = Config.from_ios(HUB)
    row = rows(config)["Virtual-Template1"]
    assert (row.kind, row.protection, row.unnumbered, row.mpls, row.point_to_point) == (
        InterfaceKind.TEMPLATE, "default", "Loopback0", True, True,
    )  # fmt: skip
    assert config[TunnelConfig].tunnels["Virtual-Template1"].source == "Ethernet0/0"


@pytest.mark.parametrize("text", [SPOKE, HUB])
def test_what_is_printed_reads_as_the_same(text: str) -> None:
    config = Config.from_ios(text)
    printed = running_config(config)
    assert Config.from_ios(printed) == config
    assert " tunnel protection ipsec profile default\n" in printed


@pytest.mark.parametrize("line", ["no tunnel protection", "no tunnel protection ipsec profile default"])
def test_it_can_be_taken_back(line: str) -> None:
    assert rows(Config.from_ios(f"{SPOKE} {line}\n"))["Tunnel0"].protection == ""


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("tunnel protection ipsec profile P ikev2-profile Q", "an IPsec profile has one IKEv2 profile here"),
        ("tunnel protection ipsec profile P shared", "each tunnel has security associations of its own here"),
        ("tunnel mode ipsec ipv4", "tunnels here are GRE over IP"),
    ],
)
def test_what_is_refused_says_why(line: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Config.from_ios(f"{SPOKE} {line}\n")


def test_only_tunnels_are_protected() -> None:
    with pytest.raises(ConfigError, match="Ethernet0/0 is no tunnel"):
        Config.from_ios("interface Ethernet0/0\n tunnel protection ipsec profile default\n")


def test_a_profile_that_is_not_there_is_an_error_and_the_default_one_always_is() -> None:
    wrong = SPOKE.replace("profile default", "profile gold")
    assert "error: there is no IPsec profile called 'gold': the tunnel carries nothing" in findings(wrong)
    for text in (SPOKE, HUB):
        assert not [found for found in findings(text) if "IPsec profile" in found]


def test_a_template_needs_no_source_and_no_destination() -> None:
    bare = HUB.replace(" tunnel source Ethernet0/0\n", " tunnel key 7\n")
    assert not [found for found in findings(bare) if "has no tunnel" in found]


RED = "vrf definition red\n address-family ipv4\n"


@pytest.mark.parametrize(
    ("transport", "of_source", "where", "there"),
    [("red", "", "VRF {}", "the default VRF"), ("", "red", "the default VRF", "VRF {}")],
)
def test_a_source_in_another_vrf_than_the_tunnels_own_packets(
    transport: str, of_source: str, where: str, there: str
) -> None:
    """The far end would be looked for in one VRF, and the packets sent from the other: the tunnel is down, and says why."""
    text = RED + SPOKE + (f" tunnel vrf {transport}\n" if transport else "")
    if of_source:
        text = text.replace("interface Ethernet0/0\n", f"interface Ethernet0/0\n vrf forwarding {of_source}\n")
    expected = (
        f"warning: Tunnel0 stays down: its own packets travel in {where.format(repr('red'))}, and Ethernet0/0 is in "
    )
    assert expected + there.format(repr("red")) in findings(text)
    tunnel = Config.from_ios(text)[TunnelConfig].tunnels["Tunnel0"]
    row = InterfaceRow("Ethernet0/0", InterfaceKind.ETHERNET, vrf=of_source)
    source = Interface(row, 1, up=True, mtu=1500, addresses={bytes((172, 16, 1, 1)): AddressRow(24)})
    fault, address = tunnel_source(tunnel, {"Ethernet0/0": source})
    assert address == b""
    assert fault == (
        f"the tunnel's own packets travel in {where.format('red')}, and its source Ethernet0/0 is in {there.format('red')}"
    )


def test_a_transport_vrf_is_a_vrf_and_nothing_to_warn_of() -> None:
    both = RED + SPOKE.replace("interface Ethernet0/0\n", "interface Ethernet0/0\n vrf forwarding red\n")
    assert not [found for found in findings(both + " tunnel vrf red\n") if "travel in" in found]
    assert "error: there is no VRF called 'blue': Tunnel0 stays down" in findings(both + " tunnel vrf blue\n")


def test_two_protected_tunnels_with_the_same_ends_are_an_error() -> None:
    second = SPOKE[SPOKE.index("interface Tunnel0") :].replace("Tunnel0", "Tunnel1")
    why = "error: Tunnel1 and Tunnel0 have the same ends: IKE cannot tell their security associations apart"
    assert why in findings(SPOKE + second)
    assert why not in findings(SPOKE + second.replace("172.16.0.1", "172.16.0.9"))
    assert why not in findings(SPOKE + second.replace(" tunnel protection ipsec profile default\n", ""))
