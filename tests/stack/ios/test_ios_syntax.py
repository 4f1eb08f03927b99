"""The language of grammar rows, by itself: matching, abbreviations, names with blanks, printing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.addr import parse_address
from stack.ios.interfaces import interface_kind, interface_name, parent_of
from stack.ios.kinds import KINDS, kind_of
from stack.ios.syntax import Ambiguous, Match, Mismatch, Syntax, Tree, clean, render, tokenise


def tree(*rows):
    grown = Tree[str]()
    for row in rows:
        grown.add(Syntax.parse(row), row)
    return grown


def match(grown, line, known=()):
    return grown.match(tokenise(line), line, lambda sort: known if sort == "vrf" else ())


# --- words and tokens ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ('vrf "Customer A" x', ["vrf", "Customer A", "x"]),
        (r'"say \"hi\" \\ now"', ['say "hi" \\ now']),
        ('"open', ['"open']),
        ('"a"b', ['"a"b']),
        ("   ", []),
    ],
)
def test_tokens(line, words):
    tokens = tokenise(line)
    assert [t.text for t in tokens] == words
    assert all(line[t.start] == ('"' if t.quoted else t.text[0]) for t in tokens)


@pytest.mark.parametrize(
    ("line", "row"),
    [
        ("show ip route", "show ip route"),
        ("sh v", "show vrf"),
        ("SHOW IP Route", "show ip route"),
        ("sh ipv6 r", "show ipv6 route"),
        ("sho ip routing", "show ip routing"),
    ],
)
def test_unambiguous_abbreviations(line, row):
    grown = tree("show ip route", "show ipv6 route", "show ip routing", "show vrf")
    assert match(grown, line).rows == (row,)


def test_a_whole_word_is_never_an_abbreviation():
    grown = tree("show ip route", "show ip routing")
    assert match(grown, "show ip route").rows == ("show ip route",)


def test_ambiguity_names_what_it_could_be():
    found = match(tree("show route", "show routing", "show ip"), "show rou")
    assert found == Ambiguous(1, ("route", "routing"))


def test_later_words_may_tell_which_is_meant():
    assert match(tree("show route x", "show routing y"), "show rou y").rows == ("show routing y",)


def test_keywords_before_slots_before_names():
    grown = tree("clear {who:name}", "clear {number:int:1-9}", "clear all")
    assert match(grown, "clear all").rows == ("clear all",)
    assert match(grown, "clear 4").values == {"number": 4}
    assert match(grown, "clear 40").values == {"who": "40"}


def test_optional_choice_repeat_and_flags():
    grown = tree("set tag {tags:int:0-9}... [additive] (now | at {hour:int:0-23})")
    found = match(grown, "set tag 1 2 3 add at 7")
    assert found.values == {"tags": (1, 2, 3), "additive": True, "hour": 7}
    assert found.spans["tags"] == (2, 5)
    assert match(grown, "set tag 1 now").values == {"tags": (1,), "now": True}


def test_old_word_means_the_new_one():
    assert match(tree("af {f:vpnv4|vpv4=vpnv4}"), "af vpv4").values == {"f": "vpnv4"}
    assert render(Syntax.parse("af {f:vpnv4|vpv4=vpnv4}"), {"f": "vpnv4"}) == "af vpnv4"


@pytest.mark.parametrize(
    ("line", "known", "vrf", "interface"),
    [
        ("cef vrf Customer A tunnel 0", (), "Customer A", "Tunnel0"),
        ("cef vrf Customer A tunnel 0", ("Customer A tunnel 0",), "Customer A tunnel 0", None),
        ("cef vrf Customer A B", ("Customer A B", "Customer A"), "Customer A B", None),
        ('cef vrf "Customer A" lo0', (), "Customer A", "Loopback0"),
        ("cef vrf Blue", (), "Blue", None),
    ],
)
def test_names_with_blanks(line, known, vrf, interface):
    """Semantics 17: the longest known name wins, or quotes; else what comes after it is recognised."""
    found = match(tree("cef vrf {vrf:name} [{i:interface}]"), line, known)
    assert (found.values["vrf"], found.values.get("i")) == (vrf, interface)


def test_a_name_does_not_swallow_a_typing_error():
    grown = tree("map {map:name:vrf} [{action:permit|deny}] [{n:int:0-9}]")
    assert match(grown, "map Long Name permit 5").values["map"] == "Long Name"
    assert match(grown, "map Long Name").values["map"] == "Long Name"
    near = match(grown, "map Long Name permot 5")
    assert isinstance(near, Mismatch)
    assert near.at == 3
    assert match(grown, "map Long Name permit x").at == 4
    assert match(grown, "map Long Name permot 5", ("Long Name permot 5",)).values["map"] == "Long Name permot 5"
    assert match(grown, 'map "Long Name permit x"').values["map"] == "Long Name permit x"


def test_mismatch_tells_how_far_the_line_made_sense():
    grown = tree("ip address {a:ipv4} {m:mask}", "ip mtu {n:int:68-1500}")
    found = match(grown, "ip address 192.0.2.1 255.255")
    assert (found.at, found.wanted) == (3, ("a netmask (255.255.255.0)",))
    assert match(grown, "ip mtu 67").problem == "'67' is not a number from 68 to 1500"
    assert match(grown, "ip").words == ("address", "mtu")


@pytest.mark.parametrize("bad", ["a [b", "a b]", "a (b", "{x:nokind}", "a {b:word:c}", "{unclosed"])
def test_what_is_no_syntax(bad):
    with pytest.raises(ValueError):
        Syntax.parse(bad)


def test_printing_takes_the_alternative_that_says_all():
    syntax = Syntax.parse("route [vrf {vrf:name}] {p:prefix4} ({via:ipv4} | null0) [tag {tag:int:0-9}]")
    values = match(tree(syntax.text), "route vrf X 192.0.2.0/24 192.0.2.1 tag 0").values
    assert render(syntax, values) == "route vrf X 192.0.2.0/24 192.0.2.1 tag 0"
    with pytest.raises(ValueError):
        render(syntax, {"vrf": "X"})


@pytest.mark.parametrize(
    ("name", "at_end", "inside"),
    [
        ("plain", "plain", "plain"),
        ("Customer A", "Customer A", '"Customer A"'),
        ("two  blanks", '"two  blanks"', '"two  blanks"'),
        ('a "quote"', r'"a \"quote\""', r'"a \"quote\""'),
        ("back\\slash", '"back\\\\slash"', '"back\\\\slash"'),
        ("!bang", '"!bang"', '"!bang"'),
        ("bad\nhostname evil", "bad hostname evil", '"bad hostname evil"'),
    ],
)
def test_names_print_so_that_they_read_back(name, at_end, inside):
    assert render(Syntax.parse("x {n:name}"), {"n": name}) == f"x {at_end}"
    assert render(Syntax.parse("x {n:name} in"), {"n": name}) == f"x {inside} in"


@given(st.text(min_size=1, max_size=20).filter(lambda t: clean(t) == t and t.strip()))
def test_any_name_reads_back(name):
    syntax = Syntax.parse("x {n:name}")
    found = match(tree(syntax.text), render(syntax, {"n": name}))
    assert isinstance(found, Match)
    assert found.values["n"] == name
    middle = Syntax.parse("x {n:name} in")
    assert match(tree(middle.text), render(middle, {"n": name})).values["n"] == name


@given(st.text(max_size=60))
def test_any_line_is_read_or_refused_and_nothing_else(line):
    grown = tree(
        "ip route [vrf {v:name:vrf}] {p:prefix4} {i:interface}", "ip {x:word}...", "a {t:text}", "b {n:seconds}"
    )
    assert isinstance(match(grown, line), Match | Mismatch | Ambiguous)


# --- kinds of words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "printed"),
    [
        ("asn", "65000", "65000"),
        ("asn", "1.10", "65546"),
        ("mask", "255.255.255.224", "255.255.255.224"),
        ("prefix", "2001:DB8::1/32", "2001:db8::/32"),
        ("spread6", "2001:DB8::1/64", "2001:db8::1/64"),
        ("rd", "192.0.2.1:7", "192.0.2.1:7"),
        ("rt", "4200000000:7", "4200000000:7"),
        ("soo", "65000:7", "65000:7"),
        ("community", "65000:1", "65000:1"),
        ("community", "no-export", "no-export"),
        ("community", "LOCAL-AS", "local-AS"),
        ("community", "65536", "1:0"),
        ("signed", "+5", "+5"),
        ("signed", "-5", "-5"),
        ("signed", "5", "5"),
        ("seconds", "1.50", "1.5"),
        ("seconds", "30", "30"),
        ("interface", "loopback0", "Loopback0"),
        ("address", "::ffff:192.0.2.1", "::ffff:192.0.2.1"),
    ],
)
def test_kinds_read_and_print(kind, text, printed):
    assert KINDS[kind].write(KINDS[kind].read(text)) == printed


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("asn", "0"), ("asn", "4294967296"), ("asn", "1.65536"), ("asn", "0.0"), ("asn", "-1"), ("asn", "٣"),
        ("mask", "255.0.255.0"), ("ipv4", "::1"), ("ipv6", "192.0.2.1"), ("prefix4", "192.0.2.0"), ("prefix4", "::/0"),
        ("prefix", "192.0.2.0/33"), ("prefix", "192.0.2.0/-1"), ("rd", "1_0:1"), ("rd", "1:"), ("rt", "65536:65536"),
        ("rt", " 1:1"), ("community", "65536:1"), ("community", "none"), ("signed", "--1"), ("signed", "+"),
        ("seconds", "1e9"), ("seconds", "nan"), ("interface", "Ethernet0/"), ("interface", "serial"), ("interface", "Null1"),
        ("interface", "a-name-longer-than-16"), ("interface", ""), ("ipv4", "1.2.3"), ("ipv4", "192.0.2.1\n"),
    ],
)  # fmt: skip
def test_kinds_refuse_with_a_value_error(kind, text):
    with pytest.raises(ValueError):
        KINDS[kind].read(text)


@given(st.sampled_from(sorted(KINDS)), st.text(max_size=24))
def test_kinds_are_total(kind, text):
    try:
        value = KINDS[kind].read(text)
    except ValueError:
        return
    again = KINDS[kind].read(KINDS[kind].write(value))
    assert again == value


def test_kind_of_names_ranges_and_sorts():
    assert kind_of("int:5-9", "x")[0].read("5") == 5
    assert kind_of("name", "vrf")[1] == kind_of("vrf", "other")[1] == kind_of("name:vrf", "x")[1] == "vrf"
    assert kind_of("ipv4", "x")[0].read("192.0.2.1") == parse_address("192.0.2.1")


# --- interface names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        ("loopback 0", "Loopback0", "loopback"),
        ("Loopback0", "Loopback0", "loopback"),
        ("lo0", "Loopback0", "loopback"),
        ("LO12", "Loopback12", "loopback"),
        ("tun0", "Tunnel0", "tunnel"),
        ("tunnel 7", "Tunnel7", "tunnel"),
        ("Ethernet0/1.10", "Ethernet0/1.10", "ethernet"),
        ("e0/1", "Ethernet0/1", "ethernet"),
        ("gi0/0/1", "GigabitEthernet0/0/1", "ethernet"),
        ("Serial2/0", "Serial2/0", "ethernet"),
        ("s2/0", "Serial2/0", "ethernet"),
        ("virtual-template 1", "Virtual-Template1", "template"),
        ("null 0", "Null0", "loopback"),
        ("eth0", "eth0", "ethernet"),
        ("ens3.10", "ens3.10", "ethernet"),
        ("lo", "lo", "ethernet"),
        ("tunl0", "tunl0", "ethernet"),
        ("veth-pe1", "veth-pe1", "ethernet"),
    ],
)
def test_interface_names(text, name, kind):
    assert interface_name(text) == name
    assert interface_kind(name).value == kind


@pytest.mark.parametrize(
    ("text", "meant"), [("Ethernt0/1", "Ethernet0/1"), ("Loopbck3", "Loopback3"), ("Tunel9", "Tunnel9")]
)
def test_misspelt_interface_names_are_no_linux_devices(text, meant):
    with pytest.raises(ValueError, match=f"is it {meant}"):
        interface_name(text)


def test_parent_of_a_sub_interface():
    assert parent_of("Ethernet0/1.10") == "Ethernet0/1"
    assert parent_of("eth0.20") == "eth0"
    assert parent_of("Ethernet0/1") == ""
