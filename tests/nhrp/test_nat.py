"""Cisco's NAT address extension, and stations behind one NAT."""

from __future__ import annotations

import pytest
from attrs import evolve

from nhrp.engine import nat
from nhrp.wire import cie_extension, cies_of, encode
from nhrp.wire.packet import Cie, Extension, ExtensionKind, Flag, Kind, Packet
from tests.nhrp.stations import HUB, HUB_NBMA, NAME, OTHER, SPOKE, Station, a

NAT = ExtensionKind.NAT_ADDRESS
INSIDE, OUTSIDE = "10.1.1.11", "198.51.100.7"
SERVER = Cie(prefix_length=32, nbma=a(HUB_NBMA), protocol=a(HUB))


def request(extension: Extension | None, nbma: str = INSIDE, overlay: str = SPOKE) -> Packet:
    cies = (Cie(prefix_length=255, holding_time=300),)
    extensions = (extension,) if extension is not None else ()
    return Packet(Kind.REGISTRATION_REQUEST, a(nbma), a(overlay), a(HUB), 1, Flag.NAT, cies, extensions)


def answer(extension: Extension | None, outer: str = OUTSIDE) -> Packet:
    hub = Station.of(HUB, HUB_NBMA)
    hub.receive(encode(request(extension)), outer)
    return hub.last()


def test_nat_the_server_adds_what_it_sees() -> None:
    reply = answer(cie_extension(NAT, (SERVER,)))
    assert cies_of(reply.extension(NAT), reply) == (
        SERVER,
        Cie(prefix_length=32, nbma=a(OUTSIDE), protocol=a(SPOKE)),
    )
    assert not reply.extension(NAT).compulsory
    assert nat.public_of(reply) == a(OUTSIDE)


def test_nat_without_one_the_extension_comes_back_as_it_was() -> None:
    reply = answer(cie_extension(NAT, (SERVER,)), outer=INSIDE)
    assert cies_of(reply.extension(NAT), reply) == (SERVER,)
    assert nat.public_of(reply) == b""


def test_nat_without_the_extension_the_outer_source_counts() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    hub.receive(encode(request(None)), OUTSIDE)
    reply = hub.last()
    assert reply.extension(NAT) is None
    assert hub.endpoints() == {a(SPOKE): a(OUTSIDE)}


def test_rfc2735_device_capabilities_are_no_nat_addresses() -> None:
    reply = answer(Extension(NAT, bytes(8), compulsory=False))
    assert reply.extension(NAT) is None
    assert nat.nat_cies(request(Extension(NAT, bytes(8), compulsory=False))) is None


def test_an_extension_that_cannot_be_read_is_none() -> None:
    assert nat.nat_cies(request(Extension(NAT, b"\0" * 13, compulsory=False))) is None
    assert answer(Extension(NAT, b"\0" * 13, compulsory=False)).kind is Kind.REGISTRATION_REPLY


def test_a_client_cannot_make_the_list_grow() -> None:
    reply = answer(cie_extension(NAT, (SERVER,) * 10))
    assert len(cies_of(reply.extension(NAT), reply)) == 2


# --- resolutions that are passed on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", [True, False])
def test_nat_a_transit_fills_an_empty_extension(behind: bool) -> None:
    # spoke ---[NAT]--- hub: the request's empty extension gets the spoke's public address
    hub = Station.of(HUB, HUB_NBMA)
    hub.receive(encode(request(None)), OUTSIDE if behind else INSIDE)
    empty = Extension(NAT, compulsory=False)
    asked = Packet(Kind.RESOLUTION_REQUEST, a(INSIDE), a(SPOKE), a(OTHER), 2, cies=(Cie(),), extensions=(empty,))
    filled = nat.fill(asked, asked.source, hub.bindings, NAME)
    expected = (Cie(prefix_length=32, nbma=a(OUTSIDE), protocol=a(SPOKE)),) if behind else ()
    assert cies_of(filled.extension(NAT), filled) == expected


def test_nat_what_is_filled_stays() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    hub.receive(encode(request(None)), OUTSIDE)
    full = cie_extension(NAT, (SERVER,))
    asked = Packet(Kind.RESOLUTION_REQUEST, a(INSIDE), a(SPOKE), a(OTHER), 2, cies=(Cie(),), extensions=(full,))
    assert nat.fill(asked, asked.source, hub.bindings, NAME) is asked
    bare = evolve(asked, extensions=())
    assert nat.fill(bare, asked.source, hub.bindings, NAME) is bare
    assert (
        nat.fill(evolve(asked, extensions=(Extension(NAT),)), a(OTHER), hub.bindings, NAME).extension(NAT).octets == b""
    )


def test_nat_two_behind_one_are_two_entries() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    hub.receive(encode(request(None)), OUTSIDE)
    hub.receive(encode(request(None, "10.1.1.12", OTHER)), OUTSIDE)
    assert {one.address: (one.nbma, one.claimed) for one in hub.bindings} == {
        a(SPOKE): (a(OUTSIDE), a(INSIDE)),
        a(OTHER): (a(OUTSIDE), a("10.1.1.12")),
    }


def test_nat_behind_one_nobody_takes_a_neighbour_s_unique_address() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    unique = evolve(request(None), flags=Flag.NAT | Flag.UNIQUE_REGISTRATION)
    hub.receive(encode(unique), OUTSIDE)
    hub.receive(encode(evolve(unique, source_nbma=a("10.1.1.12"))), OUTSIDE)
    assert [one.cies[0].code for one in hub.take()] == [0, 14]


def test_nat_nobody_purges_a_neighbour_s_entry() -> None:
    hub = Station.of(HUB, HUB_NBMA)
    hub.receive(encode(request(None)), OUTSIDE)
    cie = Cie(prefix_length=32, protocol=a(SPOKE))
    purge = Packet(Kind.PURGE_REQUEST, a("10.1.1.12"), a(OTHER), a(HUB), 3, Flag.NO_REPLY, (cie,))
    hub.receive(encode(purge), OUTSIDE)
    assert len(hub.bindings) == 1
    hub.receive(encode(evolve(purge, source_nbma=a(INSIDE), source=a(SPOKE))), OUTSIDE)
    assert len(hub.bindings) == 0
