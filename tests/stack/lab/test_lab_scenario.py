"""Scenarios as data: what is read, and that nothing half-understood is let through."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.lab.scenario import Check, Host, PlainRouter, Sabotage, ScenarioError, device_of, load

GOOD = """
title = "Two and a core"
[node]
pe1 = "pe1.cfg"
[router.core]
addresses = { eth1 = ["10.0.0.2/30"] }
routes = { "192.0.2.1/32" = "10.0.0.1" }
[host]
red1 = { customer = "Red", addresses = ["10.1.1.10/24", "2001:db8::10/64"], gateways = ["10.1.1.1", "2001:db8::1"] }
red2 = { customer = "Red", addresses = ["10.1.2.10/24"], gateways = ["10.1.2.1"] }
blue1 = { customer = "Blue", addresses = ["10.1.1.10/24"], gateways = [] }
[link]
pe1-core = ["pe1 Ethernet0/0", "core eth1"]
red1 = ["pe1 Ethernet0/1", "red1 eth0"]
[[check]]
name = "up"
kind = "sessions"
nodes = { pe1 = 1 }
[[check]]
name = "ping"
kind = "ping"
host = "red1"
to = "10.1.2.10"
within = 2
[sabotage.key]
node = "pe1"
replace = [["key 1", "key 2"]]
red = ["ping"]
[sabotage.leak]
inject = "pe1-core"
red = ["up", "ping"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "two"
    path.mkdir()
    (path / "pe1.cfg").write_text("hostname pe1\n tunnel key 1\n ! grüße\n", encoding="utf-8")
    return path


def write(folder: Path, text: str) -> str:
    (folder / "scenario.toml").write_text(text, encoding="utf-8")
    return str(folder)


def test_a_scenario_is_read(folder: Path) -> None:
    scenario = load(write(folder, GOOD))
    assert (scenario.name, scenario.title) == ("two", "Two and a core")
    assert scenario.node == {"pe1": "hostname pe1\n tunnel key 1\n ! grüße\n"}
    assert scenario.router == {"core": PlainRouter({"eth1": ["10.0.0.2/30"]}, {"192.0.2.1/32": "10.0.0.1"})}
    assert scenario.host["blue1"] == Host("Blue", ["10.1.1.10/24"], [])
    assert scenario.customers == ("Red", "Blue")
    assert scenario.link["pe1-core"] == (("pe1", "Ethernet0/0"), ("core", "eth1"))
    assert scenario.checks == (
        Check("up", "sessions", {"nodes": {"pe1": 1}}, 5.0),
        Check("ping", "ping", {"host": "red1", "to": "10.1.2.10"}, 2.0),
    )
    assert scenario.sabotage["key"] == Sabotage(["ping"], "pe1", [("key 1", "key 2")])
    assert (scenario.device("pe1", "Ethernet0/1"), scenario.device("core", "eth1")) == ("e0-1", "eth1")


@pytest.mark.parametrize(
    ("interface", "device"), [("Ethernet0/0", "e0-0"), ("Ethernet1/2/3", "e1-2-3"), ("eth7", "eeth7")]
)
def test_devices_are_short_and_have_no_slash(interface: str, device: str) -> None:
    assert device_of(interface) == device


FAULTS = {
    # what is changed in the text, and the complaint after the file's name
    "not TOML": ("title = ", "title == ", "Invalid"),
    "no title": ('title = "Two and a core"', "", "'title' is missing"),
    "no nodes": ('[node]\npe1 = "pe1.cfg"', "", "'node' is missing"),
    "a title of another kind": ('"Two and a core"', "7", "7 is no text @ .title"),
    "nodes that are no table": ('[node]\npe1 = "pe1.cfg"', "node = 7", "@ .node"),
    "a node of another kind": ('"pe1.cfg"', "7", "7 is no text @ .node['pe1']"),
    "links that are no table": ("[link]", "[[link]]", "@ .link"),
    "a link with one end": ('["pe1 Ethernet0/1", "red1 eth0"]', '["pe1 Ethernet0/1"]', "link red1 has 1 ends, two are wanted"),
    "a link with three ends": ('"red1 eth0"]', '"red1 eth0", "core eth9"]', "link red1 has 3 ends, two are wanted"),
    "a link of numbers": ('["pe1 Ethernet0/1", "red1 eth0"]', "[1, 2]", "1 is no text @ .link['red1'][0]"),
    "an end without interface": ('"red1 eth0"', '"red1"', "link red1: 'red1' '' is no end: OWNER INTERFACE expected"),
    "an end of nobody": ('"red1 eth0"', '"red9 eth0"', "link red1: 'red9' 'eth0' is no end: OWNER INTERFACE expected"),
    "a word nobody knows": ("[link]", "[links]\n[link]", "extra fields found (links)"),
    "checks under another name": ("[[check]]", "[[checks]]", "extra fields found (checks)"),
    "a host's word nobody knows": ("gateways = []", 'gateways = [], colour = "blue"', "extra fields found (colour)"),
    "a host without customer": ('customer = "Blue", ', "", "'customer' is missing @ .host['blue1'].customer"),
    "an address that is none": ('"10.1.2.10/24"', '"10.1.2/24"', "'10.1.2' is neither an IPv4 nor an IPv6 address"),
    "a gateway that is none": ('["10.1.2.1"]', '["10.1.2.1/24"]', "'10.1.2.1/24' is neither an IPv4 nor"),
    "a check without name": ('name = "up"', "", "a check has no name"),
    "a check without kind": ('kind = "ping"', "", "check 'ping': there is no kind None; there are: clear, configure,"),
    "a kind that there is not": ('kind = "ping"', 'kind = "pign"', "check 'ping': there is no kind 'pign'; there are: clear,"),
    "a check that lacks words": ('to = "10.1.2.10"', "", "check 'ping': a check of kind ping also needs to"),
    "a check with a word too many": ("within = 2", "witin = 2", "check 'ping': a check of kind ping knows no witin"),
    "a check that waits for text": ("within = 2", 'within = "2"', "check 'ping': within '2' are no seconds"),
    "a check that waits backwards": ("within = 2", "within = -2", "check 'ping': within -2 are no seconds"),
    "a check that waits for truth": ("within = 2", "within = true", "check 'ping': within True are no seconds"),
    "two checks of one name": ('name = "up"', 'name = "ping"', "two checks are called 'ping'"),
    "sabotage of a row that is not": ('red = ["ping"]', 'red = ["pong"]', "sabotage key: there is no check called 'pong'"),
    "sabotage that reddens nothing": ('red = ["ping"]', "red = []", "sabotage key: no row is to turn red"),
    "sabotage of a node that is not": ('node = "pe1"', 'node = "pe7"', "sabotage key: there is no node called 'pe7'"),
    "sabotage of text that is not": ('"key 1"', '"key 3"', "sabotage key: 'key 3' does not stand in the configuration of pe1"),
    "sabotage of nothing": ('node = "pe1"', "", "sabotage key breaks nothing"),
    "sabotage of a link that is not": ('inject = "pe1-core"', 'inject = "x"', "sabotage leak: there is no link called 'x'"),
    "sabotage with half a pair": ('[["key 1", "key 2"]]', '[["key 1"]]', "@ .sabotage['key'].replace[0]"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_scenario_says_where_and_what(folder: Path, fault: str) -> None:
    old, new, complaint = FAULTS[fault]
    assert old in GOOD
    name = write(folder, GOOD.replace(old, new, 1) if fault != "checks under another name" else GOOD.replace(old, new))
    with pytest.raises(ScenarioError) as caught:
        load(name)
    assert str(caught.value).startswith(f"{folder / 'scenario.toml'}: ")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_verdict_without_checks_would_mean_nothing(folder: Path) -> None:
    with pytest.raises(ScenarioError, match="there is no check: its verdict would mean nothing"):
        load(write(folder, GOOD.partition("[[check]]")[0]))


@pytest.mark.parametrize("lost", ["pe1.cfg", "scenario.toml"])
def test_files_that_are_not_there_are_named(folder: Path, lost: str) -> None:
    name = write(folder, GOOD)
    (folder / lost).unlink()
    with pytest.raises(ScenarioError) as caught:
        load(name)
    assert str(caught.value) == f"{folder / lost}: No such file or directory"


def test_octets_that_are_no_text(folder: Path) -> None:
    name = write(folder, GOOD)
    (folder / "pe1.cfg").write_bytes(b"\xff\xfe")
    with pytest.raises(ScenarioError, match=r"scenario.toml: .*codec can't decode"):
        load(name)


def test_a_name_wins_over_a_folder_that_lies_here(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder.rename(tmp_path / "mgre")
    write(tmp_path / "mgre", GOOD)
    assert load("mgre").title == "MPLS VPN over mGRE"
    assert load("./mgre").title == "Two and a core"
    with pytest.raises(ScenarioError, match=r"^there is no scenario 'nosuch'; there are: .*mgre.*, or give a folder$"):
        load("nosuch")
