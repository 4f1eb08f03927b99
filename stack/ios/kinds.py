"""Kinds of words: what a `{slot:kind}` of a grammar row takes, how it is read, how it prints, what to say if it is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any, NamedTuple

from attrs import frozen

from stack.addr import LAST_LABEL, RD, RT, Prefix, format_address, mask_length, netmask, parse_address
from stack.ios.interfaces import interface_name

__all__ = ["KINDS", "Kind", "Shape", "Spread", "kind_of", "register"]


class Shape(Enum):
    """How many words a kind takes."""

    WORD = "one word"
    INTERFACE = "one word, or a kind and a number"
    NAME = "one word or more, or quoted"
    TEXT = "all up to the end of the line, as it stands"


@frozen
class Kind:
    """`wants` completes 'expected ...'. `read` raises ValueError. `rank`: of two rows that both fit, the lower one is
    meant (keywords are 0, shortened ones 1)."""

    name: str
    wants: str
    read: Callable[[str], Any]
    write: Callable[[Any], str] = str
    shape: Shape = Shape.WORD
    rank: int = 2


class Spread(NamedTuple):
    """`A.B.C.D/N` with its host bits kept: an address on a network."""

    address: bytes
    length: int


def _v4(text: str) -> bytes:
    octets = parse_address(text)
    if len(octets) != 4:
        raise ValueError(f"{text!r} is not an IPv4 address")
    return octets


def _v6(text: str) -> bytes:
    octets = parse_address(text)
    if len(octets) != 16:
        raise ValueError(f"{text!r} is not an IPv6 address")
    return octets


def _slashed(text: str) -> str:
    if "/" not in text:
        raise ValueError(f"{text!r} has no /length")
    return text


def _prefix(text: str) -> Prefix:
    return Prefix.parse(_slashed(text))


def _prefix4(text: str) -> Prefix:
    prefix = _prefix(text)
    _v4(format_address(prefix.network))
    return prefix


def _prefix6(text: str) -> Prefix:
    prefix = _prefix(text)
    _v6(format_address(prefix.network))
    return prefix


def _spread6(text: str) -> Spread:
    return Spread(_v6(text.partition("/")[0]), _prefix6(text).length)


def _number(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise ValueError(f"{text!r} is not a number from {low} to {high}")
    return int(text)


def _asn(text: str) -> int:
    """RFC 5396: asplain or asdot."""
    high, dot, low = text.partition(".")
    if dot:
        return (_number(high, 0, 0xFFFF) << 16) + _number(low, 0, 0xFFFF) or _number("0", 1, 1)
    return _number(text, 1, 0xFFFFFFFF)


def _seconds(text: str) -> float:
    whole, _, part = text.partition(".")
    if not (
        len(text) < 16 and whole.isascii() and whole.isdigit() and (part or "0").isascii() and (part or "0").isdigit()
    ):
        raise ValueError(f"{text!r} is not a number of seconds")
    return float(text)


_COMMUNITIES = {"internet": 0, "no-export": 0xFFFFFF01, "no-advertise": 0xFFFFFF02, "local-AS": 0xFFFFFF03}
_COMMUNITY_WORDS = {name.lower(): value for name, value in _COMMUNITIES.items()}
_COMMUNITY_NAMES = {value: name for name, value in _COMMUNITIES.items()}


def _community(text: str) -> int:
    if text.lower() in _COMMUNITY_WORDS:
        return _COMMUNITY_WORDS[text.lower()]
    asn, colon, number = text.partition(":")
    if colon:
        return (_number(asn, 0, 0xFFFF) << 16) + _number(number, 0, 0xFFFF)
    return _number(text, 0, 0xFFFFFFFF)


def _community_text(value: int) -> str:
    return _COMMUNITY_NAMES.get(value) or f"{value >> 16}:{value & 0xFFFF}"


_PAIR = re.compile(r"[0-9.]{1,15}:[0-9]{1,10}")


def _plain_pair(text: str) -> str:
    """int() takes more than digits: `1_0`, blanks, other scripts."""
    if not _PAIR.fullmatch(text):
        raise ValueError(f"{text!r} is not ASN:NUMBER or A.B.C.D:NUMBER")
    head, _, number = text.partition(":")
    most = 0xFFFF if "." in head or int(head) > 0xFFFF else 0xFFFFFFFF  # RFC 4364 4.2: eight octets in all
    if int(number) > most:
        raise ValueError(f"{text!r}: after {head} the number is at most {most}")
    return text


def _rd(text: str) -> RD:
    return RD.parse(_plain_pair(text))


def _rt(text: str) -> RT:
    return RT.parse(_plain_pair(text))


def _origin(text: str) -> bytes:
    """A site of origin: laid out as a route target is, with sub-type 3 (RFC 4360 5)."""
    target = _rt(text)
    return target[:1] + b"\x03" + target[2:]


def _origin_text(value: bytes) -> str:
    return str(RT(value[:1] + b"\x02" + value[2:]))


def _signed(text: str) -> tuple[int, bool]:
    """(value, relative)"""
    sign = -1 if text.startswith("-") else 1
    relative = text[:1] in {"+", "-"}
    return sign * _number(text[relative:], 0, 0xFFFFFFFF), relative


def _signed_text(value: tuple[int, bool]) -> str:
    return f"{value[0]:+d}" if value[1] else str(value[0])


def _word(text: str) -> str:
    return text


KINDS: dict[str, Kind] = {}


def register(kind: Kind) -> Kind:
    """Give a package's own kind a name for its rows."""
    KINDS[kind.name] = kind
    return kind


for _kind in (
    Kind("ipv4", "an IPv4 address (A.B.C.D)", _v4, format_address),
    Kind("ipv6", "an IPv6 address (X:X:X::X)", _v6, format_address),
    Kind("address", "an IPv4 or IPv6 address", parse_address, format_address),
    Kind("mask", "a netmask (255.255.255.0)", mask_length, netmask),
    Kind("wildcard", "a wildcard mask (0.0.0.255)", _v4, format_address),
    Kind("prefix4", "an IPv4 prefix (A.B.C.D/N)", _prefix4),
    Kind("prefix6", "an IPv6 prefix (X:X::X/N)", _prefix6),
    Kind("prefix", "a prefix (A.B.C.D/N or X:X::X/N)", _prefix),
    Kind("spread6", "an IPv6 address and length (X:X::X/N)", _spread6, lambda v: f"{format_address(v[0])}/{v[1]}"),
    Kind("asn", "an AS number (1-4294967295, or X.Y)", _asn),
    Kind("interface", "an interface (Loopback0, Ethernet0/1.10, eth0)", interface_name, shape=Shape.INTERFACE),
    Kind("word", "a word", _word, rank=3),
    Kind("name", "a name", _word, shape=Shape.NAME, rank=3),
    Kind("text", "text", _word, shape=Shape.TEXT, rank=5),
    Kind("rd", "a route distinguisher (ASN:NUMBER or A.B.C.D:NUMBER)", _rd),
    Kind("rt", "a route target (ASN:NUMBER or A.B.C.D:NUMBER)", _rt),
    Kind("soo", "a site of origin (ASN:NUMBER or A.B.C.D:NUMBER)", _origin, _origin_text),
    Kind("community", "a community (AA:NN, a number, or a well-known name)", _community, _community_text),
    Kind("signed", "a number, or +NUMBER or -NUMBER", _signed, _signed_text),
    Kind("seconds", "a number of seconds", _seconds, lambda v: f"{v:.6f}".rstrip("0").rstrip(".")),
):
    register(_kind)

_ALIASES: Mapping[str, str] = {"line": "name", "vrf": "name", "profile": "name", "label": f"int:0-{LAST_LABEL}"}


@cache
def _integer(bounds: str) -> Kind:
    low_text, _, high_text = bounds.partition("-")
    low, high = int(low_text or 0), int(high_text or 0xFFFFFFFF)
    return Kind(f"int:{bounds}", f"a number from {low} to {high}", lambda text: _number(text, low, high))


def kind_of(text: str, slot: str) -> tuple[Kind, str]:
    """The kind that `text` names in a row, and for names the sort of thing they name. Raises ValueError if it is none.

    `int:1-255` is a range; `name:vrf` (short: `vrf`) says what the name is of, plain `name` is of what its slot is called.
    """
    sort = text if text in {"vrf", "profile"} else slot
    text = _ALIASES.get(text, text)
    base, _, rest = text.partition(":")
    if base == "int":
        return _integer(rest), ""
    if base not in KINDS or (rest and base != "name"):
        raise ValueError(f"no kind of word is called {text!r}")
    kind = KINDS[base]
    return kind, (rest or sort) if kind.shape is Shape.NAME else ""
