"""What `check` finds in the configuration of NHRP: one text, one finding, and a text that is right has none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nhrp.checks import CHECKS
from nhrp.config import NhrpConfig
from nhrp.lines import LINES
from stack.ios.checks import check
from stack.ios.grammar import Finding
from stack.ios.node_lines import LATER
from stack.ios.node_lines import LINES as NODE_LINES
from stack.ios.reader import read
from stack.ios.table import Table
from tunnel.config import TunnelConfig
from tunnel.lines import LINES as TUNNEL_LINES

TABLE = Table.of([*NODE_LINES, *TUNNEL_LINES, *LINES], LATER)
SPECS = (
    SimpleNamespace(checks=CHECKS, route_maps=None, config=NhrpConfig),
    SimpleNamespace(checks=(), route_maps=None, config=TunnelConfig),
)

SPOKE = """\
interface Loopback0
 ip address 10.0.0.11 255.255.255.255
interface Tunnel0
 ip unnumbered Loopback0
 ip nhrp network-id 1
 ip nhrp shortcut virtual-template 1
 mpls nhrp
 tunnel protection ipsec profile default
interface Virtual-Template1 type tunnel
 ip unnumbered Loopback0
 ip nhrp network-id 1
 ip nhrp shortcut virtual-template 1
 mpls nhrp
 tunnel protection ipsec profile default
"""
HUB = """\
interface Virtual-Template1 type tunnel
 ip nhrp network-id 1
 ip nhrp redirect
 mpls bgp forwarding
 tunnel protection ipsec profile default
"""
DMVPN = """\
interface Tunnel0
 ip address 10.0.0.2 255.255.255.0
 ipv6 address fd00::2/64
 ip nhrp network-id 1
 ipv6 nhrp network-id 1
 ip nhrp redirect timeout 5
 ip nhrp holdtime 300
 ip nhrp registration timeout 100
 ip nhrp shortcut
 ipv6 nhrp shortcut
 ip nhrp nhs 10.0.0.1 nbma 192.0.2.1
 ip nhrp nhs 10.0.0.9
 ip nhrp map 10.0.0.9 192.0.2.9
 ipv6 nhrp nhs dynamic nbma 192.0.2.1
 tunnel mode gre multipoint
"""


def findings(text: str) -> list[Finding]:
    return [one for one in check(read(text, table=TABLE), SPECS) if "nhrp" in f"{one} {one.line}".lower()]


def said(text: str) -> list[str]:
    return [f"{one.severity}: {one.text}" for one in findings(text)]


@pytest.mark.parametrize("text", [SPOKE, HUB, DMVPN, ""], ids=["spoke", "hub", "dmvpn", "nothing"])
def test_what_is_right_has_no_findings(text):
    assert findings(text) == []


TUNNEL = "interface Tunnel0\n ip address 10.0.0.2 255.255.255.0\n tunnel mode gre multipoint\n"
POINT = TUNNEL.replace("multipoint", "ip")
NETWORK = TUNNEL + " ip nhrp network-id 1\n"


def spoke(more: str = "", *, template: str) -> str:
    return (
        f"interface Tunnel0\n ip nhrp network-id 1\n ip nhrp shortcut virtual-template 1\n{more}"
        f"interface Virtual-Template1 type tunnel\n{template}"
    )


FOUND = [
    # what, text, findings, the line that they name
    (
        "redirect without a network",
        TUNNEL + " ip nhrp redirect\n",
        ["warning: Tunnel0 has `ip nhrp redirect` and no `ip nhrp network-id`: NHRP does not run there"],
        "ip nhrp redirect",
    ),
    (
        "redirect of IPv6 without a network",
        TUNNEL + " ipv6 nhrp redirect\n",
        ["warning: Tunnel0 has `ipv6 nhrp redirect` and no `ip nhrp network-id`: NHRP does not run there"],
        "ipv6 nhrp redirect",
    ),
    (
        "labels without a network",
        TUNNEL + " mpls nhrp\n",
        ["warning: Tunnel0 has `mpls nhrp` and no `ip nhrp network-id`: no label travels in NHRP"],
        "mpls nhrp",
    ),
    (
        "shortcut without a network",
        TUNNEL + " ip nhrp shortcut\n",
        ["warning: Tunnel0 has `ip nhrp shortcut` and no `ip nhrp network-id`: NHRP does not run there"],
        "ip nhrp shortcut",
    ),
    (
        "all else without a network",
        TUNNEL + " ipv6 nhrp nhs fd00::1 nbma 192.0.2.1\n",
        ["warning: Tunnel0 has ipv6 nhrp lines and no `ip nhrp network-id`: NHRP does not run there"],
        "interface Tunnel0",
    ),
    (
        "no template",
        NETWORK + " ip nhrp shortcut virtual-template 7\n",
        ["warning: there is no interface called 'Virtual-Template7': no shortcut is built, all goes by the hub"],
        "ip nhrp shortcut virtual-template 7",
    ),
    (
        "a template in no network",
        spoke(template=" ip unnumbered Loopback0\n tunnel protection ipsec profile default\n"),
        ["warning: Virtual-Template1 has no `ip nhrp network-id`: what comes by a shortcut is not NHRP's"],
        "ip nhrp shortcut virtual-template 1",
    ),
    (
        "a template in another network",
        spoke(template=" ip nhrp network-id 2\n tunnel protection ipsec profile default\n"),
        ["warning: Virtual-Template1 is in NHRP network 2, Tunnel0 in 1"],
        "ip nhrp shortcut virtual-template 1",
    ),
    (
        "a template that nothing protects",
        spoke(template=" ip nhrp network-id 1\n"),
        ["warning: Virtual-Template1 has no `tunnel protection`: IKEv2 builds its clones, so there is never one"],
        "ip nhrp shortcut virtual-template 1",
    ),
    (
        "a template in another VRF",
        "vrf definition red\n address-family ipv4\n"
        + spoke(template=" vrf forwarding red\n ip nhrp network-id 1\n tunnel protection ipsec profile default\n"),
        ["warning: Virtual-Template1 is in 'red', Tunnel0 in the default VRF: a shortcut leaves by no other VRF"],
        "ip nhrp shortcut virtual-template 1",
    ),
    (
        "a template without labels",
        spoke(" mpls nhrp\n", template=" ip nhrp network-id 1\n tunnel protection ipsec profile default\n"),
        ["warning: Virtual-Template1 has no `mpls nhrp`: no labelled packet takes a shortcut"],
        "ip nhrp shortcut virtual-template 1",
    ),
    (
        "a template that is shut down",
        spoke(template=" ip nhrp network-id 1\n tunnel protection ipsec profile default\n shutdown\n"),
        ["warning: Virtual-Template1 is shut down"],
        "ip nhrp shortcut virtual-template 1",
    ),
    (
        "a point-to-point tunnel without a template",
        POINT + " ip nhrp network-id 1\n ip nhrp shortcut\n",
        [
            "warning: Tunnel0 has one far end: without `virtual-template` there is no tunnel that a shortcut could take",
        ],
        "ip nhrp shortcut",
    ),
    (
        "a server that nobody can find",
        NETWORK + " ip nhrp nhs 10.0.0.1\n",
        ["warning: where 10.0.0.1 is, nobody says (`nbma`, or `ip nhrp map`): Tunnel0 never registers"],
        "ip nhrp nhs 10.0.0.1",
    ),
    (
        "a server of unknown address that nobody can find",
        NETWORK + " ip nhrp nhs dynamic\n",
        ["warning: where that server is, nobody says (`nbma`, or `ip nhrp map`): Tunnel0 never registers"],
        "ip nhrp nhs dynamic",
    ),
    (
        "ourselves",
        NETWORK + " ip nhrp nhs 10.0.0.2 nbma 192.0.2.1\n",
        ["error: 10.0.0.2 is Tunnel0's own address: it would register with itself"],
        "ip nhrp nhs 10.0.0.2 nbma 192.0.2.1",
    ),
    (
        "a holding time that one loss uses up",
        NETWORK + " ip nhrp holdtime 299\n ip nhrp registration timeout 100\n",
        ["warning: registrations live 299 seconds and are renewed every 100: one lost packet, and they expire"],
        "ip nhrp registration timeout 100",
    ),
    (
        "a holding time shorter than the interval",
        NETWORK + " ip nhrp holdtime 100\n ip nhrp registration timeout 100\n",
        ["warning: registrations live 100 seconds and are renewed every 100: between, nobody knows us"],
        "ip nhrp registration timeout 100",
    ),
    (
        "a password in clear",
        NETWORK + " ip nhrp authentication S3CRET\n",
        ["note: Tunnel0 is not protected: its NHRP password can be read from every packet"],
        "interface Tunnel0",
    ),
]


@pytest.mark.parametrize(("text", "expected", "line"), [row[1:] for row in FOUND], ids=[row[0] for row in FOUND])
def test_what_is_wrong_is_found_and_where(text, expected, line):
    found = findings(text)
    assert [f"{one.severity}: {one.text}" for one in found] == expected
    for one in found:
        assert one.line == line
        assert one.number is not None
        assert text.splitlines()[one.number - 1].strip() == line


def test_a_point_to_point_tunnel_needs_no_nbma_address():
    """Its far end is known; `nhs dynamic` alone asks it who it is."""
    assert findings(POINT + " ip nhrp network-id 1\n ip nhrp nhs 10.0.0.1\n ip nhrp nhs dynamic\n") == []


PROTECTED = " tunnel protection ipsec profile default\n"


def two(first: str, second: str) -> str:
    return "".join(
        f"interface Tunnel{number}\n ip nhrp network-id 1\n{lines}{PROTECTED}"
        for number, lines in ((1, first), (2, second))
    )


def test_passwords_of_one_network_are_one():
    cisco, other = " ip nhrp authentication cisco\n", " ip nhrp authentication S3CRET\n"
    assert findings(two(cisco, cisco)) == []
    assert findings(two(cisco, other).replace("network-id 1", "network-id 2", 1)) == []
    assert said(two(cisco, other)) == [
        "warning: Tunnel2 and Tunnel1 are in one NHRP network and have different passwords",
    ]
    assert said(two("", other)) == [
        "warning: Tunnel1 has no `ip nhrp authentication`, and Tunnel2 of the same network has: it takes anything",
    ]


@pytest.mark.parametrize(
    "text",
    [
        two(" ip nhrp authentication S3CRET\n", " ip nhrp authentication other\n"),
        NETWORK + " ip nhrp authentication S3CRET\n",
    ],
)
def test_S03_no_finding_has_a_password_in_it(text):
    assert findings(text)
    assert "S3CRET" not in "".join(map(repr, findings(text)))
