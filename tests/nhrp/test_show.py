"""What `show` prints of NHRP, byte by byte (tests/nhrp/shown), and the same as plain values.

The layouts are IOS's: `show ip nhrp`, `... detail`, `... nhs [detail]`, `... traffic` and `show dmvpn` as Genie's parsers and
their samples have them; ntc-templates reads them in CI (tests/oracles). `Label Info` and `Reason` are ours: no sample of IOS
with labels in NHRP is public.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nhrp.config import NhrpConfig, NhrpFamily, NhrpInterface
from nhrp.engine.snapshot import SpeakerSnapshot
from nhrp.show import COMMANDS, explain
from nhrp.wire import Cie, Packet, Role, cie_extension, mpls_extension
from nhrp.wire.mpls import ContextLabel, FecLabel, MplsBinding, NextHopLabel
from nhrp.wire.packet import Extension, ExtensionKind, Kind
from stack.addr import Afi
from stack.addr import parse_address as a
from stack.events import SaState, TunnelState, Vrf
from stack.ios.command import CommandError, Scene, Shown
from stack.ios.commands import Interpreter, Names
from tests.nhrp.showing import INTERFACES, NOW, SAS, TUNNELS, snapshot

SHOWN = Path(__file__).parent / "shown"

GOLDEN = (
    "show ip nhrp",
    "show ip nhrp detail",
    "show ip nhrp brief",
    "show ip nhrp vrf Blue Corp",
    "show ipv6 nhrp",
    "show ip nhrp nhs",
    "show ip nhrp nhs detail",
    "show ipv6 nhrp nhs",
    "show ip nhrp traffic",
    "show ip nhrp redirect",
    "show ip nhrp counters",
    "show dmvpn",
    "show dmvpn detail",
)


class Service:
    """What the commands ask of the running service."""

    def __init__(self, held: SpeakerSnapshot | None = None) -> None:
        self.held = held or snapshot()
        self.debugging: frozenset[str] = frozenset()
        self.failures = 1
        self.cleared: list[dict[str, Any]] = []

    def snapshot(self) -> SpeakerSnapshot:
        return self.held

    def clear(self, **what: Any) -> int:
        self.cleared.append(what)
        return 0 if what.get("address") == a("10.0.0.99") else 3


class Rows:
    def rows(self, topic: Any) -> Any:
        return {"owner": {TunnelState: TUNNELS, SaState: SAS}[topic]}


def run(line: str, service: Service | None = None, config: NhrpConfig | None = None) -> Shown:
    vrfs = (Vrf("", 0), Vrf("Blue Corp", 1))
    tables = SimpleNamespace(interfaces=SimpleNamespace(rows=INTERFACES), vrfs=vrfs)
    scene = Scene(service or Service(), tables, Rows(), {NhrpConfig: config or NhrpConfig()}, None, NOW)
    names = Names(vrfs=("Blue Corp",), interfaces=tuple(INTERFACES))
    command, values, finish = Interpreter(COMMANDS, lambda: names).resolve(line)
    shown = finish(command.run(scene, values))
    assert json.loads(json.dumps(shown.value)) == shown.value  # plain: it goes through the control socket
    return shown


@pytest.mark.parametrize("line", GOLDEN)
def test_layout(line: str) -> None:
    assert run(line).text + "\n" == (SHOWN / f"{line.replace(' ', '_')}.txt").read_text()


# --- the lines that other people's parsers look for -------------------------------------------------------------------------

_ROW = re.compile(
    r"^((?P<ent>\d+) +(?P<nbma>[a-z0-9.:]+) +)?(?P<tunnel>[a-z0-9.:]+) +(?P<state>[a-zA-Z]+) +"
    r"(?P<time>(\d+\w)+|never|[0-9:]+) +(?P<attributes>\w+)$"
)


def test_show_dmvpn_in_fields() -> None:
    rows = [found.groupdict() for line in run("show dmvpn").text.splitlines() if (found := _ROW.match(line.strip()))]
    assert [(row["ent"], row["nbma"], row["tunnel"], row["state"], row["time"], row["attributes"]) for row in rows] == [
        ("1", "203.0.113.1", "10.77.0.1", "UP", "10w1d", "S"),
        ("3", "203.0.113.9", "10.77.0.9", "UP", "00:00:31", "D"),
        (None, None, "10.77.0.9", "UP", "00:00:31", "DT2"),
        (None, None, "10.77.0.9", "UP", "00:00:31", "DT1"),
        ("1", "203.0.113.80", "10.77.0.8", "IKE", "00:00:11", "DNX"),
        ("1", "203.0.113.66", "10.88.0.1", "NHRP", "never", "S"),
        ("1", "198.51.100.2", "10.99.0.2", "UP", "03:00:00", "D"),
    ]


_NHS = re.compile(
    r"^(\S+) +(\S+) +NBMA Address: (\S+) +priority = (\d+) +cluster = (\d+)( +req-sent (\d+) +req-failed (\d+) .*)?$"
)


def test_show_nhs_in_fields() -> None:
    lines = run("show ip nhrp nhs detail").text.splitlines()
    found = [match.groups() for line in lines if (match := _NHS.match(line))]
    assert [one[:5] + one[6:] for one in found] == [
        ("10.77.0.1", "RE", "203.0.113.1", "0", "0", "42", "0"),
        ("10.88.0.1", "E", "203.0.113.66", "0", "0", "7", "6"),
    ]


# --- what is asked for --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "prefixes"),
    [
        ("show ip nhrp static", ["10.77.0.1/32"]),
        ("show ip nhrp shortcut", ["10.45.9.0/24", "10.44.9.0/24"]),
        ("show ip nhrp local", ["10.44.1.0/24"]),
        ("show ip nhrp incomplete", ["10.46.0.7/32", "10.44.7.7/32"]),
        ("show ip nhrp 10.44.9.200", ["10.44.9.0/24"]),
        ("show ip nhrp vrf default 10.44.9.200", []),
        ("show ip nhrp vrf Blue Corp 10.44.9.200 detail", ["10.44.9.0/24"]),
        ("show ip nhrp interface Virtual-Access12", ["10.99.0.2/32"]),
        ("show ip nhrp dynamic interface virtual-access 12", ["10.99.0.2/32"]),
        ("show ipv6 nhrp 2001:db8:9::1", ["2001:db8:9::/48"]),
        ("show ipv6 nhrp vrf Blue Corp", []),
    ],
)
def test_entries_that_a_command_means(line: str, prefixes: list[str]) -> None:
    assert [row["prefix"] for row in run(line).value] == prefixes


def test_the_value_has_all() -> None:
    (row,) = run("show ip nhrp vrf Blue Corp local").value
    assert row == {
        "prefix": "10.44.1.0/24",
        "vrf": "Blue Corp",
        "interface": "Tunnel4",
        "type": "local",
        "next-hop": "10.77.0.4",
        "nbma-address": "203.0.113.4",
        "claimed-nbma-address": "",
        "age-seconds": 30.0,
        "expires-seconds": 149.0,
        "expires": "00:02:29",
        "flags": ["router", "unique", "local"],
        "labels": [],
        "local-label": 44,
        "requesters": [
            {"address": "10.77.0.9", "nbma-address": "203.0.113.9"},
            {"address": "10.77.0.8", "nbma-address": "203.0.113.80"},
        ],
        "request-id": 97,
        "took-seconds": 0.0214,
        "tunnel-seconds": 0.0187,
        "reason": "",
    }
    interfaces = {(row["interface"], row["family"]): row for row in run("show dmvpn").value}
    assert set(interfaces) == {
        ("Tunnel4", "ipv4"),
        ("Tunnel4", "ipv6"),
        ("Tunnel12", "ipv4"),
        ("Virtual-Access12", "ipv4"),
    }
    peer = interfaces["Tunnel4", "ipv4"]["peers"][1]
    assert peer["tunnel-addresses"] == ["10.77.0.9"]
    assert peer["attributes"] == ["D", "DT2", "DT1"]
    assert len(peer["entries"]) == 3
    assert [row["interface"] for row in run("show dmvpn interface Tunnel12").value] == ["Tunnel12"]
    traffic = run("show ip nhrp traffic interface Tunnel4").value
    assert [row["interface"] for row in traffic] == ["Tunnel4"]
    assert traffic[0]["sent"]["traffic-indication"] == 12
    assert run("show ip nhrp counters").value["messages that the speaker could not take"] == 1


def test_what_a_node_is_on_an_interface() -> None:
    types = {(row["interface"], row["family"]): row["type"] for row in run("show dmvpn").value}
    assert types == {
        ("Tunnel4", "ipv4"): "Spoke",
        ("Tunnel4", "ipv6"): "Spoke",
        ("Tunnel12", "ipv4"): "Spoke",
        ("Virtual-Access12", "ipv4"): "Hub",
    }
    alone = Service(snapshot(nhs=(), bindings=()))
    assert [row["type"] for row in run("show dmvpn interface Tunnel12", alone).value] == ["Unknown"]
    wanted = NhrpConfig({"Tunnel12": NhrpInterface("Tunnel12", {Afi.IPV4: NhrpFamily(shortcut=True)})})
    assert [row["type"] for row in run("show dmvpn interface Tunnel12", alone, wanted).value] == ["Spoke"]


def test_an_empty_speaker() -> None:
    empty = Service(SpeakerSnapshot())
    empty.failures = 0
    for line in GOLDEN:
        assert not run(line, empty).value or "traffic" in line
    assert run("show ip nhrp", empty).text == ""


def test_what_a_peer_calls_itself_does_not_drive_the_terminal() -> None:
    text = run("show dmvpn detail").text
    assert "\x1b" not in text
    assert "identity: ?[31mspoke9.example" in text


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(CommandError, match="there is no VRF Green; there are: Blue Corp"):
        run("show ip nhrp vrf Green")
    scene = Scene(None, SimpleNamespace(vrfs=()), None, None, None, NOW)
    command, values, _ = Interpreter(COMMANDS).resolve("show ip nhrp")
    with pytest.raises(CommandError, match="NHRP is not running"):
        command.run(scene, values)


# --- clear and debug --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("clear ip nhrp", {"address": None, "afi": Afi.IPV4, "vrf": None}),
        ("clear ip nhrp 10.77.0.9", {"address": a("10.77.0.9"), "afi": Afi.IPV4, "vrf": None}),
        ("clear ip nhrp vrf Blue Corp", {"address": None, "afi": Afi.IPV4, "vrf": "Blue Corp"}),
        ("clear ipv6 nhrp 2001:db8::1", {"address": a("2001:db8::1"), "afi": Afi.IPV6, "vrf": None}),
        ("clear ip nhrp counters", {"counters": True}),
    ],
)
def test_clear(line: str, what: dict[str, Any]) -> None:
    service = Service()
    run(line, service)
    assert service.cleared == [what]


def test_clear_of_what_is_not_there_is_said() -> None:
    with pytest.raises(CommandError, match=r"nothing that was learned covers 10\.0\.0\.99"):
        run("clear ip nhrp 10.0.0.99")


def test_debug() -> None:
    service = Service()
    assert run("debug nhrp", service).value == {"debugging": ["event", "packet"]}
    assert run("no debug nhrp event", service).value == {"debugging": ["packet"]}
    assert run("show debugging nhrp", service).text == "NHRP packet debugging is on\nNHRP event debugging is off"
    assert run("undebug nhrp", service).value == {"debugging": []}


def test_a_packet_in_words() -> None:
    oui = b"\x02\x4d\x46"
    labels = MplsBinding(Role.REPLY, ContextLabel(30, a("10.0.0.1")), (FecLabel(0, (40,)),), (NextHopLabel(0),))
    packet = Packet(
        Kind.RESOLUTION_REPLY,
        a("172.16.1.3"),
        a("10.0.0.11"),
        a("192.168.2.1"),
        request_id=7,
        flags=0xE802,
        cies=(Cie(prefix_length=24, holding_time=1400, nbma=a("172.16.2.1"), protocol=a("10.0.0.12")),),
        extensions=(
            cie_extension(ExtensionKind.FORWARD_TRANSIT, (Cie(nbma=a("172.16.0.1"), protocol=a("10.0.0.1")),)),
            cie_extension(ExtensionKind.NAT_ADDRESS, (Cie(nbma=a("203.0.113.7"), protocol=a("10.0.0.12")),)),
            Extension(ExtensionKind.AUTHENTICATION, b"\0\0\0\1OPENSES"),
            mpls_extension(labels, oui),
        ),
    )
    assert explain(packet) == (
        "resolution reply, id 7, 10.0.0.11 (172.16.1.3) to 192.168.2.1, hops 255, flags 0xe802, "
        "CIE code 0 10.0.0.12/24 at 172.16.2.1 for 1400 s, authentication (11 octets), by 10.0.0.1, "
        "NAT 10.0.0.12 at 203.0.113.7, MPLS reply context 30 of 10.0.0.1 label 40 for CIE 0 next hop label implicit-null"
    )
    broken = Packet(Kind.TRAFFIC_INDICATION, a("172.16.1.3"), a("10.0.0.11"), a("192.168.2.1"), extensions=(
        Extension(ExtensionKind.FORWARD_TRANSIT, b"\1\2\3"),))  # fmt: skip
    assert explain(broken).startswith(
        "traffic indication, code 0, 10.0.0.11 (172.16.1.3) to 192.168.2.1, hops 255, malformed"
    )
