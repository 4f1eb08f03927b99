"""Interface names: however they are written, one spelling inside. `loopback 0`, `Lo0` and `Loopback0` are the same one.

A name that IOS does not have but Linux could (`eth0`, `ens3.10`) stands for that device, as an Ethernet interface.
"""

from __future__ import annotations

import re
from difflib import get_close_matches

from stack.events import InterfaceKind

__all__ = ["NULL0", "interface_kind", "interface_name", "is_interface_word", "is_ios_name", "parent_of"]

NULL0 = "Null0"

_KINDS = {
    "Ethernet": InterfaceKind.ETHERNET,
    "FastEthernet": InterfaceKind.ETHERNET,
    "GigabitEthernet": InterfaceKind.ETHERNET,
    "TenGigabitEthernet": InterfaceKind.ETHERNET,
    "Loopback": InterfaceKind.LOOPBACK,
    "Null": InterfaceKind.LOOPBACK,
    "Port-channel": InterfaceKind.ETHERNET,
    "Serial": InterfaceKind.ETHERNET,
    "Tunnel": InterfaceKind.TUNNEL,
    "Virtual-Access": InterfaceKind.TUNNEL,
    "Virtual-Template": InterfaceKind.TEMPLATE,
}
_SPELLINGS = {kind.lower(): kind for kind in _KINDS}
_UNSLOTTED = ("Loopback", "Null", "Tunnel", "Virtual-Access", "Virtual-Template")
"""Kinds that Linux has no devices for, so that a short form without a slash (`lo0`, `tu1`) can mean nothing else."""

_IOS = re.compile(r"([A-Za-z][A-Za-z-]*)(\d{1,10}(?:/\d{1,5}){0,3}(?:\.\d{1,10})?)")
_LINUX = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,14}")  # IFNAMSIZ is 16 with its NUL
_LETTERS = re.compile(r"[A-Za-z][A-Za-z-]*")


def _spelled(letters: str, number: str) -> str | None:
    """The kind that `letters` is, or shortens; None if it is none, or more than one."""
    low = letters.lower()
    if low in _SPELLINGS:
        return _SPELLINGS[low]
    found = [kind for spelling, kind in _SPELLINGS.items() if spelling.startswith(low)]
    if "/" not in number:
        found = [kind for kind in found if kind in _UNSLOTTED and len(low) > 1]
    return found[0] if len(found) == 1 else None


def interface_name(text: str) -> str:
    """The one spelling of `text`. Raises ValueError, with a suggestion where one is near."""
    compact = "".join(text.split())
    found = _IOS.fullmatch(compact)
    if found:
        kind = _spelled(*found.groups())
        if kind == "Null" and found[2] != "0":
            raise ValueError(f"{text!r}: the only null interface is {NULL0}")
        if kind:
            return kind + found[2]
        near = get_close_matches(found[1].lower(), _SPELLINGS, 1, 0.8) if len(found[1]) > 4 else []
        if near and found[1].lower() != near[0]:
            raise ValueError(f"{text!r} is no interface; is it {_SPELLINGS[near[0]]}{found[2]}?")
    if _LINUX.fullmatch(text) and text.lower() not in _SPELLINGS:
        return text
    raise ValueError(f"{text!r} is no interface name")


def is_interface_word(text: str) -> bool:
    """Whether `text` is a kind of interface whose number is the next word (`loopback 0`)."""
    low = text.lower()
    return _LETTERS.fullmatch(text) is not None and any(spelling.startswith(low) for spelling in _SPELLINGS)


def interface_kind(name: str) -> InterfaceKind:
    """What a name of the one spelling stands for; a Linux name is an Ethernet device."""
    letters = _LETTERS.match(name)
    return _KINDS.get(letters[0] if letters else "", InterfaceKind.ETHERNET)


def is_ios_name(name: str) -> bool:
    """Whether a name of the one spelling is IOS's; else it is just any word that Linux would take for a device."""
    found = _IOS.fullmatch(name)
    return found is not None and found[1] in _KINDS


def parent_of(name: str) -> str:
    """`Ethernet0/1` of `Ethernet0/1.10`; empty if `name` is no sub-interface."""
    parent, dot, number = name.rpartition(".")
    return parent if dot and number.isdigit() else ""
