"""Adjacencies of attachments: what the packet path may use, and why not."""

from __future__ import annotations

import pytest

from stack.addr import parse_address as a
from stack.events import AdjacencyKey, Interface, InterfaceKind, InterfaceRow
from stack.tables.adjacency import AdjacencyKind
from tunnel.engine.adjacencies import attached, state_of
from tunnel.engine.neighbours import Neighbour, NeighbourState

MAC, PEER = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"
HOST = a("10.1.1.10")
S, K = NeighbourState, AdjacencyKind


def interface(kind: InterfaceKind, vrf: str, vlan: int | None, up: bool, reason: str) -> Interface:
    return Interface(InterfaceRow("If0", kind, vrf, vlan=vlan), 1, up, 1400, MAC, reason=reason)


def neighbour(state: NeighbourState) -> Neighbour:
    mac = PEER if state in (S.REACHABLE, S.PROBING) else b""
    return Neighbour(AdjacencyKey("If0", HOST), state, mac, 9.0, 0, 1.0)


@pytest.mark.parametrize(
    ("vlan", "state", "up", "expected"),
    [
        (None, S.REACHABLE, True, (True, PEER + MAC, "")),
        (7, S.PROBING, True, (True, PEER + MAC + b"\x81\0\0\x07", "")),
        (None, S.ASKING, True, (False, b"", "")),
        (None, S.DEAD, True, (False, b"", "no answer")),
        (None, S.REACHABLE, False, (False, PEER + MAC, "cable out")),
        (None, S.DEAD, False, (False, b"", "cable out")),
    ],
)
def test_an_ethernet_neighbour(
    vlan: int | None, state: NeighbourState, up: bool, expected: tuple[bool, bytes, str]
) -> None:
    where = interface(InterfaceKind.ETHERNET, "red", vlan, up, "" if up else "cable out")
    row = attached(AdjacencyKey("If0", HOST), where, neighbour(state), 3.0)
    assert row is not None
    assert (row.kind, row.mtu, row.created) == (K.ETHERNET, 1400, 3.0)
    assert (row.complete, row.rewrite, row.reason) == expected
    told = state_of(row, row.key, wanted=True)
    assert told is not None
    assert told.usable == (row.complete or (up and state is S.ASKING))
    assert told.reason == ("being resolved" if state is S.ASKING else row.reason)


@pytest.mark.parametrize(
    ("kind", "vrf", "address", "expected"),
    [
        (InterfaceKind.TUN, "red", b"", K.TUN),
        (InterfaceKind.ETHERNET, "", HOST, K.HOST),
        (InterfaceKind.ETHERNET, "", b"", K.HOST),  # whoever is attached there
    ],
)
@pytest.mark.parametrize(("reason", "text"), [("cable out", "cable out"), ("", "interface is down")])
def test_what_is_down_always_says_why(
    kind: InterfaceKind, vrf: str, address: bytes, expected: AdjacencyKind, reason: str, text: str
) -> None:
    row = attached(AdjacencyKey("If0", address), interface(kind, vrf, None, False, reason), None, 0.0)
    assert row is not None
    assert (row.kind, row.complete, row.reason) == (expected, False, text)


@pytest.mark.parametrize(
    ("kind", "vrf", "address"),
    [
        (InterfaceKind.TUN, "red", HOST),
        (InterfaceKind.ETHERNET, "red", b""),
        (InterfaceKind.ETHERNET, "red", HOST),  # no neighbour entry
        (InterfaceKind.LOOPBACK, "red", HOST),
    ],
)
def test_no_adjacency(kind: InterfaceKind, vrf: str, address: bytes) -> None:
    key = AdjacencyKey("If0", address)
    assert attached(key, interface(kind, vrf, None, True, ""), None, 0.0) is None
    assert state_of(None, key, wanted=False) is None
    told = state_of(None, key, wanted=True)
    assert told is not None
    assert not told.usable
