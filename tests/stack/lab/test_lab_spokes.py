"""Checks of hub and spokes against a testbed that is made up."""

from __future__ import annotations

from typing import Any

import pytest

from stack.lab.testbed import Answer
from tests.stack.lab.test_lab_checks import REPLY, TIMEOUT, FakeTestbed, check, green, red
from tests.stack.lab.test_lab_frames import OUT, frame, v4

HUB, FAR = "core", "192.168.114.1"
BY_HUB = Answer("time-exceeded", FAR)
SEALED = frame(0x0800, v4(bytes(40), 50, OUT))
WORDS: dict[str, Any] = {"host": "red1", "to": "10.1.2.10", "ttl": 3, "far": FAR}


class Spokes(FakeTestbed):
    """The first `by_hub` echoes pass the hub, which leaves `marks` sealed packets on its link; the others `straight` ones."""

    def __init__(self, by_hub: int, marks: int = 2, straight: int = 0) -> None:
        super().__init__()
        self.sent = 0
        self.links[HUB] = []

        def answer(_host: str, _to: str, ttl: int) -> Answer:
            self.sent += 1
            passes = self.sent <= by_hub
            self.links[HUB] += [SEALED] * (marks if passes else straight)
            return BY_HUB if passes and ttl == 3 else REPLY

        self.pings = answer


def test_the_first_packets_pass_the_hub_and_the_next_go_straight() -> None:
    green(check(Spokes(4), "shortcut", link=HUB, **WORDS), "packets 1-4 by the hub, from 5 on straight")


@pytest.mark.parametrize(
    ("bed", "seen"),
    [
        (Spokes(0), "the first packet went straight already"),
        (Spokes(3, marks=0), f"packet 1 ended at {FAR}, and yet did not pass the hub"),
        (Spokes(2, straight=2), "10 packets crossed the hub's link while 5 echoes went straight"),
    ],
)
def test_what_is_no_shortcut(bed: Spokes, seen: str) -> None:
    red(check(bed, "shortcut", link=HUB, **WORDS), seen)


def test_packets_that_stay_on_the_hub() -> None:
    row = check(Spokes(10_000), "shortcut", link=HUB, **WORDS)
    assert not row.ok
    assert row.seen.endswith(" packets, all by the hub")


def test_a_packet_that_is_lost_is_no_packet_by_the_hub() -> None:
    bed = FakeTestbed()
    bed.pings = lambda *_: TIMEOUT
    red(check(bed, "shortcut", link=HUB, **WORDS), "packet 1: timeout")


GONE = ["pe1", "show ip nhrp", r"^192\.168\.114\.0/24"]


def test_an_idle_shortcut_goes_and_the_next_packet_passes_the_hub() -> None:
    bed = Spokes(1)
    bed.shows = lambda _node, _command: "192.168.114.0/24 via 10.0.0.12" if bed.time < 2.0 else ""
    row = check(bed, "idle", within=5.0, gone=[GONE], **WORDS)
    assert row.ok
    assert row.seen.endswith("the next packet goes by the hub")
    assert row.seconds >= 2.0


def test_a_shortcut_that_stays_is_named() -> None:
    bed = Spokes(1)
    bed.shows = lambda _node, _command: "192.168.114.0/24 via 10.0.0.12"
    red(check(bed, "idle", gone=[GONE], **WORDS), "pe1: show ip nhrp: still '192.168.114.0/24'")


def test_after_idling_no_packet_may_be_lost_or_go_straight() -> None:
    bed = Spokes(0)
    red(check(bed, "idle", gone=[], **WORDS), "the next packet: reply from 10.1.2.10, the way by the hub wanted")
    bed = Spokes(1)
    answers = iter([BY_HUB, TIMEOUT])
    bed.pings = lambda *_: next(answers)
    red(check(bed, "idle", gone=[], **WORDS), "the packet after the next: timeout")


def test_what_a_node_shows() -> None:
    bed = FakeTestbed()
    bed.shows = lambda _node, command: f"{command}:\n  label 19  label   implicit-null\n"
    looks = [["pe1", "show x", "show x"], ["pe2", "show y", r"^  label 19 +(label +implicit-null)$"]]
    green(check(bed, "shows", looks=looks), "label implicit-null")
    red(check(bed, "shows", looks=[["pe1", "show x", "label 20"]]), "pe1: show x: nothing like 'label 20'")


def test_how_long_a_shortcut_has_taken() -> None:
    bed = FakeTestbed()
    rows = {
        "near": [{"vrf": "red", "prefix": "10.1.2.0/24", "took-seconds": 0.0315, "tunnel-seconds": None}],
        "far": [],
    }
    bed.shows = lambda node, _command: rows[node]
    words = {"near": "near", "far": "far", "vrf": "red", "prefix": "10.1.2.0/24"}
    red(check(bed, "took", **words), "far does not know how long 10.1.2.0/24 has taken")
    rows["far"] = [{"vrf": "red", "prefix": "10.1.2.0/24", "took-seconds": 0.028, "tunnel-seconds": 0.0275}]
    green(check(bed, "took", **words), "31.5 ms: 27.5 for the tunnel and its keys, 4.0 for all else")
    red(check(bed, "took", **{**words, "vrf": "blue"}), "near does not know how long 10.1.2.0/24 has taken")
