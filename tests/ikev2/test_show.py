"""What `show` prints of IKEv2, IPsec and PKI, byte by byte (tests/ikev2/shown), and the same as plain values.

The layouts are IOS's: Genie's parsers of `show crypto ...` took all of these files when they were made, but for what they
cannot take of IOS either (several algorithms in a proposal, an address in a policy, `NAT-T is detected`, an interface with a
hyphen below `show crypto ipsec sa` without its name). ntc-templates reads them in CI: tests/oracles.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from attrs import evolve

from ikev2.engine import profiles as resolved
from ikev2.engine.snapshot import ChildSnapshot
from ikev2.lines import LINES
from ikev2.show import COMMANDS, samples, settings, words
from stack.esp import Cipher, EspForm, EspMode, Integrity, Selector
from stack.ios.command import CommandError, Scene, Shown
from stack.ios.commands import Interpreter
from stack.ios.node_lines import LATER
from stack.ios.node_lines import LINES as NODE_LINES
from stack.ios.reader import read
from stack.ios.table import Table
from stack.ios.times import age, clock
from tests.ikev2.showing import HUB, NOW, PEER, READY, TUNNEL, US, esp, snapshot, trustpoint

SHOWN = Path(__file__).parent / "shown"

TEXT = """
ip local pool spokes 10.64.0.2 10.64.0.99
crypto ikev2 authorization policy branches
 pool spokes
 banner # be kind #
 dns 10.64.0.53
 netmask 255.255.255.0
 route set interface Loopback4
 route set access-list inside
 route accept any tag 5 distance 20
crypto ikev2 proposal modern
 encryption aes-gcm-256 chacha20-poly1305
 prf sha384
 group 31 21
crypto ikev2 policy core
 match address local 198.51.100.1
 proposal modern
crypto ikev2 profile branch
 match identity remote fqdn domain example.net
 match identity remote address 203.0.113.0 255.255.255.0
 identity local fqdn hub.example.net
 authentication local pre-share
 authentication remote pre-share
 keyring local secrets
 dpd 45 3 periodic
 aaa authorization group psk list here branches
 virtual-template 1
crypto ipsec transform-set fast esp-gcm 256
crypto ipsec transform-set plain esp-aes 256 esp-sha512-hmac
 mode tunnel
crypto ipsec profile core
 description all of them
 set ikev2-profile branch
 set transform-set fast plain
 set pfs group21
 set security-association lifetime kilobytes disable
 responder-only
"""
CONFIG = read(TEXT, table=Table.of([*NODE_LINES, *LINES], LATER)).config

GOLDEN = (
    "show crypto ikev2 sa",
    "show crypto ikev2 sa detailed",
    "show crypto ikev2 session",
    "show crypto ikev2 session detailed",
    "show crypto session",
    "show crypto session detail",
    "show crypto ipsec sa",
    "show crypto ipsec sa detail",
    "show crypto ikev2 proposal",
    "show crypto ikev2 policy",
    "show crypto ikev2 profile",
    "show crypto ikev2 authorization policy",
    "show crypto ikev2 stats",
    "show crypto ipsec profile",
    "show crypto ipsec transform-set",
    "show crypto pki certificates",
    "show crypto pki trustpoints",
    "show ip local pool",
    "show ip local pool spokes",
    "show ipv6 local pool",
)


class Service:
    """What the commands ask of the running service."""

    def __init__(self, **changed):
        self.held = snapshot(trustpoints=(trustpoint(),), **changed)
        self.debugging = False
        self.cleared = []

    def snapshot(self):
        return self.held

    def clear(self, *, remote=b"", number=0):
        self.cleared.append((remote, number))
        return sum(remote in (b"", ike.ends.remote) and number in (0, ike.number) for ike in self.held.ikes)


def run(line: str, service: Service | None = None, **changed) -> Shown:
    rows = {
        "Ethernet0/0": SimpleNamespace(name="Ethernet0/0", mtu=1500, vrf="", addresses={US: None}),
        "Virtual-Access1": SimpleNamespace(name="Virtual-Access1", mtu=1400, vrf="red", addresses={}),
    }
    tables = SimpleNamespace(interfaces=SimpleNamespace(rows=rows))
    scene = Scene(service or Service(**changed), tables, None, CONFIG, None, NOW)
    resolved_line = Interpreter(COMMANDS).resolve(line)
    shown = resolved_line.finish(resolved_line.command.run(scene, resolved_line.values))
    assert json.loads(json.dumps(shown.value)) == shown.value  # plain: it goes through the control socket
    return shown


@pytest.mark.parametrize("line", GOLDEN)
def test_layout(line):
    assert run(line).text + "\n" == (SHOWN / f"{line.replace(' ', '_')}.txt").read_text()


def test_only_what_was_asked_for():
    assert [one["number"] for one in run("show crypto ikev2 sa").value] == [3, 4, 9]
    assert [one["number"] for one in run("show crypto ikev2 sa remote 203.0.113.9").value] == [3]
    assert run("show crypto ikev2 sa remote 192.0.2.99").value == []
    assert [one["interface"] for one in run("show crypto ipsec sa interface Tunnel7").value] == ["Tunnel7"]
    assert [one["interface"] for one in run("show crypto ipsec sa peer 203.0.113.77").value] == ["Virtual-Access1"]
    assert run("show crypto ipsec sa interface Tunnel99").text == "No SAs found"
    assert [one["interface"] for one in run("show crypto session remote 203.0.113.5").value] == ["Tunnel12"]
    assert [one["name"] for one in run("show crypto ipsec transform-set plain").value] == ["plain"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("show crypto ikev2 profile nobody", "there are: branch"),
        ("show crypto ipsec profile nothing", "there are: default, core"),
        ("show crypto ipsec transform-set none", "there are: default, fast, plain"),
        ("show crypto pki certificates NONE", "there are: LAB"),
        ("show ip local pool six", "there are: spokes"),
        ("clear crypto ikev2 sa remote 192.0.2.99", "no IKE SA with 192.0.2.99"),
        ("clear crypto ikev2 sa 77", "no IKE SA number 77"),
        ("clear crypto sa counters", "begin anew with the next one"),
    ],
)
def test_what_does_not_exist_names_what_does(line, said):
    with pytest.raises(CommandError, match=said):
        run(line)


def test_a_service_that_is_down_says_so():
    scene = Scene(None, None, None, CONFIG, None, NOW)
    asked = Interpreter(COMMANDS).resolve("show crypto session")
    with pytest.raises(CommandError, match="not running"):
        asked.command.run(scene, asked.values)


@pytest.mark.parametrize(
    ("line", "asked", "count"),
    [
        ("clear crypto ikev2 sa", (b"", 0), 3),
        ("clear crypto ikev2 sa 4", (b"", 4), 1),
        ("clear crypto ikev2 sa remote 203.0.113.9 fast", (PEER, 0), 1),
        ("clear crypto session remote 203.0.113.9", (PEER, 0), 1),
        ("clear crypto sa peer 203.0.113.9", (PEER, 0), 1),
        ("clear crypto sa", (b"", 0), 3),
    ],
)
def test_clear_asks_the_service(line, asked, count):
    service = Service()
    assert run(line, service).value == {"cleared": count}
    assert service.cleared == [asked]


def test_debug_is_a_switch():
    service = Service()
    assert run("show debugging", service).value == {"debugging": False}
    run("debug crypto ikev2 packet", service)
    assert run("show debugging", service).text == "IKEv2 debugging is on"
    run("undebug crypto ikev2", service)
    assert not service.debugging
    run("debug crypto ikev2", service)
    run("no debug crypto ikev2", service)
    assert not service.debugging


def test_sessions_tell_every_state():
    """With both, without CHILD_SA, without IKE SA, on its way, and nothing at all."""
    quiet = evolve(READY, number=5, interface="Tunnel5", children=())
    orphan = evolve(TUNNEL, key=TUNNEL.key._replace(interface="Tunnel8"), number=30, ike=0)
    wanted = snapshot().wants[1]
    alone = evolve(wanted, key=wanted.key._replace(interface="Tunnel13"), remote=b"\xc0\0\2\7", state="waiting")
    found = run(
        "show crypto session",
        ikes=(*snapshot().ikes, quiet),
        children=(*snapshot().children, orphan),
        wants=(*snapshot().wants, alone),
    ).value
    assert {one["interface"]: one["session-status"] for one in found} == {
        "Tunnel5": "UP-IDLE",
        "Tunnel7": "UP-ACTIVE",
        "Tunnel8": "UP-NO-IKE",
        "Tunnel12": "DOWN-NEGOTIATING",
        "Tunnel13": "DOWN",
        "Virtual-Access1": "UP-ACTIVE",
    }
    assert next(one["reason"] for one in found if one["interface"] == "Tunnel13") == "waiting"


def test_half_a_child_sa_and_one_that_says_nothing_are_shown():
    half = evolve(TUNNEL, outbound=None)
    none = ChildSnapshot(TUNNEL.key, 40, 3, carries=False, inbound=None, outbound=None, since=NOW)
    bare = evolve(TUNNEL, number=41, inbound=esp(9, PEER, own=(), far=(), hard_time=0.0))
    for line in (*GOLDEN[:8], "show crypto ipsec sa interface Tunnel7 detail"):
        assert run(line, children=(half, none, bare)).text


def test_counters_are_those_of_the_packet_path():
    (found,) = run("show crypto ipsec sa interface Tunnel7").value
    assert found["inbound"]["packets"] == 17
    assert (found["inbound"]["integrity-failures"], found["inbound"]["replays"], found["inbound"]["refused"]) == (
        2,
        3,
        1,
    )
    assert found["outbound"]["remaining-seconds"] == 3210
    assert "#send errors 0, #recv errors 6" in run("show crypto ipsec sa interface Tunnel7").text


def test_text_of_a_peer_cannot_drive_the_terminal():
    evil = evolve(READY, remote_identity="x\x1b[2Jy", banner="\x07\x1b]0;z")
    text = run("show crypto ikev2 sa detailed", ikes=(evil,)).text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_certificates_that_could_not_be_loaded_say_why():
    broken = evolve(trustpoint(), reason="key.pem: not readable", own=(), trusted=())
    service = Service()
    service.held = snapshot(trustpoints=(broken,))
    assert (
        run("show crypto pki certificates", service).text
        == "% Trustpoint LAB could not be loaded: key.pem: not readable"
    )
    assert "Not configured: key.pem: not readable" in run("show crypto pki trustpoints", service).text


def test_a_certificate_tells_whether_it_is_valid_now():
    service = Service()
    for wall, status in ((0.0, "NotYetValid"), (4e9, "Expired")):
        service.held = evolve(service.held, wall=wall)
        assert {one["status"] for one in run("show crypto pki certificates", service).value} == {status}


def test_the_defaults_shown_are_those_that_are_offered():
    assert settings._SMART_SETS == resolved._DEFAULT_SETS


def test_words():
    assert age(90_061) == "1d01h"
    assert age(3661) == "01:01:01"
    assert age(2_000_000) == "3w2d"
    assert clock(-5) == "00:00:00"
    assert words.cipher_words("chacha20-poly1305") == ("CHACHA20-POLY1305", 256)
    assert words.mask_of(Selector(bytes(4), b"\xff" * 4)) == "0.0.0.0"
    assert words.mask_of(Selector(b"\x0a\0\0\0", b"\x0a\0\0\xff")) == "255.255.255.0"
    assert words.mask_of(Selector(bytes(16), bytes(16))) == "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    for cipher in Cipher:
        assert words.form_words(EspForm(cipher, Integrity.NONE, EspMode.TUNNEL))[1] in (128, 192, 256)


# --- figures ----------------------------------------------------------------------------------------------------------------


def test_samples_are_counters_and_gauges_without_identities():
    found = {(one.name, *sorted(one.labels.values())): one for one in samples(snapshot())}
    assert found["labelspan_ikev2_sas",].value == 2
    assert found["labelspan_ikev2_child_sas",].value == 2
    assert found["labelspan_ikev2_half_open",].value == 2
    assert found["labelspan_ikev2_protected",].value == 1
    assert found["labelspan_ikev2_wanted",].value == 2
    assert found["labelspan_ikev2_events_total", "failed"].value == 2
    assert found["labelspan_ikev2_refusals_total", "too_many_SAs"].value == 4
    assert found["labelspan_ikev2_pool_addresses", "spokes", "used"].value == 1
    assert found["labelspan_esp_packets_total", "Tunnel7", "in"].value == 17
    assert found["labelspan_esp_replays_total", "Tunnel7", "in"].value == 3
    assert all(one.counter == name[0].endswith("_total") for name, one in found.items())
    assert not any("example.net" in label for one in found.values() for label in one.labels.values())


def test_samples_of_one_interface_add_up():
    twice = evolve(TUNNEL, number=99)
    found = [one for one in samples(snapshot(children=(TUNNEL, twice))) if one.name == "labelspan_esp_packets_total"]
    assert {one.labels["direction"]: one.value for one in found} == {"in": 34, "out": 82}


def test_hub_is_told_from_spoke():
    (found,) = run("show crypto ikev2 sa", ikes=(HUB,)).value
    assert not found["initiator"]
    assert found["nat"] == {"local": False, "remote": True}
    assert found["assigned"] == ["10.64.0.10"]
