"""The key log's share of ikev2: keys are said only if they are asked for, by both ends alike, and seen in no repr."""

from __future__ import annotations

from typing import Any

import pytest

from ikev2.engine.contract import Keyed
from ikev2.engine.sa import Settings
from tests.ikev2.pair import Pair, Side


def keyed(side: Side) -> list[Keyed]:
    return [said for said in side.said if isinstance(said, Keyed)]


def joined(**settings: Any) -> Pair:
    pair = Pair.of(settings=Settings(**settings))
    pair.a.initiate(pair.a.directory.children)
    pair.run()
    return pair


def test_without_a_key_log_no_key_is_said() -> None:
    pair = joined()
    pair.a.do("rekey", pair.now)
    pair.run()
    assert keyed(pair.a) == keyed(pair.b) == []


def test_both_ends_say_the_keys_of_an_ike_sa_as_soon_as_it_has_them_and_of_its_successor() -> None:
    #   HDR, SAi1, KEi, Ni           -->
    #                                <--  HDR, SAr1, KEr, Nr      both have keys, nobody has proved anything
    #   IKE_AUTH ... CREATE_CHILD_SA of an IKE SA: both have new ones
    pair = Pair.of(settings=Settings(key_log=True))
    pair.a.initiate(pair.a.directory.children)
    pair.deliver()
    (first,) = keyed(pair.b)
    assert keyed(pair.a) == []
    pair.deliver()
    assert [vars_of(each) for each in keyed(pair.a)] == [vars_of(first)]
    pair.run()
    pair.a.do("rekey", pair.now)
    pair.run()
    (one, two), (three, four) = keyed(pair.a), keyed(pair.b)
    assert vars_of(one) == vars_of(three) == vars_of(first)
    assert vars_of(two) == vars_of(four)
    assert two.keys.ei != one.keys.ei
    assert (two.initiator_spi, two.responder_spi) == (pair.a.current.spi_i, pair.a.current.spi_r)


@pytest.mark.parametrize("text", [repr, str])
def test_S03_no_repr_shows_them(text: Any) -> None:
    (said,) = keyed(joined(key_log=True).a)
    for key in (said.keys.ei, said.keys.er, said.keys.ai, said.keys.d):
        if key:
            assert key.hex() not in text(said)
            assert repr(key)[2:-1] not in text(said)


def vars_of(said: Keyed) -> tuple[Any, ...]:
    keys = said.keys
    return said.initiator_spi, said.responder_spi, said.suite, keys.ei, keys.er, keys.ai, keys.ar
