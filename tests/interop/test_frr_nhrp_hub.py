"""Our node as the hub of FRR's nhrpd, and of a spoke of ours among them: registrations of others, and redirects.

    site 11 -- nhrpd 11 --.                .-- 1 = hub (ours)
    site 12 -- nhrpd 12 --- bridge = NBMA -- 13 (ours) -- host

A packet by way of the hub has one hop more than one that goes straight: its TTL says which way it came.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from nhrp.wire.codec import encode
from nhrp.wire.packet import Cie, CieCode, ErrorCode, Kind, Packet
from stack.addr import parse_address
from tests.conftest import require_root
from tests.interop.dmvpn import Nbma, Probe, clean, config, host_pings, nbma, overlay, until
from tests.interop.nhrpd import Nhrpd, Nhrpds
from tests.interop.nodes import Node

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

HUB, UNIQUE, PLAIN, OURS, STRANGER = 1, 11, 12, 13, 20
HOLD = 6
SITES = [(f"192.168.{number}.0 255.255.255.0", overlay(number)) for number in (UNIQUE, PLAIN, OURS)]

SPOKE = f"ip nhrp nhs {overlay(HUB)} nbma {nbma(HUB)}", "ip nhrp shortcut"
BY_THE_HUB = (("192.168.0.0/16", overlay(HUB)), ("10.0.0.0/24", overlay(HUB)))
PASSWORD = "ip nhrp authentication LETMEIN"


def hub_config(*more: str, key: int | None = 42) -> str:
    return config(HUB, lines=("ip nhrp redirect", *more), routes=SITES, key=key, hold=HOLD)


def spoke_config(*more: str) -> str:
    return config(OURS, lines=(*SPOKE, *more), routes=[("192.168.0.0 255.255.0.0", overlay(HUB))], hold=HOLD)


def start_theirs(routers: Nhrpds, *, key: int | None = 42) -> None:
    routers[UNIQUE].start(SPOKE, routes=BY_THE_HUB, key=key, hold=HOLD)
    routers[PLAIN].start((*SPOKE, "ip nhrp registration no-unique"), routes=BY_THE_HUB, key=key, hold=HOLD)


def registered(rows: Any, number: int, at: int | None = None) -> bool:
    """Whether a hub's `show ip nhrp` has a spoke, at the NBMA address of `at`."""
    return any(overlay(number) in str(row) and nbma(at or number) in str(row) for row in rows)


@frozen
class Dmvpn:
    cloud: Nbma
    routers: Nhrpds
    hub: Node
    spoke: Node
    far: dict[int, int]
    """TTL of an answer by the hub: to our spoke's host (from `PLAIN`), and from that host (`OURS`)."""

    def __getitem__(self, number: int) -> Nhrpd:
        return self.routers[number]

    def all_in(self, *numbers: int) -> None:
        self.hub.until("show ip nhrp", lambda rows: all(registered(rows, number) for number in numbers))

    def from_ours(self) -> list[int]:
        return host_pings(self.cloud.site(OURS)[1], "192.168.12.1")

    def until_direct_from_ours(self) -> None:
        until(lambda: self.from_ours() == [self.far[PLAIN] + 1], why=self[PLAIN].log)

    def registrations(self, number: int, *, since: int = 0) -> list[Any]:
        return self.cloud.nhrp(Kind.REGISTRATION_REQUEST, since=since, source=nbma(number))


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nbma]:
    require_root()
    with Nbma(tmp_path_factory.mktemp("nbma")) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def routers(cloud: Nbma) -> Iterator[Nhrpds]:
    with Nhrpds(cloud, cloud.folder, (UNIQUE, PLAIN)) as routers:
        yield routers


@pytest.fixture(scope="module")
def dmvpn(cloud: Nbma, routers: Nhrpds) -> Iterator[Dmvpn]:
    with ExitStack() as stack:
        nodes = cloud.our_node(HUB, hub_config()), cloud.our_node(OURS, spoke_config())
        for node in nodes:
            stack.callback(node.stop)
            node.launch()
        start_theirs(routers)
        for node in nodes:
            node.ready()
        dmvpn = Dmvpn(cloud, routers, *nodes, {})
        dmvpn.all_in(UNIQUE, PLAIN, OURS)
        (dmvpn.far[PLAIN],) = until(dmvpn.from_ours)
        (dmvpn.far[OURS],) = until(lambda: dmvpn[UNIQUE].pings("192.168.13.10"))
        yield dmvpn
    routers.stop()


def test_rfc2332_5_2_3_nhrpd_registers_with_us_and_refreshes_at_a_third(dmvpn: Dmvpn) -> None:
    until(lambda: min(len(dmvpn.registrations(number)) for number in (UNIQUE, PLAIN)) >= 4)
    for number, flag in ((UNIQUE, 0x8000), (PLAIN, 0)):
        assert dmvpn[number].registered()
        first, second = dmvpn.registrations(number)[2:4]
        assert (first.nhrp.flags & 0x8000, second.nhrp.flags & 0x8000) == (flag, flag)
        assert second.at - first.at == pytest.approx(HOLD / 3, abs=1.0)
        replies = dmvpn.cloud.nhrp(Kind.REGISTRATION_REPLY, source=nbma(HUB), destination=nbma(number))
        assert {reply.nhrp.cies[0].code for reply in replies} == {CieCode.OK}


def test_our_redirect_makes_the_way_between_nhrpds_direct(dmvpn: Dmvpn) -> None:
    cloud, since = dmvpn.cloud, dmvpn.cloud.mark()
    assert dmvpn[UNIQUE].pings("192.168.12.1") == [63]
    dmvpn[UNIQUE].until_ttl("192.168.12.1", 64)
    (told, *_) = cloud.nhrp(Kind.TRAFFIC_INDICATION, since=since, source=nbma(HUB), destination=nbma(UNIQUE))
    assert told.nhrp.destination == parse_address("192.168.11.1")
    assert told.nhrp.body[16:20] == parse_address("192.168.12.1")
    assert dmvpn[UNIQUE].shortcuts()["192.168.12.0/24"] == overlay(PLAIN)
    since = cloud.mark()
    assert dmvpn[UNIQUE].pings("192.168.12.1", count=3) == [64] * 3
    assert (len(cloud.data(UNIQUE, PLAIN, since=since)), len(cloud.data(PLAIN, UNIQUE, since=since))) == (3, 3)
    assert not cloud.data(UNIQUE, HUB, since=since)


def test_a_shortcut_between_nhrpd_and_ours_by_our_hub(dmvpn: Dmvpn) -> None:
    dmvpn.until_direct_from_ours()
    until(lambda: dmvpn[PLAIN].shortcuts().get("192.168.13.0/24") == overlay(OURS), why=dmvpn[PLAIN].log)
    # And begun by the other one.
    dmvpn[UNIQUE].until_ttl("192.168.13.10", dmvpn.far[OURS] + 1)
    since = dmvpn.cloud.mark()
    assert dmvpn[UNIQUE].pings("192.168.13.10", count=3) == [dmvpn.far[OURS] + 1] * 3
    assert len(dmvpn.cloud.data(UNIQUE, OURS, since=since)) == len(dmvpn.cloud.data(OURS, UNIQUE, since=since)) == 3


def stranger_registers(probe: Probe, number: int) -> int:
    """The hub's code for a registration of another's address."""
    asks = Packet(
        Kind.REGISTRATION_REQUEST,
        parse_address(nbma(STRANGER)),
        parse_address(overlay(number)),
        parse_address(overlay(HUB)),
        number,
        0x0002,
        (Cie(0, 32, 0, 60),),
        hop_count=1,
    )
    return probe.ask(HUB, encode(asks), Kind.REGISTRATION_REPLY).nhrp.cies[0].code


def test_N05_the_address_of_a_unique_nhrpd_is_taken_from_it_by_nobody(dmvpn: Dmvpn) -> None:
    with Probe(dmvpn.cloud, STRANGER) as probe:
        assert stranger_registers(probe, UNIQUE) == CieCode.UNIQUE_ALREADY_REGISTERED
        assert registered(dmvpn.hub.show("show ip nhrp"), UNIQUE)
        # With `no-unique` it moves, and moves back with nhrpd's next registration.
        assert stranger_registers(probe, PLAIN) == CieCode.OK
        assert registered(dmvpn.hub.show("show ip nhrp"), PLAIN, STRANGER)
        dmvpn.hub.until("show ip nhrp", lambda rows: registered(rows, PLAIN), within=HOLD)


def test_a_spoke_that_is_killed_is_forgotten_and_comes_back(dmvpn: Dmvpn) -> None:
    dmvpn[UNIQUE].kill()
    dmvpn.hub.until("show ip nhrp", lambda rows: not registered(rows, UNIQUE), within=3 * HOLD)
    dmvpn[UNIQUE].start(SPOKE, routes=BY_THE_HUB, hold=HOLD)
    dmvpn.all_in(UNIQUE)
    dmvpn[UNIQUE].until_ttl("192.168.12.1", 64)


def test_a_hub_that_is_killed_has_all_spokes_again_when_it_is_back(dmvpn: Dmvpn) -> None:
    """And a shortcut lasts meanwhile: its traffic needs no hub."""
    dmvpn[UNIQUE].until_ttl("192.168.12.1", 64)
    assert dmvpn.hub.process is not None
    dmvpn.hub.process.send_signal(signal.SIGKILL)
    dmvpn.hub.process.wait()
    assert dmvpn[UNIQUE].pings("192.168.12.1", count=3) == [64] * 3
    dmvpn.hub.start()
    dmvpn.all_in(UNIQUE, PLAIN, OURS)
    dmvpn.until_direct_from_ours()


def test_N02_nhrpd_without_the_password_is_refused_and_our_spoke_with_it_is_not(dmvpn: Dmvpn) -> None:
    """FRR 8.4 has no authentication at all."""
    cloud, since = dmvpn.cloud, dmvpn.cloud.mark()
    dmvpn.hub.configure(hub_config(PASSWORD))
    dmvpn.spoke.configure(spoke_config(PASSWORD))
    errors = until(lambda: cloud.nhrp(Kind.ERROR_INDICATION, since=since, source=nbma(HUB), destination=nbma(PLAIN)))
    assert errors[0].nhrp.code == ErrorCode.AUTHENTICATION_FAILURE
    assert not errors[0].nhrp.extensions
    gone = {UNIQUE, PLAIN}
    dmvpn.hub.until("show ip nhrp", lambda rows: not any(registered(rows, one) for one in gone), within=3 * HOLD)
    dmvpn.all_in(OURS)
    assert dmvpn[PLAIN].table("cache"), "nhrpd lives on"
    dmvpn.hub.configure(hub_config())
    dmvpn.spoke.configure(spoke_config())
    dmvpn.all_in(UNIQUE, PLAIN, OURS)


def test_without_a_key(dmvpn: Dmvpn) -> None:
    """The hub's tunnel has one no more, and the spokes follow."""
    since = dmvpn.cloud.mark()
    dmvpn.hub.configure(hub_config(key=None))
    start_theirs(dmvpn.routers, key=None)
    dmvpn.all_in(UNIQUE, PLAIN)
    dmvpn[UNIQUE].until_ttl("192.168.12.1", 64)
    told = dmvpn.cloud.nhrp(Kind.TRAFFIC_INDICATION, since=since, source=nbma(HUB), destination=nbma(UNIQUE))
    assert {one.key for one in told} == {None}


def test_tshark_finds_nothing_wrong_with_what_we_sent(dmvpn: Dmvpn, tmp_path: Path) -> None:
    kinds = clean(dmvpn.cloud.write(tmp_path / "hub.pcap", source=nbma(HUB)))
    assert {Kind.REGISTRATION_REPLY, Kind.TRAFFIC_INDICATION, Kind.ERROR_INDICATION, Kind.RESOLUTION_REQUEST} <= kinds
    clean(dmvpn.cloud.write(tmp_path / "spoke.pcap", source=nbma(OURS)))
