"""The lines of NHRP: what they mean, what they print, what takes them back, and what is refused with a reason."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from nhrp.config import HOLDING_TIME, REDIRECT_TIMEOUT, NhrpConfig, NhrpFamily, NhrpInterface, Nhs, StaticMap
from nhrp.lines import LINES, WORDS
from stack.addr import Afi
from stack.addr import parse_address as a
from stack.config import Config, InterfaceConfig, NodeConfig
from stack.events import InterfaceKind
from stack.ios.node_lines import LATER
from stack.ios.node_lines import LINES as NODE_LINES
from stack.ios.printer import running_config
from stack.ios.reader import ConfigError, read
from stack.ios.table import Table
from tunnel.lines import LINES as TUNNEL_LINES

TABLE = Table.of([*NODE_LINES, *TUNNEL_LINES, *LINES], LATER)
TUNNEL = "interface Tunnel0\n tunnel mode gre multipoint\n"
V4, V6 = Afi.IPV4, Afi.IPV6


def load(text: str) -> Config:
    return read(text, "n.cfg", table=TABLE).config


def printed(config: Config) -> str:
    return running_config(config, table=TABLE)


def on(*lines: str) -> Config:
    return load(TUNNEL + "".join(f" {line}\n" for line in lines))


def interface(config: Config, name: str = "Tunnel0") -> InterfaceConfig:
    return config.node.interfaces[name]


def family(config: Config, afi: Afi = V4, name: str = "Tunnel0") -> NhrpFamily:
    return config[NhrpConfig].of(name).family(afi)


# --- what each line means -------------------------------------------------------------------------------------------------

MEANINGS = [
    # line (of `ip nhrp`), fields that it sets
    ("authentication NHRPAUTH", {"authentication": "NHRPAUTH"}),
    ("authentication x", {"authentication": "x"}),
    ("holdtime 600", {"holding_time": 600}),
    ("holdtime 65535", {"holding_time": 65535}),
    ("registration timeout 60", {"registration_timeout": 60}),
    ("registration no-unique", {"unique": False}),
    ("shortcut", {"shortcut": True}),
    ("shortcut virtual-template 1", {"shortcut": True, "virtual_template": 1}),
    ("redirect", {"redirect": True}),
    ("redirect timeout 2", {"redirect": True, "redirect_timeout": 2}),
    ("network-id 4294967295", {"network": True}),
    ("map 10.0.0.1 192.0.2.1", {"maps": (StaticMap(a("10.0.0.1"), a("192.0.2.1")),)}),
    ("nhs 10.0.0.1", {"nhs": (Nhs(a("10.0.0.1")),)}),
    ("nhs 10.0.0.1 nbma 192.0.2.1", {"nhs": (Nhs(a("10.0.0.1"), a("192.0.2.1")),)}),
    ("nhs dynamic nbma 192.0.2.1", {"nhs": (Nhs(nbma=a("192.0.2.1")),)}),
    (
        "nhs dynamic nbma 192.0.2.1 multicast priority 255 cluster 10",
        {"nhs": (Nhs(b"", a("192.0.2.1"), 255, 10, multicast=True),)},
    ),
    ("nhs 10.0.0.1 priority 3", {"nhs": (Nhs(a("10.0.0.1"), priority=3),)}),
]


@pytest.mark.parametrize(("line", "fields"), MEANINGS, ids=[line for line, _ in MEANINGS])
def test_a_line_means_this_prints_and_can_be_taken_back(line, fields):
    config = on(f"ip nhrp {line}")
    assert family(config) == NhrpFamily(**fields)
    assert family(config, V6) == NhrpFamily()
    assert f"\n ip nhrp {line}\n" in printed(config)
    assert load(printed(config)) == config
    undone = on(f"ip nhrp {line}", f"no ip nhrp {line}")
    assert undone[NhrpConfig] == NhrpConfig()
    assert undone == on()


@pytest.mark.parametrize(
    "no",
    [
        "authentication",
        "holdtime",
        "registration timeout",
        "registration no-unique",
        "shortcut",
        "redirect",
        "network-id",
        "nhs",
    ],
)
def test_no_needs_only_the_first_words(no):
    lines = [line for line, _ in MEANINGS if line.startswith(no)]
    assert lines
    for line in lines:
        assert on(f"ip nhrp {line}", f"no ip nhrp {no}") == on()


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("nhs fd00::1 nbma 192.0.2.1", {"nhs": (Nhs(a("fd00::1"), a("192.0.2.1")),)}),
        ("map fd00::1 192.0.2.1", {"maps": (StaticMap(a("fd00::1"), a("192.0.2.1")),)}),
        ("holdtime 60", {"holding_time": 60}),
        ("shortcut virtual-template 4", {"shortcut": True, "virtual_template": 4}),
    ],
)
def test_ipv6_nhrp_has_the_same_lines(line, fields):
    config = on(f"ipv6 nhrp {line}")
    assert family(config, V6) == NhrpFamily(**fields)
    assert family(config, V4) == NhrpFamily()
    assert f"\n ipv6 nhrp {line}\n" in printed(config)
    assert load(printed(config)) == config


def test_both_families_have_the_same_rows():
    texts = {
        afi: {row.text.removeprefix(f"{word} nhrp ") for row in LINES if row.text.startswith(f"{word} nhrp ")}
        for afi, word in WORDS.items()
    }
    assert {text.replace("ipv6", "ipv4") for text in texts[V6]} == {
        text for text in texts[V4] if not text.startswith("limit")
    }


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("ip nh net 1", "ip nhrp network-id 1"),
        ("ip nhrp hold 60", "ip nhrp holdtime 60"),
        ("ip nhrp red t 9", "ip nhrp redirect timeout 9"),
        ("ip nhrp short vir 1", "ip nhrp shortcut virtual-template 1"),
        ("ip nhrp reg no", "ip nhrp registration no-unique"),
        (
            "ip nhrp nhs dyn nb 192.0.2.1 mul pri 1 cl 2",
            "ip nhrp nhs dynamic nbma 192.0.2.1 multicast priority 1 cluster 2",
        ),
        ("ipv6 nh shortc", "ipv6 nhrp shortcut"),
        ("mpls nh", "mpls nhrp"),
    ],
)
def test_words_may_be_shortened(short, full):
    assert on(short) == on(full)


@pytest.mark.parametrize("line", [f" {one.text}" for one in LINES if one.effect])
def test_every_row_helps(line):
    (row,) = [one for one in LINES if f" {one.text}" == line]
    assert len(row.help) > 20
    assert row.undo is not None


# --- network-id and redirect: of the interface, in its own row -------------------------------------------------------------


def test_the_network_is_the_interfaces():
    config = on("ip nhrp network-id 5")
    assert interface(config).network_id == 5
    assert interface(on("ip nhrp network-id 5", "ip nhrp network-id 6")).network_id == 6
    assert interface(on("ip nhrp network-id 5", "no ip nhrp network-id")).network_id == 0


def test_both_families_are_in_one_network():
    config = on("ip nhrp network-id 5", "ipv6 nhrp network-id 5")
    assert " ip nhrp network-id 5\n ipv6 nhrp network-id 5\n" in printed(config)
    assert load(printed(config)) == config
    with pytest.raises(ConfigError, match="`ip nhrp network-id 5` stands here too") as caught:
        on("ip nhrp network-id 5", "ipv6 nhrp network-id 6")
    assert "ipv6 nhrp network-id 6" in str(caught.value)
    with pytest.raises(ConfigError, match="`ipv6 nhrp network-id 5` stands here too"):
        on("ipv6 nhrp network-id 5", "ip nhrp network-id 6")


@pytest.mark.parametrize(("first", "second"), [("ip", "ipv6"), ("ipv6", "ip")])
@pytest.mark.parametrize("line", ["network-id 5", "redirect"])
def test_what_both_have_stays_while_one_has_it(first, second, line):
    both = (f"{first} nhrp {line}", f"{second} nhrp {line}")
    assert on(*both, f"no {second} nhrp {line}") == on(f"{first} nhrp {line}")
    assert on(*both, f"no {second} nhrp {line}", f"no {first} nhrp {line}") == on()


def test_each_family_has_its_own_redirect_timeout():
    config = on("ip nhrp redirect timeout 20", "ipv6 nhrp redirect")
    assert interface(config).redirect
    assert [family(config, afi).redirect_timeout for afi in (V4, V6)] == [20, REDIRECT_TIMEOUT]
    assert load(printed(config)) == config


def test_ipv6_alone_prints_as_ipv6():
    config = on("ipv6 nhrp network-id 5", "ipv6 nhrp redirect timeout 7")
    assert (interface(config).network_id, interface(config).redirect) == (5, True)
    assert "\n ip nhrp" not in printed(config)
    assert load(printed(config)) == config


def test_what_a_script_sets_prints_as_ip_nhrp_and_reads_as_the_same():
    """A script need not know that each family has a line of its own."""
    made = InterfaceConfig(
        "Tunnel0", InterfaceKind.TUNNEL, network_id=3, redirect=True, mpls_nhrp=True, point_to_point=True
    )
    text = printed(Config({NodeConfig: NodeConfig(interfaces={"Tunnel0": made})}))
    assert "\n ip nhrp network-id 3\n ip nhrp redirect\n mpls nhrp\n" in text
    assert interface(load(text)) == made
    assert printed(load(text)) == text


def test_mpls_nhrp_is_both_packages_to_know():
    config = on("mpls nhrp")
    assert config[NhrpConfig].of("Tunnel0").mpls
    assert interface(config).mpls_nhrp
    assert not interface(config).mpls
    assert load(printed(config)) == config
    assert on("mpls nhrp", "no mpls nhrp") == on()


# --- servers, maps ----------------------------------------------------------------------------------------------------------


def test_servers_are_known_by_address_and_those_without_one_by_nbma():
    config = on(
        "ip nhrp nhs 10.0.0.1 nbma 192.0.2.1",
        "ip nhrp nhs 10.0.0.2 nbma 192.0.2.2 priority 2",
        "ip nhrp nhs dynamic nbma 192.0.2.3",
        "ip nhrp nhs dynamic nbma 192.0.2.4",
        "ip nhrp nhs 10.0.0.1 nbma 192.0.2.9",
        "ip nhrp nhs dynamic nbma 192.0.2.3 priority 1",
    )
    assert family(config).nhs == (
        Nhs(a("10.0.0.1"), a("192.0.2.9")),
        Nhs(a("10.0.0.2"), a("192.0.2.2"), 2),
        Nhs(nbma=a("192.0.2.3"), priority=1),
        Nhs(nbma=a("192.0.2.4")),
    )
    assert load(printed(config)) == config


@pytest.mark.parametrize(
    ("no", "left"),
    [
        ("nhs 10.0.0.1", 2),
        ("nhs 10.0.0.1 nbma 192.0.2.1", 2),
        ("nhs 10.0.0.1 nbma 192.0.2.1 multicast priority 9", 2),
        ("nhs dynamic", 1),
        ("nhs dynamic nbma 192.0.2.4", 2),
        ("nhs", 0),
    ],
)
def test_servers_go_one_by_one_or_all(no, left):
    lines = (
        "ip nhrp nhs 10.0.0.1 nbma 192.0.2.1",
        "ip nhrp nhs dynamic nbma 192.0.2.3",
        "ip nhrp nhs dynamic nbma 192.0.2.4",
    )
    assert len(family(on(*lines, f"no ip nhrp {no}")).nhs) == left


@pytest.mark.parametrize(
    "no", ["nhs 10.0.0.2", "nhs 10.0.0.1 nbma 192.0.2.9", "nhs dynamic", "map 10.0.0.1", "map 10.0.0.7 192.0.2.9"]
)
def test_what_is_not_there_cannot_go(no):
    with pytest.raises(ConfigError, match="there is no such"):
        on("ip nhrp nhs 10.0.0.1 nbma 192.0.2.1", "ip nhrp map 10.0.0.7 192.0.2.7", f"no ip nhrp {no}")


def test_a_map_has_one_nbma_address():
    config = on("ip nhrp map 10.0.0.1 192.0.2.1", "ip nhrp map 10.0.0.2 192.0.2.2", "ip nhrp map 10.0.0.1 192.0.2.9")
    assert family(config).maps == (StaticMap(a("10.0.0.1"), a("192.0.2.9")), StaticMap(a("10.0.0.2"), a("192.0.2.2")))
    assert family(on("ip nhrp map 10.0.0.1 192.0.2.1", "no ip nhrp map 10.0.0.1")).maps == ()


@pytest.mark.parametrize(
    "line",
    [
        "ip nhrp map multicast dynamic",
        "ip nhrp map multicast 192.0.2.1",
        "ipv6 nhrp map multicast dynamic",
        "ip nhrp record",
        "no ip nhrp cache non-authoritative",
        "ip nhrp cache non-authoritative",
        "ip nhrp server-only",
        "ip nhrp max-send 100 every 10",
        "ip nhrp group gold",
        "ip nhrp map group gold service-policy output shape",
    ],
)
def test_lines_of_old_configurations_are_taken_and_kept(line):
    reading = read(f"{TUNNEL} {line}\n", "n.cfg", table=TABLE)
    assert [(one.line, bool(one.reason)) for one in reading.no_effect] == [(line, True)]
    assert reading.config[NhrpConfig] == NhrpConfig()
    assert f" {line}\n" in printed(reading.config)
    assert load(printed(reading.config)) == reading.config


# --- refusals ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ip nhrp map 10.0.0.1 2001:db8::1", "NBMA addresses in the configuration are IPv4"),
        ("ip nhrp nhs 10.0.0.1 nbma 2001:db8::1", "NBMA addresses in the configuration are IPv4"),
        ("ipv6 nhrp nhs dynamic nbma 2001:db8::1", "NBMA addresses in the configuration are IPv4"),
        ("ip nhrp nhs fd00::1", "an IPv4 address"),
        ("ipv6 nhrp map 10.0.0.1 192.0.2.1", "an IPv6 address"),
        ("ip nhrp network-id 0", "a number from 1 to 4294967295"),
        ("ip nhrp holdtime 65536", "a number from 1 to 65535"),
        ("ip nhrp holdtime 0", "a number from 1 to 65535"),
        ("ip nhrp redirect timeout 1", "a number from 2 to 300"),
        ("ip nhrp shortcut virtual-template 0", "a number from 1 to 4095"),
        ("ip nhrp nhs 10.0.0.1 priority 256", "a number from 0 to 255"),
        ("ip nhrp nhs 10.0.0.1 cluster 11", "a number from 0 to 10"),
        ("ip nhrp authentication", "a password of 1 to 8 octets"),
        ("ip nhrp interest 101", "resolution begins with a redirect here"),
        ("ip nhrp use 3", "resolution begins with a redirect here"),
    ],
)
def test_what_is_refused_says_why(line, why):
    with pytest.raises(ConfigError, match=why):
        on(line)


@pytest.mark.parametrize("password", ["123456789", "ÄÄÄÄÄ", "w1th bl4nks 1nside"])
def test_S03_a_password_that_cannot_be_is_not_in_the_message(password):
    with pytest.raises(ConfigError, match=r"a password of 1 to 8 octets|one word too many") as caught:
        on(f"ip nhrp authentication {password}")
    assert not any(part in str(caught.value) for part in password.split())


def test_S03_the_password_is_not_in_the_repr_of_the_configuration():
    config = on("ip nhrp authentication S3CRET")
    assert family(config).authentication == "S3CRET"
    assert "S3CRET" not in repr(config)
    assert "S3CRET" not in repr(config[NhrpConfig])


@pytest.mark.parametrize(
    "line", ["ip nhrp network-id 1", "ip nhrp redirect", "ipv6 nhrp shortcut", "mpls nhrp", "ip nhrp holdtime 9"]
)
@pytest.mark.parametrize("name", ["Ethernet0/0", "Loopback0"])
def test_nhrp_is_for_tunnels_and_templates(name, line):
    with pytest.raises(ConfigError, match=f"{name} is no tunnel"):
        load(f"interface {name}\n {line}\n")
    assert load(f"interface Virtual-Template1 type tunnel\n {line}\n")


# --- the whole node -----------------------------------------------------------------------------------------------------------


def test_limits_and_the_oui_are_ours():
    config = load("ip nhrp limit cache 100\nip nhrp limit pending 10\nmpls nhrp oui 024D47\n")
    nhrp = config[NhrpConfig]
    assert (nhrp.cache_limit, nhrp.pending_limit, nhrp.oui) == (100, 10, b"\x02\x4d\x47")
    assert "\nmpls nhrp oui 02-4D-47\n" in printed(config)
    assert load(printed(config)) == config
    assert load("ip nhrp limit cache 9\nmpls nhrp oui 024d47\nno ip nhrp limit cache\nno mpls nhrp oui\n") == load("")
    for wrong in ("0", "02-4d", "02-4d-4g", "02-4d-46-00"):
        with pytest.raises(ConfigError, match="is no OUI"):
            load(f"mpls nhrp oui {wrong}\n")


def test_an_interface_that_goes_takes_its_nhrp_with_it():
    config = load(f"{TUNNEL} ip nhrp network-id 1\n ip nhrp nhs 10.0.0.1\n mpls nhrp\nno interface Tunnel0\n")
    assert config[NhrpConfig] == NhrpConfig()


DOCUMENTS = Path(__file__).parent.parent / "stack" / "ios" / "documents"


def test_the_documents_hub_loads_with_its_two_lines():
    hub = next(DOCUMENTS.glob("flexvpn_hub*")).read_text()
    lines = [line.strip() for line in hub.splitlines() if "nhrp" in line]
    assert lines == ["ip nhrp network-id 1", "ip nhrp redirect"]
    config = load("interface Virtual-Template1 type tunnel\n" + "".join(f" {line}\n" for line in lines))
    row = interface(config, "Virtual-Template1")
    assert (row.network_id, row.redirect) == (1, True)


# --- any configuration ----------------------------------------------------------------------------------------------------

nbmas = st.integers(1, 250).map(lambda last: bytes((192, 0, 2, last)))


def overlays(afi: Afi) -> st.SearchStrategy[bytes]:
    return st.integers(1, 9).map(lambda last: a(f"10.0.0.{last}" if afi is V4 else f"fd00::{last}"))


def servers(afi: Afi) -> st.SearchStrategy[Nhs]:
    named = st.builds(Nhs, overlays(afi), st.just(b"") | nbmas, st.integers(0, 255), st.integers(0, 10), st.booleans())
    return named | st.builds(Nhs, st.just(b""), nbmas, st.integers(0, 255), st.integers(0, 10), st.booleans())


def families(afi: Afi) -> st.SearchStrategy[NhrpFamily]:
    return st.builds(
        NhrpFamily,
        authentication=st.text([chr(one) for one in range(32, 127)], max_size=8),
        holding_time=st.integers(1, 65535) | st.just(HOLDING_TIME),
        registration_timeout=st.integers(0, 65535),
        unique=st.booleans(),
        nhs=st.lists(servers(afi), max_size=4, unique_by=lambda one: (one.address, one.address or one.nbma)).map(tuple),
        maps=st.lists(st.builds(StaticMap, overlays(afi), nbmas), max_size=3, unique_by=lambda one: one.address).map(
            tuple
        ),
        shortcut=st.booleans(),
        virtual_template=st.none() | st.integers(1, 4095),
        redirect_timeout=st.integers(2, 300),
        network=st.booleans(),
        redirect=st.booleans(),
    ).map(_possible)


def _possible(one: NhrpFamily) -> NhrpFamily:
    """Without what no line says."""
    one = evolve(one, virtual_template=one.virtual_template if one.shortcut else None)
    return evolve(one, redirect_timeout=one.redirect_timeout if one.redirect else REDIRECT_TIMEOUT)


@given(families(V4), families(V6), st.booleans())
def test_what_is_printed_reads_as_the_same(v4, v6, mpls):
    held = {afi: one for afi, one in ((V4, v4), (V6, v6)) if one != NhrpFamily()}
    row = InterfaceConfig(
        "Tunnel0",
        InterfaceKind.TUNNEL,
        network_id=7 if v4.network or v6.network else 0,
        redirect=v4.redirect or v6.redirect,
        mpls_nhrp=mpls,
        point_to_point=True,
    )
    nhrp = NhrpConfig({"Tunnel0": NhrpInterface("Tunnel0", held, mpls)} if held or mpls else {})
    config = Config({NodeConfig: NodeConfig(interfaces={"Tunnel0": row}), NhrpConfig: nhrp})
    text = printed(config)
    again = load(text)
    assert again[NhrpConfig] == nhrp
    assert interface(again) == row
    assert printed(again) == text


def test_the_order_of_lines_does_not_matter():
    lines = ("ip nhrp network-id 5", "ipv6 nhrp network-id 5", "ip nhrp redirect", "mpls nhrp")
    assert len({printed(on(*order)) for order in itertools.permutations(lines)}) == 1
