"""The recorder: one more subscriber, which waits for what a test expects and says what came instead."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from attrs import frozen

from stack.bus import Bus
from stack.events import Fact, Owners, ServiceUp, Synced, Topic
from stack.testing import Recorder, run

Colour: Topic[str, int] = Topic("Colour", Owners.MANY, "name -> shade")


@frozen
class Painted(Fact):
    name: str


def test_rows_facts_and_waiting() -> None:
    async def body() -> None:
        bus = Bus()
        painter, other = bus.attach("painter"), bus.attach("other")
        painter.publish(Colour, {"red": 1, "blue": 2})
        recorder = Recorder(bus, (Colour, Painted))
        await recorder.until(lambda r: "red" in r.rows(Colour))
        loop = asyncio.get_running_loop()
        loop.call_later(5, painter.publish, Colour, {"red": None, "blue": 3})
        loop.call_later(6, painter.synced, Colour)
        loop.call_later(7, other.publish, Colour, {"green": 9}, "walls")
        loop.call_later(8, painter.post, Painted("door"))
        loop.call_later(9, painter.post, Painted("wall"))
        loop.call_later(9, painter.post, ServiceUp("painter", 1))
        await recorder.until(lambda r: "red" not in r.rows(Colour), timeout=10)
        assert loop.time() == 5
        assert recorder.rows(Colour, owner="painter") == {"blue": 3}
        assert recorder.rows(Colour, owner="other") == {}
        assert await recorder.until_fact(Painted, lambda fact: fact.name == "wall") == Painted("wall")
        assert loop.time() == 9
        assert await recorder.until_fact(Painted) == Painted("door")
        assert recorder.facts(Painted) == [Painted("door"), Painted("wall")]
        assert recorder.facts(ServiceUp) == []
        assert recorder.rows(Colour, "walls", owner="other") == {"green": 9}
        assert recorder.deltas(Colour)[0].rows == {"red": 1, "blue": 2}
        assert any(isinstance(message, Synced) for _, message in recorder.messages)
        assert [time for time, _ in recorder.messages] == sorted(time for time, _ in recorder.messages)
        recorder.clear()
        assert not recorder.messages
        assert recorder.rows(Colour) == {"blue": 3}
        recorder.close()
        painter.post(Painted("roof"))
        await asyncio.sleep(1)
        assert not recorder.messages

    run(body())


def test_waiting_in_vain_says_what_came() -> None:
    async def body() -> None:
        bus = Bus()
        seat = bus.attach("painter")
        recorder = Recorder(bus, (Colour, Painted), kept=5)
        for number in range(5):
            seat.post(Painted(str(number)))
        await asyncio.sleep(1)
        seat.publish(Colour, {"red": 1})
        with pytest.raises(
            TimeoutError, match=r"(?s)within 30 s.*name='4'.*1\.0+ Colour of painter '': 1 rows"
        ) as caught:
            await recorder.until_fact(Painted, lambda fact: fact.name == "never", timeout=30)
        assert len(recorder.messages) == 5
        assert "name='0'" not in str(caught.value)

    run(body())


def test_importing_the_package_imports_no_asyncio() -> None:
    code = "import stack.testing, sys; sys.exit('asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    import stack.testing

    assert all(getattr(stack.testing, name) for name in stack.testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        stack.testing.nothing  # noqa: B018
