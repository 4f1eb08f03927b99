"""What a wrong configuration is told: place, caret, expectation, suggestion (and that nothing of it was taken)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgp.lines import LINES as BGP_LINES
from ikev2.lines import LINES as IKEV2_LINES
from mfi.lines import LINES as MFI_LINES
from nhrp.lines import LINES as NHRP_LINES
from stack.ios.editor import MAX_LINE
from stack.ios.faults import MAX_SHOWN
from stack.ios.grammar import later
from stack.ios.node_lines import LATER
from stack.ios.node_lines import LINES as NODE_LINES
from stack.ios.reader import ConfigError, read
from stack.ios.syntax import MAX_TOKENS
from stack.ios.table import Table
from tunnel.lines import LINES as TUNNEL_LINES

TABLE = Table.of([*NODE_LINES, *BGP_LINES, *MFI_LINES, *TUNNEL_LINES], LATER)

ROUTER = "router bgp 65010"

GOLDEN = {
    "misspelt keyword": (
        f"{ROUTER}\n neighbor 192.0.2.7 remote-sa 65010\n",
        (
            "pe.cfg:2: in mode config-router (router bgp 65010):\n"
            "     neighbor 192.0.2.7 remote-sa 65010\n"
            "                        ^^^^^^^^^\n"
            "  'remote-sa' does not fit here\n"
            "  expected: activate, allowas-in, as-override, default-originate, description, ebgp-multihop, maximum-prefix, "
            "next-hop-self, next-hop-unchanged, password, peer-group, prefix-list, or 10 others\n"
            "  did you mean `remote-as`?\n\n1 fault; nothing was changed"
        ),
    ),
    "no address": (
        "interface Ethernet0/3\n  ip address 192.0.2.300 255.255.255.0\n",
        (
            "pe.cfg:2: in mode config-if (interface Ethernet0/3):\n"
            "      ip address 192.0.2.300 255.255.255.0\n"
            "                 ^^^^^^^^^^^\n"
            "  '192.0.2.300' is neither an IPv4 nor an IPv6 address\n"
            "  expected: negotiated, an IPv4 address (A.B.C.D)\n\n1 fault; nothing was changed"
        ),
    ),
    "too short": (
        "ip route 198.51.100.0 255.255.255.0\n",
        (
            "pe.cfg:1: in mode config:\n"
            "    ip route 198.51.100.0 255.255.255.0\n"
            "                                        ^\n"
            "  incomplete\n"
            "  expected: an IPv4 address (A.B.C.D), an interface (Loopback0, Ethernet0/1.10, eth0)\n\n"
            "1 fault; nothing was changed"
        ),
    ),
    "too long": (
        "hostname left right\n",
        (
            "pe.cfg:1: in mode config:\n    hostname left right\n                  ^^^^^\n"
            "  'right' is one word too many\n\n1 fault; nothing was changed"
        ),
    ),
    "after a name with blanks": (
        "mpls label mode vrf Blue Team protocol bgp-vpnv4 per-prefx\n",
        (
            "pe.cfg:1: in mode config:\n"
            "    mpls label mode vrf Blue Team protocol bgp-vpnv4 per-prefx\n"
            "                                                     ^^^^^^^^^\n"
            "  'per-prefx' does not fit here\n  expected: per-prefix, per-vrf\n  did you mean `per-prefix`?\n\n"
            "1 fault; nothing was changed"
        ),
    ),
    "in a tab": (
        "interface Loopback7\n\tip adress 192.0.2.1 255.255.255.255\n",
        (
            "pe.cfg:2: in mode config-if (interface Loopback7):\n"
            "     ip adress 192.0.2.1 255.255.255.255\n"
            "        ^^^^^^\n"
            "  'adress' does not fit here\n"
            "  expected: address, mroute-cache, mtu, nhrp, ospf, route-cache, router, tcp, unnumbered, unreachables, vrf\n"
            "  did you mean `address`?\n\n1 fault; nothing was changed"
        ),
    ),
}


@pytest.mark.parametrize(("text", "message"), GOLDEN.values(), ids=GOLDEN)
def test_message_is(fails, text, message):
    assert str(fails(text)) == message


@pytest.mark.parametrize(
    ("text", "why", "word"),
    [
        ("interfce Ethernet0/0\n", "not known in mode config", "interfce"),
        ("interface Ethernt0/0\n", "is it Ethernet0/0?", "Ethernt0/0"),
        ("interface Ethernet0/0\n ip address 192.0.2.1 255.0.255.0\n", "contiguous", "255.0.255.0"),
        ("interface Ethernet0/0\n ip address 192.0.2.0 255.255.255.0\n", "not a host's", "192.0.2.0"),
        ("interface Ethernet0/0\n ip address 224.0.0.5 255.255.255.0\n", "unicast", "224.0.0.5"),
        ("interface Ethernet0/0\n encapsulation dot1Q 5\n", "no sub-interface", "encapsulation dot1Q 5"),
        ("interface Null0\n", "nothing to configure", "Null0"),
        ("ip route 192.0.2.1 255.255.255.0 Null0\n", "outside its mask", "192.0.2.1"),
        ("ip route 192.0.2.0 255.255.255.0 Null0 192.0.2.9\n", "no next hop", "192.0.2.9"),
        ("ipv6 route 2001:db8::/32 fe80::1\n", "needs its interface", "fe80::1"),
        ("route-map X permt 10\n", "does not fit", "permt"),
        ("route-map X permit ten\n", "not a number", "ten"),
        ("ip prefix-list L permit 192.0.2.0/24 ge 8\n", "24 <= ge <= le <= 32", "8"),
        ("ip prefix-list L permit 2001:db8::/32\n", "not an IPv4", "2001:db8::/32"),
        ("ip prefix-list L permit 192.0.2.0/24\nipv6 prefix-list L permit ::/0\n", "other address family", "L"),
        ("vrf definition default\n", "global table", "default"),
        ("ip vrf forwarding Blue\n", "under an interface", "ip vrf forwarding Blue"),
        ("vrf definition A\n rd 1:99999999999\n", "is not ASN:NUMBER", "1:99999999999"),
        ("tunnel source Loopback0\n", "stands in config-if", "tunnel"),
        ("interface Ethernet0/0\n tunnel source Loopback0\n", "no tunnel", "tunnel source Loopback0"),
        ("interface Tunnel3\n mpls ip\n", "LDP, whose hellos", "mpls ip"),
        ("interface Virtual-Template3\n mpls ip\n", "LDP, whose hellos", "mpls ip"),
        ("interface Ethernet0/3\n mpls ip\n", "no LDP here", "mpls ip"),
        ("interface Tunnel3\n tunnel mode ipip\n", "tunnels here are GRE", "tunnel mode ipip"),
        ("l3vpn encapsulation ip N\n transport ipv6 source Loopback0\n", "IPv4", "transport ipv6 source Loopback0"),
        ("l3vpn encapsulation ip N\n transport mpls\n", "not in this release", "transport mpls"),
        ("l3vpn encapsulation ip N\n protocol l2tpv3\n", "not in this release", "protocol l2tpv3"),
        ("l3vpn encapsulation ip N\n transport ipv4 source lo1\n mdt loopback lo1\n", "share a loopback", "lo1"),
        ("router bgp 65000\n neighbor 192.0.2.300 remote-as 1\n", "does not fit", "192.0.2.300"),
        ("router bgp 65000\n neighbor far remote-as 1\n", "no peer group 'far'", "far"),
        ("router bgp 1\nrouter bgp 2\n", "`no router bgp 1` first", "2"),
        ("router bgp 1\n neighbor 192.0.2.1 timers 60 2\n", "at least 3", "2"),
        ("router bgp 1\n synchronization\n", "never waits for an IGP", "synchronization"),
        ("mpls label range 100 50\n", "before it begins", "50"),
        ("mpls label range 100 200 static 150 300\n", "overlap", "150"),
        ("enable secret 5 $1$abc$defghi\n", "hashed", "enable secret 5 $1$abc$defghi"),
        (
            "ip community-list expanded C permit 1:.*\n",
            "regular expressions",
            "ip community-list expanded C permit 1:.*",
        ),
        ("end\nhostname X\n", "`configure terminal`", "hostname"),
        ('hostname "unended\n banner motd ^C no end\n', "does not end", " "),
    ],
)
def test_fault_points_at_the_word(fails, text, why, word):
    error = fails(text)
    fault = error.faults[-1]
    assert why in fault.why
    assert fault.line[fault.column : fault.column + fault.width] == word


def test_lines_of_a_package_to_come_are_named_as_such_with_all_that_stands_under_them():
    """Until the package is there; then its own rows say what is wrong."""
    laters = (later(("config",), "crypto", "IKEv2", frozenset({"match"})), later(("config-if",), "ip nhrp", "NHRP"))
    rows = [*NODE_LINES, *TUNNEL_LINES]
    text = "crypto ikev2 profile P\n match identity any\ninterface Tunnel1\n ip nhrp shortcut\n ip nhrp attribute 5\n"
    with pytest.raises(ConfigError) as caught:
        read(text, "pe.cfg", table=Table.of(rows, laters))
    assert [(fault.number, fault.why) for fault in caught.value.faults] == [
        (1, "not in this release: `crypto` belongs to IKEv2"),
        (4, "not in this release: `ip nhrp` belongs to NHRP"),
        (5, "not in this release: `ip nhrp` belongs to NHRP"),
    ]
    with pytest.raises(ConfigError) as caught:
        read(text, "pe.cfg", table=Table.of([*rows, *IKEV2_LINES, *NHRP_LINES], laters))
    assert not [fault for fault in caught.value.faults if "not in this release" in fault.why]


def test_rfc4364_4_2_a_route_distinguisher_has_eight_octets(fails):
    for text in ("70000:70000", "192.0.2.1:65536"):
        (fault,) = fails(f"vrf definition A\n rd {text}\n").faults
        assert fault.why == f"'{text}': after {text.partition(':')[0]} the number is at most 65535"
    (fault,) = fails("vrf definition A\n rd 1:4294967296\n").faults
    assert fault.why.endswith("the number is at most 4294967295")


def test_ambiguous_abbreviation_names_the_candidates(fails):
    (fault,) = fails("router bgp 1\n neighbor 192.0.2.1 a\n").faults
    assert fault.why == "'a' is short for more than one word: activate, allowas-in, as-override"


def test_every_fault_of_a_text_is_reported_at_once(fails):
    error = fails("hostnme X\ninterface Ethernet0/0\n ip adress 192.0.2.1 255.255.255.0\nrouter bgp zero\n")
    assert [(fault.number, fault.suggestion) for fault in error.faults] == [(1, "hostname"), (3, "address"), (4, "")]


def test_typing_error_in_a_line_that_enters_a_mode_is_one_fault(fails):
    """Reading goes on as if the suggestion had been written."""
    error = fails("l3vpn encapsulatoin ip N\n transport ipv4 source Loopback0\n protocol gre key 7\n")
    assert [fault.number for fault in error.faults] == [1]


def test_lines_under_one_that_failed_to_enter_a_mode_go_with_it(fails):
    text = (
        "interface Lopback0\n ip address 192.0.2.1 255.255.255.255\n no shutdown\n exit\n"
        "router bgp 65010 sixty\n neighbor 192.0.2.7 remote-as 65010\n address-family vpnv4\n"
        "  neighbor 192.0.2.7 activate\n exit-address-family\n"
        "ip route 198.51.100.0 255.255.255.0 192.0.2.9\n neighbor 192.0.2.8 remote-as 65010\n"
    )
    first, second, third = fails(text).faults
    assert (first.number, first.also) == (1, (2, 3, 4))
    assert "the 3 lines under it go with it" in str(first)
    assert (second.number, second.also) == (5, (6, 7, 8, 9))
    assert third.number == 11  # a line that was taken ended it
    assert third.why == "this line stands in config-router or config-router-af, not here"


def test_peer_group_is_looked_for_at_the_end_of_the_text(fails, loads):
    listen = f"{ROUTER}\n bgp listen range 192.0.2.0/24 peer-group far\n"
    made = " neighbor far peer-group\n"
    loads(listen + made + " neighbor far remote-as 65011\n")
    (fault,) = fails(f"{listen}hostname X\n").faults
    assert (fault.number, fault.mode, fault.why) == (2, "config-router", "there is no peer group 'far'")
    (fault,) = fails(f"{ROUTER}\n neighbor 192.0.2.1 peer-group far\nhostname X\n").faults
    assert (fault.number, fault.path) == (2, ROUTER)


def test_mpls_in_ip_would_bypass_protection(fails):
    """Semantics 5."""
    for lines in (
        "protocol mpls-in-ip\n protection ipsec profile P",
        "protection ipsec profile P\n protocol mpls-in-ip",
    ):
        (fault,) = fails(f"l3vpn encapsulation ip N\n {lines}\n").faults
        assert "go round the protection" in fault.why
        assert fault.line.strip() == "protocol mpls-in-ip"


# --- S09: what a hostile or broken file may hold ------------------------------------------------------------------------


def test_S09_huge_line_is_refused_and_shown_in_part(fails):
    text = "description " + "x" * (MAX_LINE * 50)
    message = str(fails(f"interface Loopback0\n {text}\n"))
    assert f"at most {MAX_LINE} characters" in message
    assert len(message) < 1000


def test_S09_control_characters_are_refused_and_never_echoed(fails):
    for bad in ("\x1b[2J", "\x00", "\x07", "\x9b31m", "\u2028"):
        message = str(fails(f"hostname a{bad}b\n"))
        assert f"control character U+{ord(bad[0]):04X}" in message
        assert bad[0] not in message


def test_S09_control_characters_in_the_name_of_the_mode_are_never_echoed(fails):
    message = str(fails("hostname X\ninterface Loopback0\n description ok\n nonsense\x1b]0;owned\x07\n"))
    assert "\x1b" not in message
    assert "\x07" not in message


def test_S09_too_many_words(fails):
    assert f"at most {MAX_TOKENS} words" in str(fails("route-map " + "a " * (MAX_TOKENS + 5)))


def test_S09_many_faults_are_counted_not_printed(fails):
    error = fails("nonsense here\n" * 200)
    assert len(error.faults) == 200
    assert str(error).count("not known in mode") == MAX_SHOWN
    assert str(error).endswith("200 faults; nothing was changed (150 not shown)")


def test_S09_endless_faults_end(fails):
    assert len(fails("nonsense here\n" * 5000).faults) == 1001


def test_S09_ten_thousand_lines_within_two_seconds(table):
    lines = [ROUTER, *(f" neighbor 10.{i >> 8}.{i & 255}.1 remote-as {i + 1}" for i in range(2500))]
    lines += [line for i in range(800) for line in (f"vrf definition V{i}", f" rd 1:{i}", f" route-target both 1:{i}")]
    for i in range(500):
        lines += [f"interface Ethernet0/{i % 8}.{i + 1}", f" encapsulation dot1Q {i + 1}", f" vrf forwarding V{i}"]
    lines += [f"ip route vrf V{i % 800} 10.{i >> 8}.{i & 255}.0 255.255.255.0 192.0.2.1 name r{i}" for i in range(1800)]
    lines += [f"ip prefix-list P seq {i + 1} permit 10.{i >> 8}.{i & 255}.0/24 le 32" for i in range(1800)]
    assert len(lines) >= 10_000
    began = time.process_time()
    reading = read("\n".join(lines), "big.cfg", table=table)
    spent = time.process_time() - began
    assert len(reading.config.node.prefix_lists["P"].entries) == 1800
    assert len(reading.config.node.static_routes) == 1800
    assert spent < 2.0


def test_S09_names_full_of_blanks_take_no_time(table):
    """Every split of a name is a reading; there must be few enough of them."""
    line = "mpls label mode vrf " + "a " * (MAX_TOKENS - 8) + "protocol bgp-vpnv4 per-vrf"
    began = time.process_time()
    read("\n".join([line] * 20), "blanks.cfg", table=table)
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize("secret", ["hunter2 with blanks", "s3cr3t"])
def test_secrets_never_stand_in_a_repr(loads, secret):
    neighbor = "neighbor 192.0.2.1"
    reading = loads(f"enable secret {secret}\nrouter bgp 1\n {neighbor} remote-as 2\n {neighbor} password {secret}\n")
    assert secret not in repr(reading)
    assert reading.config.node.enable_secret == secret


def test_config_error_is_what_from_ios_raises(fails):
    assert isinstance(fails("nonsense"), ConfigError)


@pytest.mark.parametrize(
    "line", ["neighbor 192.0.2.1 pasword CANARY 7", "neighbor 192.0.2.1 password\tCANARY\x1b", "sekret CANARY"]
)
def test_S03_messages_do_not_show_what_may_be_a_secret(fails, line):
    """A daemon logs them when it re-reads its file."""
    error = fails(f"router bgp 1\n {line}\n")
    assert "CANARY" not in str(error)
    assert "CANARY" not in repr(error)
    assert "CANARY" not in repr(error.faults)


VOCABULARY = (
    "no interface router bgp neighbor vrf definition ip route address-family ipv4 vpnv4 exit end ! route-map permit set "
    "match tunnel source l3vpn encapsulation transport protocol gre key 10 192.0.2.1 255.255.255.0 Loopback0 crypto ikev2 "
    'profile X " \x00 | activate remote-as 65010 description secret Null0 10.0.0.0/8 seq prefix-list A-name é 99999999999'
)
WORDS = st.sampled_from(VOCABULARY.split(" "))


@settings(deadline=None, max_examples=300)
@given(st.lists(st.lists(WORDS, max_size=8).map(" ".join) | st.text(max_size=30), max_size=12).map("\n".join))
def test_any_text_loads_or_is_a_config_error(text):
    message = ""
    try:
        read(text, "any.cfg", table=TABLE)
    except ConfigError as error:
        message = str(error)
    assert message == "" or message.endswith("nothing was changed")
    assert "\x00" not in message
