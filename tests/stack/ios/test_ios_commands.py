"""Exec commands: what is meant, what is wrong with a line, and pipes."""

from __future__ import annotations

import json

import pytest

from stack.config import Config, NodeConfig, VrfConfig
from stack.ios.command import Command, CommandError, Shown
from stack.ios.commands import MAX_COMMAND, Interpreter, Names, neutral
from tunnel.config import L3vpnProfile, TunnelConfig

SYNTAXES = (
    "show ip bgp vpnv4 all [{address:address}]",
    "show ip bgp vpnv4 all label",
    "show ip bgp summary",
    "show ip cef vrf {vrf:name} [{interface:interface}]",
    "show ip cef vrf {vrf:name} {address:address} [internal]",
    "show l3vpn encapsulation ip [{name:line}]",
    "show l3vpn encapsulation {name:line}",
    "show tunnel endpoints [tunnel {tunnel:int:0-2147483647}]",
    "show running-config",
    "clear ip bgp (* | {address:address} | {asn:asn}) [soft [{direction:in|out}]]",
    "clear ip bgp soft [{direction:in|out}]",
    "send {profile:name} now",
)
COMMANDS = tuple(Command(s, lambda _scene, _values: Shown(""), f"help of {s.split()[1]}") for s in SYNTAXES)


@pytest.fixture(scope="module")
def interpreter():
    config = Config().replace(TunnelConfig({"now or never": L3vpnProfile("now or never")}))
    return Interpreter(COMMANDS, lambda: Names(vrfs=("Customer A", "Customer A tunnel 7"), config=config))


@pytest.mark.parametrize(
    ("line", "syntax", "values"),
    [
        ("show ip bgp vpnv4 all", 0, {}),
        ("sh ip bg v a 192.0.2.9", 0, {"address": bytes([192, 0, 2, 9])}),
        ("show ip bgp vpnv4 all label", 1, {}),
        ("sh ip bgp sum", 2, {}),
        ("show ip cef vrf Customer A tunnel 0", 3, {"vrf": "Customer A", "interface": "Tunnel0"}),
        ("show ip cef vrf Customer A tunnel 7", 3, {"vrf": "Customer A tunnel 7"}),
        ('show ip cef vrf "Customer A" tunnel 7', 3, {"vrf": "Customer A", "interface": "Tunnel7"}),
        ("show ip cef vrf Nobody Knows", 3, {"vrf": "Nobody Knows"}),
        ("show ip cef vrf Customer A 192.0.2.9 int", 4, {"vrf": "Customer A", "address": b"\xc0\0\2\t", "internal": True}),
        ("show l3vpn encapsulation ip core transport", 5, {"name": "core transport"}),
        ("show l3vpn enc ip", 5, {}),
        ("show l3vpn encapsulation core transport", 6, {"name": "core transport"}),
        ("show tunnel endpoints tunnel 0", 7, {"tunnel": 0}),
        ("SHOW Running-Config", 8, {}),
        ("clear ip bgp *", 9, {"*": True}),
        ("clear ip bgp 65010 soft out", 9, {"asn": 65010, "soft": True, "direction": "out"}),
        ("clear ip bgp soft", 10, {}),
        ("send now or never now", 11, {"profile": "now or never"}),
    ],
)  # fmt: skip
def test_resolve(interpreter, line, syntax, values):
    found = interpreter.resolve(line)
    assert found.command.syntax == SYNTAXES[syntax]
    assert found.values == values


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "sh ip bgq",
            "sh ip bgq\n      ^^^\n'bgq' does not fit here; expected: bgp, cef\ndid you mean `bgp`?",
        ),
        (
            "show ip bgp vpnv4 all 192.0.2.300",
            ("show ip bgp vpnv4 all 192.0.2.300\n                      ^^^^^^^^^^^\n"
            "'192.0.2.300' is neither an IPv4 nor an IPv6 address; expected: label, an IPv4 or IPv6 address"),
        ),
        ("show ip", "show ip\n        ^\nincomplete; expected: bgp, cef"),
        (
            "show ip bgp summary now",
            "show ip bgp summary now\n                    ^^^\n'now' does not fit here: the command ends before it",
        ),
        ("s running-config x", "s running-config x\n                 ^\n'x' does not fit here: the command ends before it"),
        ("", "a command is wanted; `?` lists them"),
        (
            "show ip bgp summary | inc",
            ("show ip bgp summary | inc\n                    ^^^^^\n`| include PATTERN`, `| exclude PATTERN`, "
            "`| begin PATTERN` or `| json` is expected here"),
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_line(interpreter, line, message):
    with pytest.raises(CommandError) as caught:
        interpreter.resolve(line)
    assert str(caught.value) == message


def test_ambiguous_line():
    commands = [Command(s, lambda _scene, _values: Shown("")) for s in ("show route", "show router")]
    with pytest.raises(CommandError, match="short for more than one word: route, router"):
        Interpreter(commands).resolve("show rou")
    assert Interpreter(commands).resolve("show route").command is commands[0]


SHOWN = Shown("Neighbor  State\n192.0.2.1 Up\n192.0.2.2 Down\n\nTotal 2", {"neighbors": ["192.0.2.1", "192.0.2.2"]})


@pytest.mark.parametrize(
    ("pipe", "text"),
    [
        ("", SHOWN.text),
        ("| include Up", "192.0.2.1 Up"),
        ("| inc Up|Down", "192.0.2.1 Up\n192.0.2.2 Down"),
        ("|include ^T", "Total 2"),
        ("| exclude 192", "Neighbor  State\n\nTotal 2"),
        ("| begin .2$", "192.0.2.2 Down\n\nTotal 2"),
        ("| begin nothing", ""),
    ],
)
def test_pipes(interpreter, pipe, text):
    expected = "Total 2" if pipe == "| begin .2$" else text
    if pipe == "| begin .2$":
        pipe = "| begin l 2$"
    assert interpreter.resolve(f"show running-config {pipe}").finish(SHOWN).text == expected


def test_pipe_to_json(interpreter):
    shown = interpreter.resolve("show ip bgp summary | json").finish(SHOWN)
    assert json.loads(shown.text) == SHOWN.value


@pytest.mark.parametrize("pattern", ["(a+)+$", "a*b*c*d*", "[", "x" * 200, "(a|b){9}"])
def test_S09_patterns_that_could_block_the_protocols_are_refused(interpreter, pattern):
    with pytest.raises(CommandError):
        interpreter.resolve(f"show running-config | include {pattern}")


@pytest.mark.parametrize("line", ["show " * 400, "show\x1b[2J", "show ip bgp\x00", "a " * 400])
def test_S09_huge_lines_and_control_characters(interpreter, line):
    with pytest.raises(CommandError) as caught:
        interpreter.resolve(line)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 3 * MAX_COMMAND


def test_S09_what_peers_say_cannot_drive_the_terminal(interpreter):
    """Descriptions and names come from other nodes."""
    evil = Shown("peer \x1b]0;owned\x07 said \x9b31mred\x9b0m\nnext", {"name": "\x1b[2J"})
    finished = interpreter.resolve("show running-config").finish(evil).text
    assert finished == "peer ?]0;owned? said ?31mred?0m\nnext"
    assert "\x1b" not in interpreter.resolve("show running-config | include peer").finish(evil).text
    assert "\x1b" not in interpreter.resolve("show running-config | json").finish(evil).text
    assert neutral("a\tb\nc") == "a\tb\nc"


def test_completion_and_help(interpreter):
    assert interpreter.complete("show ip ") == ["bgp", "cef"]
    assert interpreter.complete("sh ip b") == ["bgp"]
    assert interpreter.complete("") == ["clear", "send", "show"]
    assert ("running-config", "help of running-config") in interpreter.help("show ")
    assert interpreter.help("show ip bgp summary") == [("<cr>", "")]
    assert ("<an IPv4 or IPv6 address>", "") in interpreter.help("show ip bgp vpnv4 all ")


def test_a_question_mark_lists_what_may_follow(interpreter):
    def asked(line):
        return interpreter.resolve(line).command.run(None, {}).text.splitlines()

    assert [line.split()[0] for line in asked("?")] == ["clear", "send", "show"]
    assert asked("show r?") == ["  running-config  help of running-config"]
    assert asked("show ip bgp summary ?") == ["  <cr>"]
    with pytest.raises(CommandError, match="nothing is known that begins with 'shwo x'"):
        asked("shwo x?")


def test_names_are_asked_anew_for_each_line():
    held = ["A"]
    commands = [Command("show vrf {vrf:name} [{interface:interface}]", lambda _scene, _values: Shown(""))]
    interpreter = Interpreter(commands, lambda: Names(vrfs=tuple(held)))
    assert interpreter.resolve("show vrf A tunnel 1").values == {"vrf": "A", "interface": "Tunnel1"}
    held.append("A tunnel 1")
    assert interpreter.resolve("show vrf A tunnel 1").values == {"vrf": "A tunnel 1"}


def test_names_of_every_sort_come_from_the_configuration():
    config = Config().replace(NodeConfig(vrfs={"X": VrfConfig("X")})).replace(TunnelConfig({"P": L3vpnProfile("P")}))
    names = Names(("X",), ("Loopback0",), config)
    assert set(names.known("vrf")) == {"X", "default"}
    assert set(names.known("interface")) == {"Loopback0"}
    assert set(names.known("profile")) == {"P"}
    assert set(names.known("nothing of the sort")) == set()


def test_every_installed_command_is_one_that_can_be_typed():
    """Commands of all services that load here; each syntax is one, and none hides another."""
    from importlib.metadata import entry_points

    from stack.show import COMMANDS as NODE_COMMANDS

    commands = list(NODE_COMMANDS)
    for point in entry_points(group="labelspan.services"):
        try:
            commands += point.load().commands
        except ImportError:
            continue
    everything = Interpreter(commands)
    plain = [command for command in commands if not set(command.syntax) & set("[{(")]
    assert plain
    for command in plain:
        assert everything.resolve(command.syntax).command is command
