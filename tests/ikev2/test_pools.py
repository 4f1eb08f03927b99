"""Leases: an identity finds its address again; an address has one holder at a time; memory is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikev2.config import IpPool
from ikev2.engine import pools as module
from ikev2.engine.pools import Pool, Pools
from stack.addr import parse_address


def pool(first: str = "10.0.0.1", last: str = "10.0.0.4", name: str = "P") -> Pool:
    return Pool(IpPool(name, parse_address(first), parse_address(last)))


def lease(pool: Pool, who: str, user: int, now: float = 0.0, wish: str = "") -> str | None:
    address = pool.lease(who.encode(), who, user, now, wish=parse_address(wish) if wish else b"")
    return None if address is None else ".".join(map(str, address))


def test_addresses_in_order_then_none() -> None:
    p = pool()
    assert [lease(p, who, n) for n, who in enumerate("abcd", 1)] == [f"10.0.0.{n}" for n in range(1, 5)]
    assert lease(p, "e", 9) is None
    assert (p.snapshot().size, p.snapshot().used, p.snapshot().free) == (4, 4, 0)


def test_a_lease_survives_its_holders_absence() -> None:
    p = pool()
    assert lease(p, "a", 1) == "10.0.0.1"
    assert lease(p, "b", 2) == "10.0.0.2"
    p.release(1, parse_address("10.0.0.1"), 5.0)
    assert p.snapshot().used == 1
    # somebody new gets what nobody had, as long as there is any
    assert lease(p, "c", 3) == "10.0.0.3"
    assert lease(p, "a", 4) == "10.0.0.1"


def test_when_exhausted_the_longest_unused_goes() -> None:
    p = pool()
    for number, who in enumerate("abcd", 1):
        lease(p, who, number)
    p.release(3, parse_address("10.0.0.3"), 10.0)
    p.release(1, parse_address("10.0.0.1"), 20.0)
    assert lease(p, "e", 5) == "10.0.0.3"
    assert lease(p, "f", 6) == "10.0.0.1"
    assert lease(p, "a", 7) is None


def test_two_sas_of_one_identity_share_it_until_the_last_ends() -> None:
    p = pool()
    assert lease(p, "a", 1) == lease(p, "a", 2) == "10.0.0.1"
    p.release(1, parse_address("10.0.0.1"), 1.0)
    assert p.snapshot().used == 1
    p.release(2, parse_address("10.0.0.1"), 2.0)
    p.release(2, parse_address("10.0.0.1"), 3.0)
    assert p.snapshot().used == 0


def test_a_wish_is_met_if_it_is_free_and_inside() -> None:
    p = pool()
    assert lease(p, "a", 1, wish="10.0.0.3") == "10.0.0.3"
    assert lease(p, "b", 2, wish="10.0.0.3") == "10.0.0.1"
    assert lease(p, "c", 3, wish="192.0.2.1") == "10.0.0.2"
    assert lease(p, "d", 4) == "10.0.0.4"


def test_only_who_uses_it_can_release_it() -> None:
    p = pool()
    lease(p, "a", 1)
    p.release(2, parse_address("10.0.0.1"), 1.0)
    p.release(1, parse_address("10.0.0.2"), 1.0)
    assert p.snapshot().used == 1


def test_memory_of_absent_holders_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 3)
    p = pool(last="10.0.0.200")
    for number in range(1, 101):
        address = p.lease(b"%d" % number, str(number), number, float(number))
        assert address is not None
        p.release(number, address, float(number))
    assert len(p.snapshot().leases) == 3
    assert len({lease.address for lease in p.leases()}) == 3
    # and the addresses of the forgotten are not lost
    assert len({p.lease(b"x%d" % n, "x", 1000 + n, 0.0) for n in range(200)}) == 200


@pytest.mark.parametrize(("first", "last"), [("10.0.0.5", "10.0.0.4"), ("10.0.0.9", "10.0.0.1")])
def test_an_empty_range_gives_nothing(first: str, last: str) -> None:
    assert lease(pool(first, last), "a", 1) is None


def test_a_huge_range_is_used_up_to_a_bound() -> None:
    p = pool("10.0.0.0", "10.255.255.255")
    assert p.size == module.MAX_POOL
    assert not p.contains(parse_address("10.2.0.0"))


def test_ipv6() -> None:
    p = pool("2001:db8::1", "2001:db8::2")
    assert p.lease(b"a", "a", 1, 0.0) == parse_address("2001:db8::1")


def test_reconfiguration_keeps_what_fits() -> None:
    pools = Pools()
    pools.configure({"P": IpPool("P", parse_address("10.0.0.1"), parse_address("10.0.0.9"))})
    first = pools.get("P")
    assert first is not None
    lease(first, "a", 1, wish="10.0.0.2")
    lease(first, "b", 2, wish="10.0.0.8")
    pools.configure({"P": IpPool("P", parse_address("10.0.0.1"), parse_address("10.0.0.4"))})
    second = pools.get("P")
    assert second is not None
    # in use outside the new range: until it is given back
    assert [(lease.text, lease.users) for lease in second.leases()] == [("a", {1}), ("b", {2})]
    pools.release(2, "P", parse_address("10.0.0.8"), 0.0)
    assert [(lease.text, lease.users) for lease in second.leases()] == [("a", {1})]
    pools.configure({})
    assert pools.get("P") is None
    pools.release(1, "P", parse_address("10.0.0.2"), 0.0)


@pytest.mark.parametrize(
    "between", [{}, {"P": IpPool("P", parse_address("10.0.0.5"), parse_address("10.0.0.9"))}], ids=["gone", "smaller"]
)
def test_an_address_in_use_is_nobody_else_s_when_its_pool_comes_back(between: dict[str, IpPool]) -> None:
    pools, whole = Pools(), {"P": IpPool("P", parse_address("10.0.0.1"), parse_address("10.0.0.9"))}
    pools.configure(whole)
    found = pools.get("P")
    assert found is not None
    assert lease(found, "a", 1) == "10.0.0.1"
    pools.configure(between)
    pools.configure(whole)
    found = pools.get("P")
    assert found is not None
    assert lease(found, "b", 2) == "10.0.0.2"
    assert lease(found, "a", 3) == "10.0.0.1"
    # what is gone is let go of with its last user
    pools.configure({})
    for user, address in ((1, "10.0.0.1"), (2, "10.0.0.2"), (3, "10.0.0.1")):
        pools.release(user, "P", parse_address(address), 0.0)
    pools.configure(whole)
    assert not list(pools.leases())


def test_restored_leases_are_their_holders() -> None:
    pools = Pools()
    pools.configure({"P": IpPool("P", parse_address("10.0.0.1"), parse_address("10.0.0.2"))})
    pools.restore([("P", parse_address("10.0.0.2"), b"a", "a", 1.0), ("gone", b"\n\0\0\1", b"x", "x", 1.0)])
    found = pools.get("P")
    assert found is not None
    assert lease(found, "b", 1) == "10.0.0.1"
    assert lease(found, "a", 2) == "10.0.0.2"


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=80))
def test_no_address_is_ever_two_holders(steps: list[tuple[str, bool]]) -> None:
    p = pool()
    held: dict[str, bytes] = {}
    for now, (who, take) in enumerate(steps):
        if take:
            address = p.lease(who.encode(), who, ord(who), float(now))
            if address is None:
                assert len(held) == 4
            else:
                held[who] = address
        elif who in held:
            p.release(ord(who), held.pop(who), float(now))
        assert len(set(held.values())) == len(held)
        assert p.snapshot().used == len(held)
