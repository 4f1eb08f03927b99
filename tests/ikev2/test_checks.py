"""What `check` finds in the configuration of IKEv2: one text, one finding, and a text that is right has none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ikev2.checks import CHECKS
from ikev2.config import Ikev2Config
from ikev2.lines import LINES
from stack.ios.checks import check
from stack.ios.node_lines import LATER
from stack.ios.node_lines import LINES as NODE_LINES
from stack.ios.reader import read
from stack.ios.table import Table
from tunnel.checks import CHECKS as TUNNEL_CHECKS
from tunnel.config import TunnelConfig
from tunnel.lines import LINES as TUNNEL_LINES

TABLE = Table.of([*NODE_LINES, *LINES, *TUNNEL_LINES], LATER)
SPECS = (
    SimpleNamespace(checks=CHECKS, route_maps=None, config=Ikev2Config),
    SimpleNamespace(checks=TUNNEL_CHECKS, route_maps=None, config=TunnelConfig),
)

RIGHT = """
interface Loopback0
 ip address 192.0.2.1 255.255.255.255
interface Ethernet0/0
 ip address 198.51.100.1 255.255.255.0
aaa authorization network L local
ip local pool POOL 10.9.0.2 10.9.0.99
ip access-list standard INSIDE
 permit 10.9.0.0 0.0.0.255
crypto ikev2 authorization policy A
 pool POOL
 route set access-list INSIDE
crypto ikev2 proposal Q
 encryption aes-gcm-256
 group 19
crypto ikev2 policy Q
 proposal Q
crypto ikev2 keyring K
 peer spokes
  address 203.0.113.0 255.255.255.0
  pre-shared-key k
crypto pki trustpoint T
 ca file ca.pem
 certificate file own.pem
 key file own.key
 crl file ca.crl
crypto pki certificate map M 10
 subject-name co ou = flex
crypto ikev2 profile P
 match identity remote address 203.0.113.0 255.255.255.0
 match certificate M
 authentication local rsa-sig
 authentication remote rsa-sig
 authentication remote pre-share
 keyring local K
 pki trustpoint T
 aaa authorization group psk list L A
 virtual-template 1
crypto ipsec transform-set S esp-gcm 256
crypto ipsec profile I
 set ikev2-profile P
 set transform-set S
interface Virtual-Template1 type tunnel
 ip unnumbered Loopback0
 tunnel source Ethernet0/0
 tunnel protection ipsec profile I
interface Tunnel1
 ip unnumbered Loopback0
 tunnel source Ethernet0/0
 tunnel destination 203.0.113.7
 tunnel protection ipsec profile I
"""


def found(text: str) -> list[str]:
    said = check(read(text, "r.cfg", table=TABLE), SPECS)
    return [f"{one.severity}: {one.text} (`{one.line}`) {one.suggestion}".strip() for one in said]


def test_what_is_right_is_left_alone():
    assert found(RIGHT) == []


def test_nothing_configured_says_nothing():
    assert found("hostname x\n") == []


WAITING = "interface Tunnel1\n ip address negotiated\n tunnel source Ethernet0/0\n tunnel destination"
CASES = [
    (
        " set ikev2-profile P",
        " set ikev2-profile PP",
        "error: there is no IKEv2 profile called 'PP': its tunnels stay down",
        "P",
    ),
    (" set transform-set S", " set transform-set S X", "warning: there is no transform set called 'X'", ""),
    (" keyring local K", " keyring local KK", "error: there is no IKEv2 keyring called 'KK': there are no keys", "K"),
    (" keyring local K\n", "", "warning: IKEv2 profile 'P' has `authentication remote pre-share`, but no key", ""),
    (
        "\n pki trustpoint T\n",
        "\n",
        "warning: IKEv2 profile 'P' proves us by a certificate, but names no trustpoint",
        "",
    ),
    (
        "\n pki trustpoint T\n",
        "\n",
        "warning: IKEv2 profile 'P' wants certificates of peers, but names no trustpoint",
        "",
    ),
    (
        "\n pki trustpoint T\n",
        "\n pki trustpoint T verify\n",
        "warning: IKEv2 profile 'P' proves us by a certificate",
        "",
    ),
    ("\n pki trustpoint T\n", "\n pki trustpoint TT\n", "error: there is no trustpoint called 'TT'", "T"),
    (" match certificate M\n", " match certificate MM\n", "warning: there is no certificate map called 'MM'", "M"),
    (" authentication remote rsa-sig\n", "", "warning: IKEv2 profile 'P' matches certificates, but peers do not", ""),
    (" match identity remote address 203.0.113.0 255.255.255.0\n match certificate M\n", "", "'P' matches nobody", ""),
    (" pre-shared-key k", " description none", "warning: peer 'spokes' has no key", ""),
    (" pre-shared-key k", " pre-shared-key local k", "warning: peer 'spokes' has a key for one end only", ""),
    ("  address 203.0.113.0 255.255.255.0\n", "", "warning: peer 'spokes' has neither address nor identity", ""),
    ("  address 203.0.113.0 255.255.255.0\n", "  address 0.0.0.0 0.0.0.0\n", "note: one key for everybody", ""),
    ("psk list L A", "psk list L AA", "warning: there is no authorization policy called 'AA'", "A"),
    ("psk list L A", "psk list LL A", "warning: there is no AAA list called 'LL': peers are refused", "L"),
    ("aaa authorization network L local\n", "", "note: IKEv2 profile 'P': nothing is said of AAA, so list 'L' is", ""),
    (" authentication remote pre-share\n", "", "warning: IKEv2 profile 'P': no peer proves itself by psk", ""),
    (
        " virtual-template 1\n",
        " virtual-template 2\n",
        "warning: there is no interface called 'Virtual-Template2'",
        "Virtual-Template1",
    ),
    (
        " tunnel protection ipsec profile I\ninterface Tunnel1",
        "interface Tunnel1",
        "Virtual-Template1 has no `tunnel protection`",
        "",
    ),
    ("tunnel\n ip unnumbered Loopback0\n", "tunnel\n", "Virtual-Template1 has no address of its own", ""),
    (
        "203.0.113.7\n tunnel protection ipsec profile I",
        "203.0.113.7\n tunnel protection ipsec profile J",
        "error: there is no IPsec profile called 'J': the tunnel carries nothing",
        "",
    ),
    (" pool POOL\n", " pool POL\n", "warning: there is no pool called 'POL': peers get no address", "POOL"),
    (" pool POOL\n", "", "note: no authorization policy uses pool 'POOL'", ""),
    ("list INSIDE\ncrypto", "list INSID\ncrypto", "warning: there is no access list called 'INSID'", "INSIDE"),
    ("ip local pool", "ip local pool X 10.9.0.50\nip local pool", "error: pools 'X' and 'POOL' overlap", ""),
    (
        "ip local pool",
        "interface Loopback1\n ip address 10.9.0.3 255.255.255.255\nip local pool",
        "pool 'POOL' holds Loopback1's own address 10.9.0.3",
        "",
    ),
    (
        "ip local pool",
        "crypto ikev2 limit max-sa 200\nip local pool",
        "warning: pool 'POOL' has 98 addresses for up to 200 peers",
        "",
    ),
    ("\n proposal Q\n", "\n", "warning: IKEv2 policy 'Q' names no proposal", ""),
    ("\n proposal Q\n", "\n proposal R\n", "warning: there is no IKEv2 proposal called 'R'", ""),
    ("\n proposal Q\n", "\n proposal default\n", "warning: no IKEv2 policy names proposal 'Q': it is never used", ""),
    (" group 19\n", "", "warning: IKEv2 proposal 'Q' has no group", ""),
    ("aes-gcm-256\n", "aes-cbc-256\n", "error: aes-cbc-256 without integrity", ""),
    ("aes-gcm-256\n", "aes-cbc-256\n integrity sha1\n", "warning: SHA-1 is off, so this is not negotiated", ""),
    (
        "aes-gcm-256\n group 19\n",
        "aes-cbc-256\n integrity sha1\n group 19\ncrypto ikev2 allow sha1\n",
        "warning: SHA-1 is on: for old peers only",
        "",
    ),
    (
        "aes-gcm-256\n group 19\n",
        "aes-gcm-256\n group 19\ncrypto ikev2 allow sha1\n",
        "warning: SHA-1 is on for every peer",
        "",
    ),
    ("S esp-gcm 256", "S esp-aes esp-sha-hmac", "warning: SHA-1 is off", ""),
    ("S esp-gcm 256", "S esp-aes esp-sha256-hmac", "note: transform set 'S': esp-gcm takes", ""),
    (" certificate file own.pem\n", "", "warning: trustpoint 'T' has no certificate of ours", ""),
    (" key file own.key\n", "", "warning: trustpoint 'T' has no private key", ""),
    (" ca file ca.pem\n", "", "warning: trustpoint 'T' has no certificate of an authority", ""),
    (" crl file ca.crl\n", "", "warning: trustpoint 'T' wants a CRL and has none", ""),
    (" crl file ca.crl\n", " revocation-check none\n", "note: trustpoint 'T' never asks for revocation", ""),
    (
        " crl file ca.crl\n",
        " crl file x\n fingerprint " + "AB" * 16 + "\n",
        "note: trustpoint 'T': MD5 is no protection",
        "",
    ),
    (
        " crl file ca.crl\n",
        " crl file x\n enrollment url http://x\n",
        "note: trustpoint 'T': enrolment is not in this release",
        "",
    ),
    (
        "crypto pki trustpoint T",
        "crypto pki certificate chain U\n certificate 01\ncrypto pki trustpoint T",
        "no trustpoint called 'U'",
        "",
    ),
    (
        " virtual-template 1\n",
        " virtual-template 1\n lifetime 120\n",
        "warning: IKE SAs of IKEv2 profile 'P' live 120 seconds",
        "",
    ),
    (
        " set transform-set S",
        " set security-association lifetime seconds 120",
        "warning: CHILD_SAs of IPsec profile 'I' live 120",
        "",
    ),
    (
        " set transform-set S",
        " set security-association replay disable",
        "warning: IPsec profile 'I': without a replay check",
        "",
    ),
    (
        " set transform-set S",
        " set security-association replay window-size 8192",
        "note: IPsec profile 'I': a replay window of 8192",
        "",
    ),
    ("ip local pool", "crypto ikev2 cookie-challenge 0\nip local pool", "note: cookies are asked for always", ""),
    (
        "ip local pool",
        "crypto ikev2 cookie-challenge 1000\nip local pool",
        "warning: cookies would be asked for above 1000",
        "",
    ),
    (
        "ip local pool",
        "no crypto ikev2 fragmentation\nip local pool",
        "warning: large messages leave as IP fragments",
        "",
    ),
    (
        " set ikev2-profile P\n",
        "crypto ikev2 profile Q\n match identity remote any\ncrypto ipsec profile I\n",
        "Tunnel1 stays down: which of the IKEv2 profiles is meant",
        "",
    ),
    (
        "Loopback0\n tunnel source Ethernet0/0\n tunnel destination",
        "Loopback0\ncrypto ikev2 profile P\n no config-exchange request\n" + WAITING,
        "Tunnel1 waits for an address, but IKEv2 profile 'P' never asks",
        "",
    ),
]


@pytest.mark.parametrize(("old", "new", "wanted", "suggestion"), CASES, ids=[case[2] for case in CASES])
def test_what_is_wrong_is_found(old, new, wanted, suggestion):
    assert RIGHT.count(old)
    before, after, rest = RIGHT.partition(old)
    said = found(before + new + rest)
    assert after
    hits = [one for one in said if wanted in one]
    assert len(hits) == 1, said
    assert hits[0].endswith(f") {suggestion}".rstrip()), hits


def test_findings_never_show_a_key():
    text = RIGHT.replace("pre-shared-key k", "pre-shared-key local hunter2hunter2")
    assert all("hunter2" not in one for one in found(text))


def test_default_exists_without_a_line():
    """IOS's smart defaults: an IPsec profile, a transform set, a proposal and an authorization policy called `default`."""
    said = found(
        "interface Tunnel1\n ip address 10.0.0.1 255.255.255.0\n tunnel source 192.0.2.1\n tunnel destination 192.0.2.2\n"
        " tunnel protection ipsec profile default\n"
        "crypto ikev2 profile default\n match identity remote any\n authentication local pre-share key k\n"
        " authentication remote pre-share key k\n aaa authorization group psk list L default\n"
        "aaa authorization network L local\n"
    )
    (one,) = said
    assert one.startswith("note: IKEv2 profile 'default' takes any identity, with pre-shared keys")


TUNNEL = """interface Tunnel1
 ip address 10.0.0.1 255.255.255.0
 tunnel source 192.0.2.1
 tunnel destination 192.0.2.2
 tunnel protection ipsec profile default
"""


def test_a_profile_of_two_lines_is_right():
    """Whom it is for, and a keyring: that both ends use pre-shared keys follows from it."""
    assert (
        found(
            "crypto ikev2 keyring K\n peer other\n  address 192.0.2.2\n  pre-shared-key k\n"
            "crypto ikev2 profile default\n match identity remote address 192.0.2.2\n keyring local K\n" + TUNNEL
        )
        == []
    )


def test_a_profile_that_says_nothing_of_authentication():
    said = found("crypto ikev2 profile default\n match identity remote address 192.0.2.2\n" + TUNNEL)
    assert any("'default' has neither `authentication local` nor a keyring or trustpoint" in one for one in said)


def test_protection_without_any_profile_is_said():
    said = found("interface Tunnel1\n tunnel protection ipsec profile default\n")
    assert any("Tunnel1 stays down: there is no IKEv2 profile" in one for one in said)
