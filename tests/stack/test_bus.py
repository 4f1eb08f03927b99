"""The bus: state, facts, requests, and what a restart does to them."""

from __future__ import annotations

import asyncio

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from stack.bus import FACTS_BOUND, Bus, Mailbox, NoServer, Seat, SecondOwner, SecondServer, Undeclared
from stack.events import Delta, Fact, Owners, Request, Synced, Topic

COLOURS: Topic[str, int] = Topic("Colours", Owners.ONE, "name -> number")
OFFERS: Topic[str, int] = Topic("Offers", Owners.MANY, "name -> number")


@frozen
class Rang(Fact):
    number: int


@frozen
class Ask(Request[int]):
    of: str


def rows(mailbox: Mailbox, limit: int = 2_000) -> list[object]:
    return [message if isinstance(message, Fact | Synced) else dict(message.rows) for message in mailbox.take(limit)]


@pytest.fixture
def bus() -> Bus:
    return Bus()


def reader(bus: Bus, *kinds: object) -> Seat:
    seat = bus.attach("reader")
    seat.subscribe(*kinds)
    return seat


def test_state_arrives_in_batches_newest_wins(bus: Bus) -> None:
    owner, seat = bus.attach("owner"), reader(bus, COLOURS)
    owner.publish(COLOURS, {"red": 1, "blue": 2})
    owner.publish(COLOURS, {"red": 3})
    assert rows(seat.mailbox) == [{"red": 3, "blue": 2}]
    owner.publish(COLOURS, {"red": None})
    assert rows(seat.mailbox) == [{"red": None}]


def test_a_late_subscriber_gets_what_stands_and_then_synced(bus: Bus) -> None:
    owner = bus.attach("owner")
    owner.publish(COLOURS, {"red": 1})
    owner.synced(COLOURS)
    assert rows(reader(bus, COLOURS).mailbox) == [{"red": 1}, Synced(COLOURS, "owner", 1)]


def test_synced_never_overtakes_its_rows(bus: Bus) -> None:
    owner, seat = bus.attach("owner"), reader(bus, COLOURS)
    owner.publish(COLOURS, {str(n): n for n in range(10)})
    owner.synced(COLOURS)
    turns = []
    while len(seat.mailbox) or not turns or not isinstance(turns[-1], Synced):
        turns += rows(seat.mailbox, limit=4)
    assert [len(turn) for turn in turns[:-1]] == [4, 4, 2]


def test_the_publisher_keeps_its_mapping(bus: Bus) -> None:
    owner, seat = bus.attach("owner"), reader(bus, COLOURS)
    mine = {"red": 1}
    owner.publish(COLOURS, mine)
    mine["red"] = 2
    assert rows(seat.mailbox) == [{"red": 1}]


def test_S08_a_slow_subscriber_holds_at_most_the_table(bus: Bus) -> None:
    owner, seat = bus.attach("owner"), reader(bus, COLOURS)
    for round_ in range(1_000):
        owner.publish(COLOURS, {str(key): round_ for key in range(50)})
    assert len(seat.mailbox) == 50


def test_S08_facts_are_bounded_and_the_rest_counted(bus: Bus) -> None:
    poster, seat = bus.attach("poster"), reader(bus, Rang)
    for number in range(FACTS_BOUND + 7):
        poster.post(Rang(number))
    assert (len(seat.mailbox), seat.mailbox.dropped) == (FACTS_BOUND, 7)
    assert bus.dropped() == {"reader": 7}
    assert seat.mailbox.take(1) == [Rang(0)]


def test_rows_of_many_owners_are_kept_apart(bus: Bus) -> None:
    one, other, seat = bus.attach("one"), bus.attach("other"), reader(bus, OFFERS)
    one.publish(OFFERS, {"red": 1})
    other.publish(OFFERS, {"red": 2})
    found = {message.owner: message.rows for message in seat.mailbox.take() if isinstance(message, Delta)}
    assert found == {"one": {"red": 1}, "other": {"red": 2}}


def test_a_second_owner_of_a_single_owner_topic_is_refused(bus: Bus) -> None:
    bus.attach("one").publish(COLOURS, {"red": 1})
    with pytest.raises(SecondOwner, match="owned by one"):
        bus.attach("other").publish(COLOURS, {"red": 2})


def test_what_is_not_declared_is_refused(bus: Bus) -> None:
    seat = bus.attach("strict", produces=(), consumes=())
    with pytest.raises(Undeclared):
        seat.publish(COLOURS, {"red": 1})
    with pytest.raises(Undeclared):
        seat.post(Rang(1))
    with pytest.raises(Undeclared):
        seat.subscribe(COLOURS)


def test_S01_a_restarted_owner_keeps_its_rows_until_it_is_synced(bus: Bus) -> None:
    # owner 1: {red, blue}            reader: {red, blue}
    # owner 1 dies                    reader: nothing
    # owner 2: {blue}                 reader: {blue}
    # owner 2: synced                 reader: {red: withdrawn}, synced
    owner, seat = bus.attach("owner"), reader(bus, COLOURS)
    owner.publish(COLOURS, {"red": 1, "blue": 2})
    assert rows(seat.mailbox) == [{"red": 1, "blue": 2}]
    owner.close()
    again = bus.attach("owner", incarnation=2)
    assert bus.snapshot()[0].stale == 2
    assert rows(seat.mailbox) == []
    again.publish(COLOURS, {"blue": 2})
    assert rows(seat.mailbox) == [{"blue": 2}]
    again.synced(COLOURS)
    assert rows(seat.mailbox) == [{"red": None}, Synced(COLOURS, "owner", 2)]
    assert bus.rows(COLOURS) == {"owner": {"blue": 2}}


def test_S01_a_dead_seat_publishes_no_more(bus: Bus) -> None:
    owner = bus.attach("owner")
    owner.publish(COLOURS, {"red": 1})
    bus.attach("owner", incarnation=2)
    owner.publish(COLOURS, {"red": 9})
    assert bus.rows(COLOURS) == {"owner": {"red": 1}}


def test_an_owner_that_stays_away_is_swept(bus: Bus) -> None:
    owner, seat = bus.attach("owner"), reader(bus, COLOURS)
    owner.publish(COLOURS, {"red": 1})
    seat.mailbox.take()
    bus.sweep("owner")
    assert rows(seat.mailbox) == [{"red": None}]


def test_requests_have_one_server(bus: Bus) -> None:
    asker, server = bus.attach("asker"), bus.attach("server")
    with pytest.raises(NoServer):
        asker.ask(Ask("red"))
    server.serve(Ask, lambda request: len(request.of))
    assert asker.ask(Ask("red")) == 3
    with pytest.raises(SecondServer, match="answered by server"):
        bus.attach("other").serve(Ask, lambda _request: 0)
    server.close()
    with pytest.raises(NoServer):
        asker.ask(Ask("red"))


def test_an_embedder_listens() -> None:
    async def main() -> list[object]:
        bus = Bus()
        subscription = bus.subscribe(COLOURS, Rang, name="mine")
        bus.attach("owner").publish(COLOURS, {"red": 1})
        bus.post(Rang(5))
        found: list[object] = []
        async for message in subscription:
            found.append(message)
            if len(found) == 2:
                subscription.close()
                return found
        return found

    delta, fact = asyncio.run(main())
    assert isinstance(delta, Delta)
    assert delta.rows == {"red": 1}
    assert fact == Rang(5)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("publish"), st.dictionaries(st.sampled_from("abcde"), st.none() | st.integers(0, 3))),
            st.tuples(st.just("take"), st.integers(1, 4)),
            st.tuples(st.just("restart"), st.none()),
            st.tuples(st.just("synced"), st.none()),
        )
    )
)
def test_a_reader_ends_with_what_the_bus_holds(steps: list[tuple[str, object]]) -> None:
    bus, incarnation, mirror = Bus(), 1, {}
    owner = bus.attach("owner")
    seat = reader(bus, COLOURS)

    def take(limit: int) -> None:
        for message in seat.mailbox.take(limit):
            if isinstance(message, Delta):
                mirror.update(message.rows)

    for what, argument in steps:
        if what == "publish":
            owner.publish(COLOURS, argument)  # type: ignore[arg-type]
        elif what == "take":
            take(argument)  # type: ignore[arg-type]
        elif what == "restart":
            incarnation += 1
            owner = bus.attach("owner", incarnation=incarnation)
        else:
            owner.synced(COLOURS)
    owner.synced(COLOURS)
    while len(seat.mailbox):
        take(3)
    assert {key: row for key, row in mirror.items() if row is not None} == bus.rows(COLOURS).get("owner", {})
