"""The wiring check: services that do not fit together are refused before they start."""

from __future__ import annotations

import pytest

from stack.events import (
    AdjacencyState,
    Hairpin,
    LabelBound,
    LabelWanted,
    Request,
    RouteOffered,
    RouteSelected,
    VrfState,
)
from stack.registry import ServiceSpec
from stack.router import NODE
from stack.wiring import WiringError, check_wiring


class Ask(Request[int]):
    pass


def spec(name: str, **named: object) -> ServiceSpec:
    sets = {key: frozenset(value) for key, value in named.items()}  # type: ignore[call-overload]
    return ServiceSpec(name, factory=lambda _config, _context: None, **sets)  # type: ignore[arg-type,return-value]


def faults(*specs: ServiceSpec) -> tuple[str, ...]:
    with pytest.raises(WiringError) as caught:
        check_wiring(specs, NODE)
    return caught.value.faults


def test_services_that_fit_pass() -> None:
    check_wiring(
        [
            spec("mfi", produces=[LabelBound], consumes=[LabelWanted, VrfState], writes=["lfib"], serves=[Ask]),
            spec("bgp", produces=[LabelWanted], consumes=[LabelBound], asks=[Ask]),
        ],
        NODE,
    )


def test_a_second_owner_of_a_single_owner_topic() -> None:
    assert faults(spec("one", produces=[LabelBound]), spec("two", produces=[LabelBound])) == (
        "LabelBound has one owner, and one and two both publish it",
    )


def test_many_owners_where_many_are_meant() -> None:
    check_wiring([spec("one", produces=[RouteOffered]), spec("two", produces=[RouteOffered])], NODE)


def test_a_topic_of_the_router_is_not_anybody_elses() -> None:
    assert "VrfState has one owner" in faults(spec("one", produces=[VrfState]))[0]


def test_a_subscription_that_nobody_can_feed() -> None:
    assert faults(spec("one", consumes=[RouteSelected, Hairpin])) == (
        "one reads Hairpin, and nobody publishes it",
        "one reads RouteSelected, and nobody publishes it",
    )


def test_a_subscription_may_be_optional() -> None:
    check_wiring([spec("one", consumes=[Hairpin], optional=[Hairpin])], NODE)


def test_a_second_server_and_an_unanswered_question() -> None:
    assert faults(spec("one", serves=[Ask]), spec("two", serves=[Ask])) == (
        "Ask has one server, and one and two both answer it",
    )
    assert faults(spec("one", asks=[Ask])) == ("one asks Ask, and nobody answers it",)


def test_a_second_writer_and_a_table_that_does_not_exist() -> None:
    assert faults(spec("one", writes=["lfib"]), spec("two", writes=["lfib"])) == (
        "table lfib has one writer, and one and two both write it",
    )
    assert faults(spec("one", writes=["nosuch"])) == ("one writes table nosuch, which does not exist",)


def test_two_services_of_one_name() -> None:
    assert faults(spec("one", produces=[AdjacencyState]), spec("one")) == ("two services are called one",)
