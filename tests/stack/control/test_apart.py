"""Work on a forked copy: what it costs the original, and what ends it. And the control socket that answers so."""

from __future__ import annotations

import asyncio
import mmap
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stack import apart as module
from stack.apart import apart
from stack.control import ControlServer, request
from stack.ios.command import CommandError, Shown
from tests.stack.control.test_control import FakeRouter

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def go(request: pytest.FixtureRequest) -> Callable[[Awaitable[Any]], Any]:
    def run(work: Awaitable[Any]) -> Any:
        async def within() -> Any:
            async with asyncio.timeout(20):
                return await work

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(within())

    return run


async def collected(work: Callable[[], bytes], *, within: float = 10.0) -> bytes:
    async with aclosing(apart(work, within=within)) as pieces:
        return b"".join([piece async for piece in pieces])


def no_child_is_left() -> None:
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_copy_sees_what_there_is_and_changes_nothing(go: Any) -> None:
    table = {n: str(n) for n in range(1000)}

    def work() -> bytes:
        found = ",".join(table.values()).encode()
        table.clear()
        return found

    assert go(collected(work)) == ",".join(map(str, range(1000))).encode()
    assert len(table) == 1000
    no_child_is_left()


def test_much_comes_in_pieces(go: Any) -> None:
    octets = bytes(range(256)) * 8192

    async def sizes() -> list[int]:
        async with aclosing(apart(lambda: octets, within=10)) as pieces:
            return [len(piece) async for piece in pieces]

    found = go(sizes())
    assert sum(found) == len(octets)
    assert max(found) <= module.CHUNK
    assert len(found) > 1


def test_the_loop_goes_on_meanwhile(go: Any) -> None:
    # The child waits for what only the original's event loop can do.
    flag = mmap.mmap(-1, 1)

    def work() -> bytes:
        while flag[0] == 0:
            pass
        return b"seen"

    async def both() -> bytes:
        task = asyncio.ensure_future(collected(work))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        flag[0] = 1
        return await task

    assert go(both()) == b"seen"


def test_what_raises_gives_nothing_and_is_printed(go: Any, capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> bytes:
        raise ZeroDivisionError("a table with a hole")

    assert go(collected(work)) == b""
    assert "a table with a hole" in capfd.readouterr().err
    no_child_is_left()


def test_who_takes_too_long_is_ended(go: Any) -> None:
    def work() -> bytes:
        while True:
            pass

    with pytest.raises(TimeoutError):
        go(collected(work, within=0.05))
    no_child_is_left()


def test_who_is_not_listened_to_is_ended(go: Any) -> None:
    async def part() -> bytes:
        async with aclosing(apart(lambda: bytes(16 << 20), within=10)) as pieces:
            async for piece in pieces:
                return piece
        return b""

    assert go(part())
    no_child_is_left()


def test_the_copy_holds_no_socket_of_the_original(go: Any) -> None:
    # Else a connection that the original closes would live as long as the copy.
    flag, (near, far) = mmap.mmap(-1, 1), socket.socketpair()

    def work() -> bytes:
        flag[0] = 1
        while flag[0] == 1:
            pass
        return b"done"

    async def both() -> bytes:
        task = asyncio.ensure_future(collected(work))
        while flag[0] == 0:  # noqa: ASYNC110  (no event crosses from one process to another)
            await asyncio.sleep(0)
        far.close()
        near.setblocking(False)
        assert near.recv(1) == b""  # BlockingIOError if the copy had it open
        flag[0] = 2
        return await task

    assert go(both()) == b"done"
    near.close()


def test_without_children_it_says_so(go: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "fork", refused)
    with pytest.raises(BlockingIOError):
        go(collected(lambda: b""))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- the control socket ---------------------------------------------------------------------------------------------------


class Showing(FakeRouter):
    """`execute` notes whether it ran in this process or in a copy."""

    def __init__(self) -> None:
        super().__init__()
        self.warned: list[str] = []
        self.home = os.getpid()

    def exception(self, event: str, **fields: Any) -> None:
        """What the copy says goes to its standard error in a node."""

    def warning(self, event: str, **fields: Any) -> None:
        self.warned.append(f"{event}: {fields['reason']}")

    def only_shows(self, line: str) -> bool:
        if line == "nonsense":
            raise CommandError("there is no such command")
        return line.startswith("show ")

    def execute(self, line: str) -> Shown:
        if line in ("show home", "clear home"):
            return Shown("here" if os.getpid() == self.home else "in a copy")
        if line == "show death":
            os._exit(1)
        return super().execute(line)


def served(tmp_path: Path, go: Any, *commands: str) -> tuple[list[dict[str, Any]], Showing]:
    async def main() -> tuple[list[dict[str, Any]], Showing]:
        router = Showing()
        router.log = router  # type: ignore[assignment]  # it warns as well
        server = ControlServer(router, tmp_path / "n.sock", apart=True)  # type: ignore[arg-type]
        await server.start()
        try:
            return await request(server.path, list(commands)), router
        finally:
            await server.stop()

    found: tuple[list[dict[str, Any]], Showing] = go(main())
    no_child_is_left()
    return found


def test_S09_what_only_shows_runs_in_a_copy_and_nothing_else_does(tmp_path: Path, go: Any) -> None:
    replies, _ = served(tmp_path, go, "show home", "clear home", "show clock", "nonsense")
    assert [reply.get("text", reply.get("error")) for reply in replies] == [
        "in a copy",
        "here",
        "12:00 ä\n",
        "there is no command 'nonsense'",
    ]


def test_S09_a_long_answer_arrives_whole_and_a_copy_that_dies_is_told(tmp_path: Path, go: Any) -> None:
    big, death, broken, clock = served(tmp_path, go, "show big", "show death", "show unprintable", "show clock")[0]
    assert big["text"] == "x" * (4 << 20)
    assert not death["ok"]
    assert "while it answered" in death["error"]
    assert "internal error" in broken["error"]
    assert clock["ok"]


def test_S09_without_copies_the_node_answers_itself(tmp_path: Path, go: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(os, "fork", refused)
    (reply,), router = served(tmp_path, go, "show home")
    assert reply["text"] == "here"
    assert router.warned == ["no copy of the process can be made: Cannot allocate memory"]
