"""Routing's engine and tunnel's, back to back, on a hub whose spokes come and go: what ikev2 says is said by the test."""

from __future__ import annotations

import random
import sys
from collections import deque
from types import FrameType
from typing import Any

from stack.addr import Prefix, parse_address
from stack.esp import Cipher, EspForm
from stack.events import (
    AccessRow,
    AccessWanted,
    AddressOffered,
    AddressRow,
    BindingOffered,
    Delta,
    HostPortRow,
    HostPortState,
    InterfaceKind,
    InterfaceOffered,
    InterfaceRow,
    InterfaceState,
    Route,
    RouteOffered,
    SaKey,
    SaRow,
    SaState,
    Synced,
    Topic,
    Via,
    Vrf,
    VrfState,
)
from stack.nettypes import Device, HostRoute
from stack.routing.engine import READS
from stack.routing.engine import Engine as Routing
from stack.tables import Tables
from tunnel.config import TunnelConfig, TunnelInterface
from tunnel.engine.engine import Engine
from tunnel.engine.outputs import DropAdjacency, DropReception, Log, Mirror, Publish, PutAdjacency, PutReception
from tunnel.service import INPUTS

A = parse_address
HUB, OVERLAY, GATEWAY = A("192.0.2.1"), A("10.0.0.1"), A("192.0.2.254")
TEMPLATE = "Virtual-Template1"
FORM = EspForm(Cipher.AES_GCM_256)
CONFIG = TunnelConfig(tunnels={TEMPLATE: TunnelInterface(TEMPLATE, source="Ethernet0/0")})


def spoke(number: int) -> bytes:
    return (0xC6120000 + number).to_bytes(4)


def overlay(number: int) -> bytes:
    return (0x0A000100 + number).to_bytes(4)


class Hub:
    """`said`: topic, table -> what stands. `logs`: what was logged."""

    def __init__(self, config: TunnelConfig = CONFIG) -> None:
        self.tables = Tables()
        t = self.tables
        self.routing = Routing.of(t.interfaces, t.nexthops, t.rib, t.fib)
        self.tunnel = Engine(config, random.Random(1).randbytes, t.nexthops)
        self.adjacencies, self.receptions = t.adjacencies.writer("tunnel"), t.receptions.writer("tunnel")
        self.said: dict[tuple[Topic[Any, Any], str, str], dict[Any, Any]] = {}
        self.logs: list[Log] = []
        self.host: Any = None
        self.copies: dict[Prefix, HostRoute] = {}
        self.now = 1.0
        self._queue: deque[Delta] = deque()
        self.tunnel.devices_changed([Device("e0", 2, b"\x02\0\0\0\0\x01", 1500, up=True)])

    def boot(self) -> None:
        self.say("router", VrfState, {"": Vrf("", 0)})
        kind = InterfaceKind
        self.say("router", InterfaceOffered, {
            "Ethernet0/0": InterfaceRow("Ethernet0/0", kind.ETHERNET, device="e0"),
            "Loopback0": InterfaceRow("Loopback0", kind.LOOPBACK),
            TEMPLATE: InterfaceRow(
                TEMPLATE, kind.TEMPLATE, unnumbered="Loopback0", point_to_point=True, mpls=True, protection="default"
            ),
        })  # fmt: skip
        self.say("router", AddressOffered, {
            ("Ethernet0/0", HUB): AddressRow(24), ("Loopback0", OVERLAY): AddressRow(32)
        })  # fmt: skip
        self.say("forwarder", HostPortState, {"": HostPortRow("ls-0", 1500)})
        self.say("static", RouteOffered, {Prefix.parse("0.0.0.0/0"): Route(1, (Via(GATEWAY),), "static")})
        self.tunnel.receive(Synced(InterfaceState, "routing", 1), self.now)
        self.run()

    def say(self, owner: str, topic: Topic[Any, Any], rows: dict[Any, Any], table: str = "") -> None:
        held = self.said.setdefault((topic, owner, table), {})
        for key, row in rows.items():
            held.pop(key, None)
            if row is not None:
                held[key] = row
        self._queue.append(Delta(topic, owner, 1, table, dict(rows)))

    def run(self) -> None:
        """Until nobody has anything to say."""
        for _ in range(50):
            while self._queue:
                delta = self._queue.popleft()
                if delta.topic in READS:
                    self.routing.feed(delta, self.now)
                if delta.topic in INPUTS:
                    self.tunnel.receive(delta, self.now)
            for output in self.tunnel.settle(self.now):
                self._perform(output)
            for output in self.routing.settle(self.now):
                if hasattr(output, "topic"):
                    self.say("routing", output.topic, dict(output.rows), output.table)
            if not self._queue:
                return
        raise AssertionError("it does not settle")

    def _perform(self, output: Any) -> None:
        match output:
            case Publish(topic, rows, table):
                self.say("tunnel", topic, dict(rows), table)
            case PutAdjacency(row):
                self.adjacencies.put(row.key, row)
            case DropAdjacency(key):
                self.adjacencies.remove(key)
            case PutReception(row):
                self.receptions.put(row.interface, row)
            case DropReception(name):
                self.receptions.remove(name)
            case Mirror(change):
                self.host = change
                for prefix, route in change.routes.items():
                    self.copies.pop(prefix, None)
                    if route is not None:
                        self.copies[prefix] = route
            case Log():
                self.logs.append(output)

    def rows(self, topic: Topic[Any, Any], owner: str = "tunnel", table: str = "") -> dict[Any, Any]:
        return self.said.get((topic, owner, table), {})

    def up(self, number: int, *, sa: SaRow | None = None) -> None:
        """As ikev2 does when a spoke is authenticated."""
        name = f"Virtual-Access{number}"
        self.say(
            "ikev2", AccessWanted, {name: AccessRow(TEMPLATE, HUB, spoke(number), "default", "", f"spoke {number}")}
        )
        self.say("ikev2", SaState, {SaKey(name): sa or SaRow(up=True, form=FORM)})
        host = Prefix.host(overlay(number))
        self.say("ikev2", RouteOffered, {host: Route(1, (Via(interface=name),), "static")})
        self.say("ikev2", BindingOffered, {("", host, b""): (3,)})
        self.run()

    def down(self, number: int) -> None:
        name = f"Virtual-Access{number}"
        host = Prefix.host(overlay(number))
        self.say("ikev2", RouteOffered, {host: None})
        self.say("ikev2", BindingOffered, {("", host, b""): None})
        self.say("ikev2", SaState, {SaKey(name): None})
        self.say("ikev2", AccessWanted, {name: None})
        self.run()


def lines_run(work: Any) -> int:
    """How many lines of Python `work` runs, loops counted: work, not time."""
    count = 0

    def tracer(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        if event == "line":
            count += 1
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        work()
    finally:
        sys.settrace(before)
    return count
