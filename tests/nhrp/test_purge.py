"""Purge requests: who may, what is dropped, and what is answered."""

from __future__ import annotations

import pytest
from attrs import evolve

from nhrp.config import NhrpFamily
from nhrp.engine.node import Arrival
from nhrp.engine.purge import MOST_CIES
from nhrp.wire import encode
from nhrp.wire.packet import Cie, ErrorCode, Extension, Flag, Kind, Packet
from stack.addr import Prefix
from tests.nhrp.stations import HUB, HUB_NBMA, NAME, OTHER, OTHER_NBMA, SPOKE, SPOKE_NBMA, Station, a

EMPTY = tuple(Extension(kind) for kind in (3, 4, 5))


def purge(prefix: str = SPOKE + "/32", overlay: str = SPOKE, nbma: str = SPOKE_NBMA, **changes: object) -> Packet:
    what = Prefix.parse(prefix)
    cie = Cie(prefix_length=what.length, protocol=what.network)
    return evolve(Packet(Kind.PURGE_REQUEST, a(nbma), a(overlay), a(HUB), 9, 0, (cie,), EMPTY), **changes)


def hub(family: NhrpFamily | None = None) -> Station:
    """With three spokes registered."""
    station = Station.of(HUB, HUB_NBMA, family)
    for overlay, nbma in ((SPOKE, SPOKE_NBMA), (OTHER, OTHER_NBMA)):
        station.bindings.register(NAME, a(overlay), a(nbma), 300)
    station.bindings.register(NAME, a("10.0.0.13"), a("192.0.2.13"), 300)
    return station


def left(station: Station) -> set[bytes]:
    return {entry.address for entry in station.bindings}


ALL = {a(SPOKE), a(OTHER), a("10.0.0.13")}


def test_rfc2332_5_2_5_purge_and_reply() -> None:
    # spoke                            hub
    #   Purge Request 10.0.0.11/32 ------>   gone
    #   <---------------- Purge Reply, the same packet
    station = hub()
    one = purge()
    station.receive(encode(one), SPOKE_NBMA)
    assert left(station) == ALL - {a(SPOKE)}
    reply = station.last()
    assert (reply.kind, reply.request_id, reply.cies) == (Kind.PURGE_REPLY, 9, one.cies)
    assert (reply.source, reply.destination) == (a(SPOKE), a(HUB))
    assert station.endpoints() == {a(OTHER): a(OTHER_NBMA), a("10.0.0.13"): a("192.0.2.13")}


def test_rfc2332_5_2_6_answered_also_when_nothing_matches() -> None:
    station = hub()
    station.receive(encode(purge("10.9.9.9/32")), SPOKE_NBMA)
    assert station.last().kind is Kind.PURGE_REPLY
    assert left(station) == ALL
    assert station.counted("purges that matched nothing") == 1


def test_rfc2332_5_2_5_with_N_no_reply() -> None:
    station = hub()
    station.receive(encode(purge(flags=Flag.NO_REPLY)), SPOKE_NBMA)
    assert left(station) == ALL - {a(SPOKE)}
    assert station.take() == []


@pytest.mark.parametrize("prefix", ["0.0.0.0/0", "10.0.0.0/24", SPOKE + "/32"])
def test_whoever_asks_drops_its_own_only(prefix: str) -> None:
    station = hub()
    station.receive(encode(purge(prefix)), SPOKE_NBMA)
    assert left(station) == ALL - {a(SPOKE)}


def test_another_s_entry_stays() -> None:
    station = hub()
    station.receive(encode(purge(OTHER + "/32")), SPOKE_NBMA)
    # Nor with the other's addresses in the packet: it is the outer source that counts.
    station.receive(encode(purge(OTHER + "/32", OTHER, OTHER_NBMA)), SPOKE_NBMA)
    assert left(station) == ALL


def test_N05_a_purge_by_an_address_that_is_assigned_to_another() -> None:
    station = hub()
    station.assign(SPOKE, SPOKE_NBMA)
    station.receive(encode(purge(overlay=SPOKE, nbma=OTHER_NBMA)), OTHER_NBMA)
    assert station.take() == []
    assert station.counted("refused: purge by an address that is assigned to another") == 1
    assert left(station) == ALL


def test_bare_entries_and_host_lengths() -> None:
    for length in (0, 32, 255):
        station = hub()
        station.receive(encode(purge(cies=(Cie(prefix_length=length),))), SPOKE_NBMA)
        assert left(station) == ALL - {a(SPOKE)}


def test_entries_of_one_request_are_bounded() -> None:
    station = hub()
    seen: list[Prefix] = []
    station.purges.resolutions.append(lambda arrival, prefix: seen.append(prefix) or 0)
    cies = tuple(Cie(prefix_length=32, protocol=number.to_bytes(4)) for number in range(1, 201))
    station.receive(encode(purge(cies=cies)), SPOKE_NBMA)
    assert len(seen) == MOST_CIES


def test_shortcuts_are_asked_too() -> None:
    station = hub()
    asked: list[tuple[bytes, Prefix]] = []

    def drop(arrival: Arrival, prefix: Prefix) -> int:
        asked.append((arrival.packet.source, prefix))
        return 2

    station.purges.resolutions.append(drop)
    station.receive(encode(purge("10.1.0.0/16")), SPOKE_NBMA)
    assert asked == [(a(SPOKE), Prefix.parse("10.1.0.0/16"))]
    assert station.counted("entries purged") == 1


def test_for_another_it_is_not_ours() -> None:
    station = hub()
    arrival = station.receive(encode(purge(destination=a(OTHER))), SPOKE_NBMA)
    assert station.purges.received(arrival) is False
    assert left(station) == ALL
    reply = station.receive(encode(purge(kind=Kind.PURGE_REPLY)), OTHER_NBMA)
    assert station.purges.received(reply) is False
    assert station.purges.received(evolve(reply, packet=evolve(reply.packet, source=a(HUB)))) is True


def test_rfc2332_5_3_unknown_compulsory_extension() -> None:
    station = hub()
    station.receive(encode(purge(extensions=(Extension(99),))), SPOKE_NBMA)
    assert station.last().code == ErrorCode.UNRECOGNIZED_EXTENSION
    assert left(station) == ALL
