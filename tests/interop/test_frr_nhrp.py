"""FRR's nhrpd as hub and as spoke, and two spokes of ours: registration, redirect, resolution and shortcuts (plain DMVPN).

    site 12 -- nhrpd 12 --.                .-- 13 (ours) -- host
                           bridge = NBMA --
               nhrpd 1 = hub               '-- 14 (ours) -- host

A packet by way of the hub has one hop more than one that goes straight: its TTL says which way it came.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from attrs import frozen

from nhrp.wire.codec import encode
from nhrp.wire.mpls import ContextLabel, MplsBinding, Role, mpls_extension
from nhrp.wire.packet import Cie, CieCode, Extension, ExtensionKind, Kind, Packet
from stack.addr import parse_address
from stack.lab.namespace import Namespace
from tests.conftest import require_root
from tests.interop.dmvpn import Nbma, Probe, clean, config, host_pings, nbma, overlay, until
from tests.interop.nhrpd import Nhrpd, Nhrpds
from tests.interop.nodes import Node

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

HUB, THEIRS, OURS, OTHER, STRANGER = 1, 12, 13, 14, 20
HOLD = 6
AT_THEIRS, AT_OTHER = "192.168.12.1", "192.168.14.10"

SPOKE = f"ip nhrp nhs {overlay(HUB)} nbma {nbma(HUB)}", "ip nhrp shortcut"
BY_THE_HUB = (("192.168.0.0/16", overlay(HUB)), ("10.0.0.0/24", overlay(HUB)))


def our_spoke(number: int, *more: str, key: int | None = 42) -> str:
    return config(number, lines=(*SPOKE, *more), routes=[("192.168.0.0 255.255.0.0", overlay(HUB))], key=key, hold=HOLD)


def start_theirs(routers: Nhrpds, *, key: int | None = 42) -> None:
    sites = [(f"192.168.{number}.0/24", overlay(number)) for number in (THEIRS, OURS, OTHER, STRANGER)]
    routers[HUB].start((), routes=sites, redirect=True, key=key, hold=HOLD)
    routers[THEIRS].start(SPOKE, routes=BY_THE_HUB, key=key, hold=HOLD)


@frozen
class Dmvpn:
    cloud: Nbma
    routers: Nhrpds
    nodes: dict[int, Node]
    far: dict[str, int]
    """Destination -> TTL of its answer to a host of ours, when both ways are by the hub."""

    @property
    def hub(self) -> Nhrpd:
        return self.routers[HUB]

    @property
    def theirs(self) -> Nhrpd:
        return self.routers[THEIRS]

    def host(self, number: int) -> Namespace:
        return self.cloud.site(number)[1]

    def ttls(self, destination: str, *, count: int = 1) -> list[int]:
        """Of the answers to pings from the host behind our first spoke."""
        return host_pings(self.host(OURS), destination, count=count)

    def by_hub(self, destination: str) -> None:
        assert self.ttls(destination) == [self.far[destination]]

    def until_direct(self, destination: str, *, within: float = 30.0) -> None:
        until(lambda: self.ttls(destination) == [self.far[destination] + 1], within=within, why=self.why)

    def stays_direct(self, destination: str) -> None:
        assert self.ttls(destination, count=3) == [self.far[destination] + 1] * 3

    def why(self) -> str:
        return f"{self.hub.log()}\n{self.theirs.log()}"

    def registered(self, *numbers: int) -> None:
        until(lambda: all(self.hub.cached(overlay(number)) for number in numbers), why=self.why)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nbma]:
    require_root()
    with Nbma(tmp_path_factory.mktemp("nbma")) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def routers(cloud: Nbma) -> Iterator[Nhrpds]:
    with Nhrpds(cloud, cloud.folder, (HUB, THEIRS)) as routers:
        yield routers


@pytest.fixture(scope="module")
def dmvpn(cloud: Nbma, routers: Nhrpds) -> Iterator[Dmvpn]:
    with ExitStack() as stack:
        nodes = {number: cloud.our_node(number, our_spoke(number)) for number in (OURS, OTHER)}
        for node in nodes.values():
            stack.callback(node.stop)
            node.launch()
        start_theirs(routers)
        for node in nodes.values():
            node.ready()
        dmvpn = Dmvpn(cloud, routers, nodes, {})
        dmvpn.registered(THEIRS, OURS, OTHER)
        for destination in (AT_THEIRS, AT_OTHER):
            (dmvpn.far[destination],) = until(partial(dmvpn.ttls, destination), why=dmvpn.why)
        yield dmvpn
    routers.stop()


def test_rfc2332_5_2_3_our_registration_is_taken_and_refreshed_at_a_third(dmvpn: Dmvpn) -> None:
    row = dmvpn.hub.cached(overlay(OURS))
    assert row is not None
    assert (row["nbma"], row["timeout"]) == (nbma(OURS), True)
    asked = until(lambda: dmvpn.cloud.nhrp(Kind.REGISTRATION_REQUEST, source=nbma(OURS))[3:])
    first, second = dmvpn.cloud.nhrp(Kind.REGISTRATION_REQUEST, source=nbma(OURS))[2:4]
    assert asked
    assert second.at - first.at == pytest.approx(HOLD / 3, abs=0.5)
    replies = dmvpn.cloud.nhrp(Kind.REGISTRATION_REPLY, destination=nbma(OURS))
    assert {reply.nhrp.cies[0].code for reply in replies} == {CieCode.OK}


def test_a_shortcut_with_nhrpd_both_ways(dmvpn: Dmvpn) -> None:
    """We are requester and egress at once: the hub tells both ends of the other."""
    cloud = dmvpn.cloud
    dmvpn.until_direct(AT_THEIRS)
    until(lambda: dmvpn.theirs.shortcuts().get("192.168.13.0/24") == overlay(OURS), why=dmvpn.why)
    (asked, *_) = cloud.nhrp(Kind.RESOLUTION_REQUEST, source=nbma(OURS), destination=nbma(HUB))
    assert asked.nhrp.destination == parse_address(AT_THEIRS)
    since = cloud.mark()
    dmvpn.stays_direct(AT_THEIRS)
    assert (len(cloud.data(OURS, THEIRS, since=since)), len(cloud.data(THEIRS, OURS, since=since))) == (3, 3)
    assert not cloud.data(OURS, HUB, since=since)
    assert not cloud.data(HUB, OURS, since=since)


def test_a_shortcut_between_ours_through_nhrpd(dmvpn: Dmvpn) -> None:
    cloud = dmvpn.cloud
    dmvpn.until_direct(AT_OTHER)
    since = cloud.mark()
    dmvpn.stays_direct(AT_OTHER)
    assert (len(cloud.data(OURS, OTHER, since=since)), len(cloud.data(OTHER, OURS, since=since))) == (3, 3)


def test_a_shortcut_in_use_is_renewed_and_one_that_is_not_ends(dmvpn: Dmvpn) -> None:
    """Ours; nhrpd does not renew its own, but waits for the hub's next redirect."""
    cloud = dmvpn.cloud
    dmvpn.until_direct(AT_THEIRS)
    since, end = cloud.mark(), time.monotonic() + 1.2 * HOLD
    while time.monotonic() < end:
        assert len(dmvpn.ttls(AT_THEIRS, count=3)) == 3
    assert not cloud.data(OURS, HUB, since=since)
    assert cloud.nhrp(Kind.RESOLUTION_REQUEST, since=since, source=nbma(OURS))
    until(lambda: not dmvpn.theirs.shortcuts(), within=3 * HOLD)
    until(lambda: "192.168.12.0/24" not in str(dmvpn.nodes[OURS].show("show ip nhrp")), within=3 * HOLD)
    dmvpn.by_hub(AT_THEIRS)
    dmvpn.until_direct(AT_THEIRS)


def stranger_registers(probe: Probe) -> None:
    asks = Packet(
        Kind.REGISTRATION_REQUEST,
        parse_address(nbma(STRANGER)),
        parse_address(overlay(STRANGER)),
        parse_address(overlay(HUB)),
        7,
        0x0002,
        (Cie(0, 32, 0, 60),),
        hop_count=1,
    )
    assert probe.ask(HUB, encode(asks), Kind.REGISTRATION_REPLY).nhrp.cies[0].code == CieCode.OK


def with_label(destination: str, allocator: str, request_id: int) -> Packet:
    """A resolution request of the stranger, with label 30 of `allocator`."""
    binding = MplsBinding(Role.REQUEST, ContextLabel(30, parse_address(allocator)))
    records = tuple(
        Extension(kind)
        for kind in (
            ExtensionKind.RESPONDER_ADDRESS,
            ExtensionKind.FORWARD_TRANSIT,
            ExtensionKind.REVERSE_TRANSIT,
        )
    )
    return Packet(
        Kind.RESOLUTION_REQUEST,
        parse_address(nbma(STRANGER)),
        parse_address(overlay(STRANGER)),
        parse_address(destination),
        request_id,
        0xC802,
        (Cie(0, 32, 0, 60),),
        (*records, mpls_extension(binding, b"\x02MF")),
        hop_count=64,
    )


def test_the_label_extension_crosses_nhrpd_unharmed(dmvpn: Dmvpn) -> None:
    """To nhrpd, which answers with our own extension in its reply; and to us, who have not allocated that label."""
    cloud = dmvpn.cloud
    with Probe(cloud, STRANGER) as probe:
        stranger_registers(probe)
        for number, destination, request_id in ((THEIRS, "192.168.12.1", 8), (OURS, "192.168.13.10", 9)):
            since, asks = cloud.mark(), with_label(destination, overlay(HUB), request_id)
            reply = probe.ask(HUB, encode(asks), Kind.RESOLUTION_REPLY).nhrp
            (passed,) = cloud.nhrp(Kind.RESOLUTION_REQUEST, since=since, source=nbma(HUB), destination=nbma(number))
            assert passed.nhrp.extension(ExtensionKind.VENDOR_PRIVATE) == asks.extensions[-1]
            assert reply.request_id == request_id
            if number == THEIRS:  # an echo: its role says that it is no answer
                assert reply.extension(ExtensionKind.VENDOR_PRIVATE) == asks.extensions[-1]
                assert (reply.cies[0].code, reply.cies[0].protocol) == (CieCode.OK, parse_address(overlay(THEIRS)))
            else:
                assert reply.cies[0].code == CieCode.PROHIBITED
                assert reply.cies[0].holding_time == 0


def test_a_far_spoke_that_is_killed_is_reached_by_the_hub_again_when_it_is_back(dmvpn: Dmvpn) -> None:
    """Nobody says that it is gone: the holding time ends the shortcut, and the hub has a new one."""
    dmvpn.until_direct(AT_THEIRS)
    dmvpn.theirs.kill()
    assert dmvpn.ttls(AT_THEIRS) == []
    until(lambda: "192.168.12.0/24" not in str(dmvpn.nodes[OURS].show("show ip nhrp")), within=3 * HOLD)
    dmvpn.theirs.start(SPOKE, routes=BY_THE_HUB, hold=HOLD)
    dmvpn.until_direct(AT_THEIRS, within=30)


def test_a_spoke_of_ours_that_stops_says_so(dmvpn: Dmvpn) -> None:
    """RFC 2332 5.2.5: it purges what others hold of it. The other spoke of ours obeys at once; nhrpd knows no purges, and is
    none the worse for it."""
    cloud = dmvpn.cloud
    dmvpn.until_direct(AT_OTHER)
    since = cloud.mark()
    assert dmvpn.nodes[OTHER].stop() == 0
    assert cloud.nhrp(Kind.PURGE_REQUEST, since=since, source=nbma(OTHER))
    until(lambda: "192.168.14.0/24" not in str(dmvpn.nodes[OURS].show("show ip nhrp")), within=HOLD / 3)
    assert dmvpn.hub.cached(overlay(OURS))
    dmvpn.until_direct(AT_THEIRS)


def test_the_hub_comes_back_with_nothing_remembered(dmvpn: Dmvpn) -> None:
    dmvpn.hub.kill()
    start_theirs(dmvpn.routers)
    dmvpn.registered(OURS, THEIRS)
    dmvpn.until_direct(AT_THEIRS)


def test_tshark_finds_nothing_wrong_with_what_we_sent(dmvpn: Dmvpn, tmp_path: Path) -> None:
    for number in (OURS, OTHER):
        kinds = clean(dmvpn.cloud.write(tmp_path / f"{number}.pcap", source=nbma(number)))
        assert {Kind.REGISTRATION_REQUEST, Kind.RESOLUTION_REQUEST, Kind.RESOLUTION_REPLY} <= kinds


VPN = """
vrf definition A
 rd 65000:16
 route-target export 65000:100
 route-target import 65000:100
 address-family ipv4
 exit-address-family
!
interface Ethernet0/1
 vrf forwarding A
 ip address 192.168.{number}.1 255.255.255.0
!
router bgp 65000
 no bgp default ipv4-unicast
 neighbor {hub} remote-as 65000
 neighbor {hub} update-source Tunnel0
 address-family vpnv4
  neighbor {hub} activate
  neighbor {hub} send-community both
 exit-address-family
 address-family ipv4 vrf A
  redistribute connected
 exit-address-family
!
"""

VPN_HUB = """
router bgp 65000
 bgp router-id 10.0.0.1
 no bgp default ipv4-unicast
 neighbor {spoke} remote-as 65000
 neighbor {spoke} update-source 10.0.0.1
 neighbor {spoke} passive
 address-family ipv4 vpn
  network 192.168.12.0/24 rd 65000:1 label 30
  neighbor {spoke} activate
  neighbor {spoke} route-map A out
 exit-address-family
!
route-map A permit 10
 set extcommunity rt 65000:100
"""


def redirect_with_label(source: str, destination: str) -> bytes:
    """What a hub of ours would say of a customer's packet that came under label 30."""
    body = bytes.fromhex("4500001c000000003f010000") + parse_address(source) + parse_address(destination)
    binding = MplsBinding(Role.INDICATION, ContextLabel(30, parse_address(overlay(HUB))))
    packet = Packet(
        Kind.TRAFFIC_INDICATION,
        parse_address(nbma(HUB)),
        parse_address(overlay(HUB)),
        parse_address(source),
        body=body,
        extensions=(mpls_extension(binding, b"\x02MF"),),
    )
    return encode(packet)


@pytest.mark.usefixtures("dmvpn")  # after it: the same routers, another network
def test_the_echo_of_our_label_in_nhrpd_s_reply_is_no_label(cloud: Nbma, routers: Nhrpds) -> None:
    """A VRF of ours has its route from the hub, with label 30; the far spoke knows nothing of labels, and answers from its only
    table. Its reply has our own extension in it: a shortcut by that would send one customer's packets to another."""
    number, hub = 16, routers[HUB]
    text = our_spoke(number, "mpls nhrp").replace(
        "interface Ethernet0/0", VPN.format(number=number, hub=overlay(HUB)) + "interface Ethernet0/0", 1
    )
    hub.speak_bgp(VPN_HUB.format(spoke=overlay(number)))
    with cloud.our_node(number, text) as node:
        until(lambda: hub.cached(overlay(number)) and hub.cached(overlay(THEIRS)), why=hub.log)
        node.until("show ip route vrf A", lambda rows: "192.168.12.0/24" in str(rows))
        since = cloud.mark()
        hub.send(number, redirect_with_label(f"192.168.{number}.10", "192.168.12.1"))
        (asked,) = until(lambda: cloud.nhrp(Kind.RESOLUTION_REQUEST, since=since, source=nbma(number)), why=hub.log)
        (reply,) = until(lambda: cloud.nhrp(Kind.RESOLUTION_REPLY, since=since, destination=nbma(number)), why=hub.log)
        echo = asked.nhrp.extension(ExtensionKind.VENDOR_PRIVATE)
        assert echo is not None
        assert reply.nhrp.extension(ExtensionKind.VENDOR_PRIVATE) == echo
        assert reply.nhrp.cies[0].code == CieCode.OK
        node.until("show ip nhrp counters", lambda value: "reply without a label" in str(value))
        assert overlay(THEIRS) not in str(node.show("show ip route vrf A"))
        assert "192.168.12.0/24" not in node.text("show ip nhrp vrf A")


@pytest.mark.usefixtures("dmvpn")  # after it: the same routers, another network
def test_without_a_key_and_with_a_password(cloud: Nbma, routers: Nhrpds) -> None:
    """nhrpd has no authentication, and repeats ours in its reply: that will do for the spoke."""
    routers.stop()
    number = 15
    with cloud.our_node(number, our_spoke(number, "ip nhrp authentication LETMEIN", key=None)) as node:
        routers[HUB].start((), key=None, hold=HOLD)
        until(lambda: " RE " in node.text("show ip nhrp nhs"), why=routers[HUB].log)
        assert routers[HUB].cached(overlay(number))
        (asked, *_) = cloud.nhrp(Kind.REGISTRATION_REQUEST, source=nbma(number))
        (reply, *_) = cloud.nhrp(Kind.REGISTRATION_REPLY, destination=nbma(number))
        for one in (asked, reply):
            password = one.nhrp.extension(ExtensionKind.AUTHENTICATION)
            assert password is not None
            assert (one.key, password.octets) == (None, b"\0\0\0\1LETMEIN")
