"""E04: a next hop behind a protected tunnel that cannot be sent to. BGP does not use nor advertise such a path (RFC 4271
9.1.2.1), yet routing keeps it: what is dropped there must not follow a less specific route, in clear (RFC 4301 5.1)."""

from __future__ import annotations

import pytest

from bgp.wire import IPV4_UNICAST, VPNV4
from stack.events import NextHopKey, NextHopRow, NextHopState
from tests.bgp.engine.rib_world import World, attributes, config, ip, redistribute

PREFIX = "172.20.0.0/16"
WHY = "no security association: peer is silent"


def answer(world: World, address: str, *, usable: bool = False, closed: bool = True, labelled: bool = False) -> None:
    key = NextHopKey("", ip(address), labelled=labelled)
    row = NextHopRow(usable, "" if usable else WHY, 0, "Tunnel5", world.hop_ids[key], closed and not usable)
    world.tell(NextHopState, {key: row})


def plain() -> World:
    """A route by 192.0.2.1, of a neighbour that is another one's route reflector's."""
    one = World()
    one.peer("192.0.2.1", families=(IPV4_UNICAST,)).announce(IPV4_UNICAST, PREFIX)
    one.peer("203.0.113.1", asn=65100, families=(IPV4_UNICAST,))
    return one


def told(world: World) -> set[str]:
    return set(world.peers["", ip("203.0.113.1")].received)


def test_E04_routing_keeps_the_route_and_nobody_is_told() -> None:
    one = plain()
    offered = one.routes()[PREFIX]
    assert told(one) == {PREFIX}
    answer(one, "192.0.2.1")
    assert one.routes()[PREFIX] == offered
    assert told(one) == set()
    answer(one, "192.0.2.1", usable=True)
    assert (one.routes()[PREFIX], told(one)) == (offered, {PREFIX})
    answer(one, "192.0.2.1", closed=False)
    assert (one.routes(), told(one)) == ({}, set()), "it is not there at all: as ever"


def test_E04_at_the_first_answer_too() -> None:
    one = World(answer_hops=False)
    one.peer("192.0.2.1", families=(IPV4_UNICAST,)).announce(IPV4_UNICAST, PREFIX)
    assert one.routes() == {}
    one.hop_ids[NextHopKey("", ip("192.0.2.1"))] = 4
    answer(one, "192.0.2.1")
    assert list(one.routes()) == [PREFIX]


def test_another_path_takes_over_and_gives_back() -> None:
    one = plain()
    other = one.peer("192.0.2.2", families=(IPV4_UNICAST,))
    other.announce(IPV4_UNICAST, PREFIX, attrs=attributes((), local_pref=50))
    answer(one, "192.0.2.1")
    assert [route.vias[0].address for route in one.routes().values()] == [ip("192.0.2.2")]
    assert told(one) == {PREFIX}
    other.withdraw(IPV4_UNICAST, PREFIX)
    assert [route.vias[0].address for route in one.routes().values()] == [ip("192.0.2.1")]
    assert told(one) == set()


def test_of_two_closed_ones_the_better() -> None:
    one = plain()
    one.peer("192.0.2.2", families=(IPV4_UNICAST,)).announce(IPV4_UNICAST, PREFIX, attrs=attributes((), local_pref=200))
    answer(one, "192.0.2.1")
    answer(one, "192.0.2.2")
    assert [route.vias[0].address for route in one.routes().values()] == [ip("192.0.2.2")]


@pytest.mark.parametrize("how", ["withdraw", "down"])
def test_a_route_that_is_withdrawn_goes(how: str) -> None:
    one = plain()
    answer(one, "192.0.2.1")
    peer = one.peers["", ip("192.0.2.1")]
    if how == "withdraw":
        peer.withdraw(IPV4_UNICAST, PREFIX)
    else:
        one.down(peer)
    assert one.routes() == {}
    assert not any(table.held or table._held_anew for table in one.ribs.tables.values())


def test_E04_in_a_vrf_and_it_is_not_exported_again() -> None:
    one = World(config=config(redistribute("connected", vrf="blue")))
    one.vrf("red", "9:1", imports=("1:1",), exports=("5:5",))
    peer = one.peer("192.0.2.1")
    peer.announce(VPNV4, "1:1 10.1.0.0/16", attrs=attributes((), ("1:1",)), label=18)
    customer = one.peer("10.0.1.1", asn=65201, vrf="red", families=(IPV4_UNICAST,), local="10.0.1.2")
    offered = one.routes("red")
    assert (set(offered), set(customer.received)) == ({"10.1.0.0/16"}, {"10.1.0.0/16"})
    answer(one, "192.0.2.1", labelled=True)
    assert (one.routes("red"), set(customer.received)) == (offered, set())
    [net] = one.ribs.tables["red", IPV4_UNICAST].nets.values()
    assert net.best is None
    answer(one, "192.0.2.1", usable=True, labelled=True)
    assert (one.routes("red"), set(customer.received)) == (offered, {"10.1.0.0/16"})
