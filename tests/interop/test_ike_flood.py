"""A flood of IKE_SA_INIT from spoofed sources, at a node as a user runs it, while a real peer wants in (fault row I04).

    flooder, client: 198.51.100.2 ---- 198.51.100.1: hub

The sources are of 198.18.0.0/15, every one another; what the hub answers them goes to the flooder, which hears nothing of it.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from ikev2.config import IkeProposal
from ikev2.crypto.suites import ike_proposals
from ikev2.engine.admission import COOKIE_AFTER
from ikev2.wire import Exchange, KeyExchange, Message, Nonce, SecurityAssociation, encode
from stack.addr import parse_address
from stack.lab.namespace import Namespace, World
from tests.conftest import require_root
from tests.interop.nodes import Node

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

FLOOD, RATE = 20_000, 2_500
"""Datagrams, and how many a second."""
GROWTH = 8 << 20
"""Octets that the hub's memory may grow by."""
CONNECTS_WITHIN = 3.0

HUB, CLIENT = "198.51.100.1", "198.51.100.2"

CONFIG = """hostname {name}
crypto ikev2 keyring all
 peer all
  address 198.51.100.0 255.255.255.0
  pre-shared-key a key for a test
 !
!
crypto ikev2 profile all
 match identity remote address 198.51.100.0 255.255.255.0
 authentication local pre-share
 authentication remote pre-share
 keyring local all
!
crypto ipsec profile all
 set ikev2-profile all
{more}!
interface Ethernet0/0
 ip address {own} 255.255.255.0
!
interface Tunnel0
 ip address {overlay} 255.255.255.252
 tunnel source Ethernet0/0
 tunnel destination {other}
 tunnel protection ipsec profile all
{shutdown}!
{after}end
"""

TO_FLOODER = """interface Ethernet0/1
 ip address 203.0.113.1 255.255.255.0
!
ip route 198.18.0.0 255.254.0.0 203.0.113.2
"""


def hub_config() -> str:
    return CONFIG.format(
        name="hub", own=HUB, other=CLIENT, overlay="10.0.0.1", more=" responder-only\n", shutdown="", after=TO_FLOODER
    )


def client_config(*, shut: bool) -> str:
    shutdown = " shutdown\n" if shut else ""
    return CONFIG.format(name="client", own=CLIENT, other=HUB, overlay="10.0.0.2", more="", shutdown=shutdown, after="")


@pytest.fixture
def world() -> Iterator[World]:
    require_root()
    with World() as world:
        hub, client, flooder = (world.add(name) for name in ("hub", "client", "flooder"))
        world.cable(client, "eth0", hub, "eth0")
        world.cable(flooder, "eth0", hub, "eth1")
        flooder.address("eth0", "203.0.113.2/24")
        flooder.route("198.51.100.0/24", via="203.0.113.1")
        yield world


def initial() -> bytes:
    """An IKE_SA_INIT that any responder would take, with zeros where every one is different."""
    offer = ike_proposals(IkeProposal("flood", ("aes-gcm-256",), prf=("sha384",), groups=(19,)))
    # Both coordinates of the generator of P-256: a key like any other, so that whoever looks does all of the work.
    point = bytes.fromhex(
        "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
    payloads = (SecurityAssociation(offer), KeyExchange(19, point), Nonce(bytes(32)))
    return encode(
        Message(bytes([1] * 8), bytes(8), Exchange.IKE_SA_INIT, 0, initiator=True, response=False, payloads=payloads)
    )


def flood(namespace: Namespace) -> None:
    """Every datagram has a source, an SPI and a nonce of its own."""
    template = initial()
    hub = parse_address(HUB)
    udp = struct.pack(">HHHH", 500, 500, 8 + len(template), 0)
    begun = time.monotonic()
    with namespace.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for number in range(FLOOD):
            source = (198 << 24 | 18 << 16 | number + 1).to_bytes(4)
            own = number.to_bytes(4)
            ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28 + len(template), 0, 0, 64, 17, 0, source, hub)
            message = b"spoof" + own[1:] + template[8:-32] + os.urandom(32)
            raw.sendto(ip + udp + message, (HUB, 0))
            if number % 25 == 24:
                time.sleep(max(0.0, begun + (number + 1) / RATE - time.monotonic()))


def memory(node: Node) -> int:
    """Octets of the process that are in memory."""
    assert node.process is not None
    pages = int(Path(f"/proc/{node.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_I04_a_flood_costs_no_memory_and_a_peer_still_connects(world: World, tmp_path: Path) -> None:
    hub_node = Node(world.namespaces["hub"], hub_config(), {"Ethernet0/0": "eth0", "Ethernet0/1": "eth1"}, tmp_path)
    client_node = Node(world.namespaces["client"], client_config(shut=True), {"Ethernet0/0": "eth0"}, tmp_path)
    with hub_node as hub, client_node as client:
        hub.until("show crypto ikev2 stats", lambda value: value["half-open"] == 0)
        before = memory(hub)
        attack = Thread(target=flood, args=(world.namespaces["flooder"],))
        attack.start()
        hub.until("show crypto ikev2 stats", lambda value: value["challenging"] and value["cookies-sent"] > 1_000)
        # The client starts in the middle of it: what it must do is an exchange more, with a cookie.
        client.configure(client_config(shut=False))
        begun = time.monotonic()
        client.until("show crypto ipsec sa", lambda rows: bool(rows), within=CONNECTS_WITHIN)
        took = time.monotonic() - begun
        assert attack.is_alive(), "the flood was over before the client had connected"
        attack.join()
        value = hub.until("show crypto ikev2 stats", lambda value: value["cookies-sent"] >= FLOOD * 0.9, within=10)
        grown = memory(hub) - before
        print(f"connected after {took:.2f} s; {grown / 1024:.0f} KB more; {value}")
        assert grown < GROWTH
        assert value["half-open"] <= COOKIE_AFTER
        assert value["cookies-accepted"] >= 1
        assert value["ike-sas-up"] == 1
        assert value["counters"]["accepted"] <= COOKIE_AFTER + 1
        assert "Traceback" not in hub.log.read_text()
        assert hub.log.read_text().count("\n") < 100, "a stranger must not fill the log"
