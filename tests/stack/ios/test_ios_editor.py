"""Line by line: modes, prompts, `no`, help, and changing a configuration that exists."""

from __future__ import annotations

import pytest

from bgp.config import BgpConfig
from mfi.config import MfiConfig
from stack.addr import RT, Afi, Safi, parse_address
from stack.config import Config, NodeConfig
from stack.ios.editor import Editor
from stack.ios.faults import Wrong
from stack.ios.printer import running_config
from stack.ios.reader import read
from stack.ios.syntax import Slot, Word
from tunnel.config import TunnelConfig

BASE = """
vrf definition Blue
 rd 65010:1
 route-target both 65010:1
 address-family ipv4
interface Ethernet0/0
 description uplink
 ip address 192.0.2.1 255.255.255.0
 ip address 198.51.100.1 255.255.255.0 secondary
 no fair-queue
interface Tunnel1
 tunnel source Ethernet0/0
 tunnel destination 203.0.113.1
router bgp 65010
 neighbor 192.0.2.9 remote-as 65010
 neighbor 192.0.2.9 update-source Ethernet0/0
 address-family vpnv4
  neighbor 192.0.2.9 activate
ip route 0.0.0.0 0.0.0.0 192.0.2.254
ip route vrf Blue 0.0.0.0 0.0.0.0 Null0
route-map M permit 10
 match tag 5
 set metric 7
route-map M deny 20
"""
PEER = ("", parse_address("192.0.2.9"))
VPN4 = (Afi.IPV4, Safi.VPN)


@pytest.fixture
def edit(table):
    """Feeds lines to BASE and gives the configuration that comes out."""

    def run(*lines, base=BASE):
        editor = Editor.of(read(base, table=table).config, table)
        for line in lines:
            editor.feed(line)
        assert editor.finish() == []
        return editor.config()

    return run


# --- modes --------------------------------------------------------------------------------------------------------------


def test_prompts_by_mode(table):
    """Semantics 18."""
    editor = Editor(table)
    seen = []
    for line in (
        "hostname North",
        "vrf definition A",
        "address-family ipv4",
        "exit-address-family",
        "interface Ethernet0/0.5",
        "interface Loopback0",
        "l3vpn encapsulation ip core",
        "router bgp 1",
        "address-family ipv4 vrf A",
        "exit",
        "exit",
        "route-map M permit 10",
        "ip access-list standard L",
        "end",
        "configure terminal",
        "exit",
    ):
        editor.feed(line)
        seen.append(editor.prompt().removeprefix("North"))
    assert seen == [
        "(config)#",
        "(config-vrf)#",
        "(config-vrf-af)#",
        "(config-vrf)#",
        "(config-subif)#",
        "(config-if)#",
        "(config-l3vpn-encap-ip)#",
        "(config-router)#",
        "(config-router-af)#",
        "(config-router)#",
        "(config)#",
        "(config-route-map)#",
        "(config-std-nacl)#",
        "#",
        "(config)#",
        "#",
    ]


def test_a_line_of_an_outer_mode_leaves_the_inner_ones(table):
    editor = Editor(table)
    for line in ("router bgp 65010", "address-family vpnv4", "neighbor 192.0.2.1 activate", "bgp router-id 192.0.2.3"):
        editor.feed(line)
    assert editor.mode == "config-router"
    editor.feed("hostname X")
    assert editor.mode == "config"


def test_session_lines_in_an_address_family_stay_there(table):
    editor = Editor(table)
    for line in ("router bgp 65010", "address-family ipv4 vrf A", "neighbor 192.0.2.1 remote-as 2"):
        editor.feed(line)
    assert editor.mode == "config-router-af"
    assert set(editor.config()[BgpConfig].neighbors) == {("A", parse_address("192.0.2.1"))}


def test_words_in_full_count_before_abbreviations_further_in(table):
    """`ip route` below an interface is the global line, although `ip route-cache` is there to be shortened."""
    editor = Editor(table)
    for line in ("interface Ethernet0/0", "ip route 0.0.0.0 0.0.0.0 192.0.2.254", "int lo0", "no shut"):
        editor.feed(line)
    assert editor.mode == "config-if"
    assert len(editor.config().node.static_routes) == 1


def test_a_refused_line_changes_nothing(table):
    editor = Editor(table)
    editor.feed("router bgp 1")
    before = editor.config()
    for bad in ("neighbor nobody remote-as 1", "neighbor 192.0.2.1 timers 9 3", "hostname a b", "router bgp 2"):
        with pytest.raises(Wrong):
            editor.feed(bad)
        assert editor.mode == "config-router"
    assert editor.config() == before


@pytest.mark.parametrize("line", ["", "   ", "!", " ! remark", "Router#", "Router(config-if)# "])
def test_lines_that_say_nothing(table, line):
    assert Editor(table).feed(line) is None


def test_prompts_before_a_line_are_passed_over(table):
    editor = Editor(table)
    editor.feed("North-PE(config)# hostname Z")
    assert editor.config().node.hostname == "Z"


# --- no -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "gone"),
    [
        (("interface Ethernet0/0", "no description"), " description uplink"),
        (("interface Ethernet0/0", "no ip address 198.51.100.1 255.255.255.0 secondary"), " ip address 198.51.100.1"),
        (("interface Ethernet0/0", "no ip address"), " ip address"),
        (("no interface Tunnel1",), "tunnel"),
        (("interface Tunnel1", "no tunnel source"), " tunnel source"),
        (("vrf definition Blue", "no route-target import 65010:1"), " route-target import"),
        (("vrf definition Blue", "no address-family ipv4"), " address-family ipv4"),
        (("vrf definition Blue", "no rd"), " rd"),
        (("no vrf definition Blue",), "vrf definition"),
        (("no router bgp 65010",), "router bgp"),
        (("router bgp 65010", "no neighbor 192.0.2.9"), " neighbor 192.0.2.9"),
        (("router bgp 65010", "no neighbor 192.0.2.9 update-source"), "update-source"),
        (("router bgp 65010", "no address-family vpnv4"), "vpnv4"),
        (("no ip route vrf Blue 0.0.0.0 0.0.0.0",), "Null0"),
        (("no ip route 0.0.0.0 0.0.0.0 192.0.2.254",), "192.0.2.254"),
        (("no route-map M deny 20",), "route-map M deny"),
        (("no route-map M",), "route-map"),
        (("route-map M permit 10", "no match tag 5"), " match tag"),
        (("route-map M permit 10", "no set metric"), " set metric"),
        (("interface Ethernet0/0", "fair-queue"), "no fair-queue"),
    ],
)
def test_no_takes_back(edit, table, lines, gone):
    before = running_config(edit(), table=table)
    after = running_config(edit(*lines), table=table)
    assert gone in before
    assert gone not in after


def test_no_of_a_mode_takes_what_every_package_keeps_for_it(edit):
    config = edit("no interface Tunnel1", "no interface Ethernet0/0")
    assert config.node.interfaces == {}
    assert config[TunnelConfig] == TunnelConfig()
    assert config.node.no_effect == ()


def test_no_vrf_puts_its_interfaces_back_into_the_global_table(edit):
    config = edit("interface Ethernet0/0", "vrf forwarding Blue", "no vrf definition Blue")
    assert config.node.interfaces["Ethernet0/0"].vrf == ""


@pytest.mark.parametrize(
    "line",
    [
        "no ip route 10.0.0.0 255.0.0.0",
        "no route-map nothing",
        "no ip prefix-list nothing",
        "no router bgp 7",
        "no mpls static binding ipv4 192.0.2.0 255.255.255.0",
        "no hostnme",
    ],
)
def test_no_of_what_is_not_there_is_refused(edit, line):
    with pytest.raises(Wrong):
        edit(line)


# --- changing what exists ---------------------------------------------------------------------------------------------------


def test_lines_change_only_what_they_name(edit):
    base, changed = edit(), edit("interface Ethernet0/0", "shutdown")
    assert changed[BgpConfig] == base[BgpConfig]
    assert changed.node.interfaces["Ethernet0/0"].shutdown
    assert not base.node.interfaces["Ethernet0/0"].shutdown


def test_entries_are_added_to_lists_that_exist(edit, table):
    once = edit("ip prefix-list L permit 192.0.2.0/24", "ip prefix-list L deny 0.0.0.0/0 le 32")
    text = running_config(once, table=table)
    twice = edit("ip prefix-list L seq 7 permit 198.51.100.0/24", base=text)
    assert [e.number for e in twice.node.prefix_lists["L"].entries] == [5, 7, 10]


def test_primary_address_replaces_the_primary_one(edit):
    interface = edit("interface Ethernet0/0", "ip address 192.0.2.2 255.255.255.0").node.interfaces["Ethernet0/0"]
    assert [(a.address[-1], a.secondary) for a in interface.addresses] == [(2, False), (1, True)]


def test_route_target_of_a_family_replaces_those_of_the_vrf_there(edit):
    """As IOS: an address family with route targets of its own does not also use the VRF's."""
    vrf = edit(
        "vrf definition Blue",
        "address-family ipv6",
        "route-target export 65010:6",
        "exit",
        "route-target import 65010:2",
    ).node.vrfs["Blue"]
    assert vrf.export_rts == {Afi.IPV4: {RT.parse("65010:1")}, Afi.IPV6: {RT.parse("65010:6")}}
    assert vrf.import_rts == {Afi.IPV4: {RT.parse("65010:1"), RT.parse("65010:2")}}


def test_family_opened_later_takes_the_route_targets_of_the_vrf(edit):
    vrf = edit("vrf definition Blue", "address-family ipv6").node.vrfs["Blue"]
    assert vrf.export_rts == {afi: {RT.parse("65010:1")} for afi in Afi}


def test_activation_in_a_vpn_family_sends_extended_communities(edit):
    member = edit().sections[BgpConfig].neighbors[PEER].families[VPN4]
    assert (member.activate, member.send_extended, member.send_standard) == (True, True, False)
    member = edit("router bgp 65010", "address-family vpnv4", "no neighbor 192.0.2.9 send-community extended")
    assert not member[BgpConfig].neighbors[PEER].families[VPN4].send_extended


def test_member_follows_its_group_unless_told_otherwise(edit):
    lines = (
        "router bgp 65010",
        "neighbor far peer-group",
        "neighbor far remote-as 65020",
        "neighbor 192.0.2.10 peer-group far",
        "neighbor 192.0.2.11 peer-group far",
        "address-family vpnv4",
        "neighbor far activate",
        "neighbor 192.0.2.10 route-map M in",
        "neighbor 192.0.2.11 route-map M in",
        "no neighbor 192.0.2.11 activate",
    )
    bgp = edit(*lines)[BgpConfig]
    assert bgp.neighbors["", parse_address("192.0.2.10")].families[VPN4].activate
    assert not bgp.neighbors["", parse_address("192.0.2.11")].families[VPN4].activate


def test_second_profile_is_kept_in_order(edit):
    profiles = edit("l3vpn encapsulation ip one", "l3vpn encapsulation ip two")[TunnelConfig].profiles
    assert list(profiles) == ["one", "two"]


def test_sections_that_say_nothing_are_left_out(edit):
    assert edit("mpls label range 16 1048575", base="") == Config()
    assert edit("mpls label range 100 200", base="").sections == {MfiConfig: MfiConfig(100, 200)}


def test_config_is_a_copy(table):
    editor = Editor(table)
    editor.feed("interface Loopback0")
    first = editor.config()
    editor.feed("interface Loopback1")
    assert list(first[NodeConfig].interfaces) == ["Loopback0"]
    assert list(editor.config()[NodeConfig].interfaces) == ["Loopback0", "Loopback1"]


# --- help -------------------------------------------------------------------------------------------------------------------


def test_completion_and_help(table):
    editor = Editor(table)
    assert editor.complete("hostn") == ["hostname"]
    assert editor.complete("vrf ") == ["definition"]
    assert "no" in editor.complete("")
    assert editor.complete("no hostn") == ["hostname"]
    editor.feed("l3vpn encapsulation ip core")
    assert {"transport", "protocol", "endpoint", "mdt", "exit", "end", "no"} <= set(editor.complete(""))
    assert editor.complete("transport ") == ["ipv4", "ipv6", "l2tpv3", "mpls", "source"]
    assert editor.complete("hostn") == ["hostname"]
    assert ("key", "") in editor.help("protocol gre ")
    assert editor.help("protocol gre ")[-1] == ("<cr>", "")
    assert ("<a number from 0 to 4294967295>", "") in editor.help("protocol gre key ")
    assert ("endpoint", "take tunnel packets from known PEs only") in editor.help("")


# --- every row ----------------------------------------------------------------------------------------------------------------

SAMPLES = {
    "ipv4": "192.0.2.1", "ipv6": "2001:db8::1", "address": "192.0.2.1", "mask": "255.255.255.255", "wildcard": "0.0.0.255",
    "prefix4": "192.0.2.0/24", "prefix6": "2001:db8::/32", "prefix": "192.0.2.0/24", "spread6": "2001:db8::1/64",
    "asn": "65010", "interface": "Tunnel1", "word": "w1", "name": "name two", "text": "some text", "rd": "1:1", "rt": "1:1",
    "soo": "1:1", "community": "1:1", "signed": "+1", "seconds": "1.5", "peer-group": "grp",
    "ike-cipher": "aes-gcm-256", "ike-hash": "sha384", "dh-group": "19", "pfs-group": "group20", "banner": "^C hello ^C",
    "hex-octets": "3082 0A0b", "oui": "02-4D-46", "nhrp-password": "NHRPAUTH",
}  # fmt: skip
ENTER = {
    "config-vrf": ["vrf definition V"],
    "config-vrf-af": ["vrf definition V", "address-family ipv4"],
    "config-if": ["interface Tunnel1"],
    "config-router": ["router bgp 65010", "neighbor grp peer-group"],
    "config-router-af": ["router bgp 65010", "neighbor grp peer-group", "address-family ipv4"],
    "config-route-map": ["route-map name two permit 10"],
    "config-l3vpn-encap-ip": ["l3vpn encapsulation ip P"],
    "config-std-nacl": ["ip access-list standard S"],
    "config-ext-nacl": ["ip access-list extended E"],
    "config-ikev2-proposal": ["crypto ikev2 proposal P"],
    "config-ikev2-policy": ["crypto ikev2 policy P"],
    "config-ikev2-keyring": ["crypto ikev2 keyring K"],
    "config-ikev2-keyring-peer": ["crypto ikev2 keyring K", "peer A B"],
    "config-ikev2-profile": ["crypto ikev2 profile P"],
    "config-ikev2-author-policy": ["crypto ikev2 authorization policy P"],
    "cfg-crypto-trans": ["crypto ipsec transform-set S esp-gcm"],
    "ipsec-profile": ["crypto ipsec profile P"],
    "ca-trustpoint": ["crypto pki trustpoint T"],
    "ca-certificate-map": ["crypto pki certificate map M 10"],
    "config-cert-chain": ["crypto pki certificate chain T"],
    "config-pubkey": ["crypto pki certificate chain T", "certificate 0A"],
    "exec": ["end"],
}


def _typed(alternative):
    words = []
    for element in alternative:
        if isinstance(element, Word):
            words.append(element.text)
        else:
            name = element.kind.name
            words.append(name.removeprefix("int:").partition("-")[0] if name.startswith("int:") else SAMPLES[name])
    return " ".join(words)


def test_slots_of_a_mode_never_shadow_those_that_led_there(table):
    """Values of a line and of the modes around it are one mapping."""
    outer: dict[str, set[str]] = {}
    for rows in table.rows.values():
        for row in rows:
            if row.enters:
                slots = {e.name for a in row.syntax.alternatives for e in a if isinstance(e, Slot)}
                outer.setdefault(row.enters, set()).update(slots)
    for mode, names in outer.items():
        for row in table.rows.get(mode, ()):
            slots = {e.name for a in row.syntax.alternatives for e in a if isinstance(e, Slot)}
            assert not slots & names, (mode, row.text)


def test_every_row_with_every_no_is_taken_or_refused_and_prints_back(table):
    """All alternatives of all rows: nothing but Wrong is ever raised, and what was taken reads back from print."""
    assert set(table.modes) == {*ENTER, "config"}
    tried = 0
    for mode, rows in table.rows.items():
        for row in rows:
            lines = [_typed(a) for a in row.syntax.alternatives]
            lines += [f"{first}\nno {_typed(a)}" for a in row.no_syntax.alternatives for first in ("", lines[0])]
            for line in lines:
                editor = Editor(table)
                for enter in ENTER.get(mode, ()):
                    editor.feed(enter)
                try:
                    for one in line.splitlines():
                        editor.feed(one)
                except Wrong:
                    continue
                if editor.finish():
                    continue
                tried += 1
                config = editor.config()
                assert read(running_config(config, table=table), table=table).config == config, (mode, line)
    assert tried > 1000


def test_every_row_says_what_it_is_for(table):
    assert [row.text for rows in table.rows.values() for row in rows if not row.help] == []
