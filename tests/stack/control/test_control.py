"""The control socket on real Unix sockets: who may use it, its bounds, and garbage that must not hurt the node (S09)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack import control
from stack.control import MAX_CLIENTS, MAX_REQUEST, ControlError, ControlServer, default_socket, request
from stack.ios.command import CommandError, Shown

WANTED = 'a request is a line of JSON: {"command": "show ..."}'


class FakeLog:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def exception(self, event: str, **fields: Any) -> None:
        self.lines.append((event, fields))


class FakeRouter:
    """Knows five commands."""

    def __init__(self) -> None:
        self.context = self
        self.log = FakeLog()
        self.asked: list[str] = []

    def execute(self, line: str) -> Shown:
        self.asked.append(line)
        match line:
            case "show clock":
                return Shown("12:00 ä\n", {"hour": 12})
            case "show broken":
                raise ZeroDivisionError
            case "show unprintable":
                return Shown("octets", {"value": b"\0"})
            case "show big":
                return Shown("x" * (4 << 20))
        raise CommandError(f"there is no command {line!r}")


def serve(tmp_path: Path, act: Callable[[ControlServer, FakeRouter], Awaitable[None]]) -> None:
    """Run `act` against a server, on asyncio's loop and on uvloop's; nothing is left of it, nothing went unhandled."""

    async def main() -> None:
        unhandled: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(context))
        router = FakeRouter()
        server = ControlServer(router, tmp_path / "n.sock")  # type: ignore[arg-type]
        await server.start()
        try:
            async with asyncio.timeout(30):
                await act(server, router)
        finally:
            await server.stop()
        assert not server.path.exists()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert unhandled == []

    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())


async def talk(path: Path, *lines: bytes, end: bool = True) -> list[dict[str, Any]]:
    """Send octets as they are; every reply until the server closes."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=64 << 20)
    for line in lines:
        writer.write(line)
    if end:
        writer.write_eof()
    replies = []
    try:
        while line := await reader.readline():
            replies.append(json.loads(line))
    except ConnectionError:
        pass
    writer.close()
    return replies


def test_commands_are_answered_in_order(tmp_path: Path) -> None:
    async def act(server: ControlServer, router: FakeRouter) -> None:
        replies = await request(server.path, ["show clock", "show nonsense", "show clock"])
        fine = {"ok": True, "text": "12:00 ä\n", "value": {"hour": 12}}
        assert replies == [fine, {"ok": False, "error": "there is no command 'show nonsense'"}, fine]
        assert router.asked == ["show clock", "show nonsense", "show clock"]

    serve(tmp_path, act)


def test_the_socket_is_its_owners_only(tmp_path: Path) -> None:
    async def act(server: ControlServer, _router: FakeRouter) -> None:
        mode = server.path.lstat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600

    before = os.umask(0)
    try:
        serve(tmp_path, act)
        assert os.umask(0) == 0  # it was put back
    finally:
        os.umask(before)


def test_the_folder_is_made(tmp_path: Path) -> None:
    serve(tmp_path / "a" / "b", lambda server, _router: request(server.path, ["show clock"]))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    "line",
    [
        b"\n", b"show clock\n", b"{}\n", b"[]\n", b"null\n", b"7\n", b'"command"\n', b'{"command": 7}\n',
        b'{"command": null}\n', b'{"command": ["show clock"]}\n', b'{"command": "show clock"\n', b"\xff\xfe\0\n", b"\x80\x81\n",
        b"\0" * 100 + b"\n",
        b"[" * 60_000 + b"\n", b'{"a":' * 10_000 + b"\n", b"1" * 60_000 + b"\n", b"NaN\n", b"\x1b[2J\x07\n", b"{",
    ],
)  # fmt: skip
def test_S09_garbage_is_answered_with_what_was_expected(tmp_path: Path, line: bytes) -> None:
    async def act(server: ControlServer, router: FakeRouter) -> None:
        last = [] if not line.endswith(b"\n") else [b'{"command": "show clock"}\n']
        refusal, *rest = await talk(server.path, line, *last)
        assert refusal == {"ok": False, "error": WANTED}
        assert [reply["ok"] for reply in rest] == [True] * len(last)
        assert router.asked == ["show clock"] * len(last)

    serve(tmp_path, act)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.binary(max_size=300) | st.sampled_from([b"\n", b'{"command": "show clock"}\n']), max_size=12))
def test_S09_any_octets_leave_the_server_standing(tmp_path: Path, chunks: list[bytes]) -> None:
    async def act(server: ControlServer, _router: FakeRouter) -> None:
        octets = b"".join(chunks)
        replies = await talk(server.path, octets)
        lines = octets.split(b"\n")
        assert len(replies) == len(lines) - (not lines[-1])
        assert (await request(server.path, ["show clock"]))[0]["ok"]

    serve(tmp_path, act)


@pytest.mark.parametrize("command", ["", " ", "\0", "\x1b[2J", "\ud800", "x" * 60_000, "ü" * 5_000])
def test_S09_any_command_text_is_carried_whole(tmp_path: Path, command: str) -> None:
    async def act(server: ControlServer, router: FakeRouter) -> None:
        (reply,) = await request(server.path, [command])
        assert reply == {"ok": False, "error": f"there is no command {command!r}"}
        assert router.asked == [command]

    serve(tmp_path, act)


def test_S09_a_line_too_long_ends_that_client_only(tmp_path: Path) -> None:
    async def act(server: ControlServer, router: FakeRouter) -> None:
        for size in (MAX_REQUEST + 1, 40 * MAX_REQUEST):
            replies = await talk(server.path, b"x" * size, end=False)
            assert replies == [{"ok": False, "error": f"a request is at most {MAX_REQUEST} octets long"}]
        assert router.asked == []
        assert (await request(server.path, ["show clock"]))[0]["ok"]

    serve(tmp_path, act)


def test_a_bug_in_a_command_is_logged_and_told(tmp_path: Path) -> None:
    async def act(server: ControlServer, router: FakeRouter) -> None:
        replies = await request(server.path, ["show broken", "show unprintable", "show clock"])
        assert [reply["ok"] for reply in replies] == [False, False, True]
        assert replies[0]["error"] == "internal error in 'show broken'; it is in the log"
        assert [fields["error"] for _, fields in router.log.lines] == ["ZeroDivisionError", "TypeError"]

    serve(tmp_path, act)


def test_S09_clients_are_bounded_and_the_next_one_is_told(tmp_path: Path) -> None:
    async def act(server: ControlServer, _router: FakeRouter) -> None:
        held = [await asyncio.open_unix_connection(str(server.path)) for _ in range(MAX_CLIENTS)]
        for reader, writer in held:  # every one is being served
            writer.write(b"{}\n")
            assert await reader.readline()
        (reply,) = await talk(server.path, end=False)
        assert reply == {"ok": False, "error": f"{MAX_CLIENTS} clients are connected already"}
        with_error = await request(server.path, ["show clock"])
        assert with_error == [reply]
        reader, writer = held.pop()
        writer.write_eof()
        assert not await reader.read()
        assert (await request(server.path, ["show clock"]))[0]["ok"]
        for _, writer in held:
            writer.close()

    serve(tmp_path, act)


def test_S09_a_client_that_sends_thousands_of_commands_holds_up_nobody(tmp_path: Path) -> None:
    """The protocols' callbacks get their turn between any two answers."""

    async def act(server: ControlServer, router: FakeRouter) -> None:
        turns: list[int] = []

        async def protocol() -> None:
            while True:
                turns.append(len(router.asked))
                await asyncio.sleep(0)

        ticking = asyncio.ensure_future(protocol())
        replies = await talk(server.path, b'{"command": "show clock"}\n' * 2_000)
        ticking.cancel()
        await asyncio.wait({ticking})
        assert len(replies) == 2_000
        assert max(after - before for before, after in pairwise(turns)) <= 2

    serve(tmp_path, act)


def test_S09_a_client_that_never_reads_holds_up_nobody(tmp_path: Path) -> None:
    async def act(server: ControlServer, _router: FakeRouter) -> None:
        _, writer = await asyncio.open_unix_connection(str(server.path))
        writer.write(b'{"command": "show big"}\n' * 5)
        await writer.drain()
        assert (await request(server.path, ["show clock"]))[0]["ok"]
        # and `stop`, which follows, does not wait for it

    serve(tmp_path, act)


def test_a_client_that_leaves_in_the_middle_is_no_matter(tmp_path: Path) -> None:
    async def act(server: ControlServer, _router: FakeRouter) -> None:
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(server.path))
                client.send(b'{"command": "show big"}\n' * 3)
        assert (await request(server.path, ["show clock"]))[0]["ok"]

    serve(tmp_path, act)


# --- the socket in the file system ------------------------------------------------------------------------------------


def start(path: Path) -> str:
    """What `start` raises, as text; and the server is stopped again."""

    async def main() -> str:
        server = ControlServer(FakeRouter(), path)  # type: ignore[arg-type]
        try:
            await server.start()
        except OSError as error:
            return str(error)
        finally:
            await server.stop()
        return ""

    return asyncio.run(main())


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "n.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists()
    serve(tmp_path, lambda server, _router: request(server.path, ["show clock"]))  # type: ignore[arg-type, return-value]


def test_a_live_socket_is_not_replaced_and_not_taken_away(tmp_path: Path) -> None:
    async def act(server: ControlServer, _router: FakeRouter) -> None:
        second = ControlServer(FakeRouter(), server.path)  # type: ignore[arg-type]
        with pytest.raises(
            OSError, match=r"another node answers at .*n.sock; give this one another --name or --control"
        ):
            await second.start()
        await second.stop()
        assert (await request(server.path, ["show clock"]))[0]["ok"]

    serve(tmp_path, act)


def test_a_live_socket_that_is_too_busy_to_answer_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "n.sock"
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        waiting = []
        while True:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            waiting.append(client)
            try:
                client.connect(str(path))
            except BlockingIOError:
                break
        assert "another node answers" in start(path)
        assert path.exists()
        for client in waiting:
            client.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("configuration\n")
    assert start(path) == f"{path} is there already, and is no socket; give this node another --control"
    assert path.read_text() == "configuration\n"
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    assert "is no socket" in start(link)
    assert link.is_symlink()
    assert "is no socket" in start(tmp_path)


def test_a_socket_that_cannot_be_made_says_which(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    assert start(path).startswith(f"{path}: ")
    (tmp_path / "file").write_text("")
    assert "Not a directory" in start(tmp_path / "file" / "n.sock") or "File exists" in start(
        tmp_path / "file" / "n.sock"
    )


def test_stop_leaves_a_socket_that_another_node_put_there(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "n.sock"
        first = ControlServer(FakeRouter(), path)  # type: ignore[arg-type]
        await first.start()
        path.unlink()
        second = ControlServer(FakeRouter(), path)  # type: ignore[arg-type]
        await second.start()
        await first.stop()
        assert (await request(path, ["show clock"]))[0]["ok"]
        await second.stop()
        assert not path.exists()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("runtime", "user", "expected"),
    [
        (None, 0, "/run/labelspan/pe1.sock"),
        ("/run/user/0", 0, "/run/labelspan/pe1.sock"),
        ("/run/user/7", 7, "/run/user/7/labelspan/pe1.sock"),
        (None, 7, "/run/labelspan/pe1.sock"),
    ],
)
def test_where_a_node_listens(monkeypatch: pytest.MonkeyPatch, runtime: str | None, user: int, expected: str) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if runtime is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert default_socket("pe1") == Path(expected)


# --- the client -------------------------------------------------------------------------------------------------------


def against(tmp_path: Path, answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> str:
    """What `request` raises against a server that answers so."""

    async def main() -> str:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await answer(reader, writer)
            writer.close()

        path = tmp_path / "n.sock"
        server = await asyncio.start_unix_server(handle, str(path))
        try:
            with pytest.raises(ControlError) as caught:
                await request(path, ["show clock", "show clock"])
        finally:
            server.close()
        return str(caught.value)

    return asyncio.run(main())


async def closes(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    return


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1)
    writer.transport.abort()  # with the rest of the request unread


async def babbles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"SSH-2.0-OpenSSH\r\n")


async def babbles_json(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b'["ok"]\n')


def test_no_node_is_told_with_where_it_was_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "none.sock"
    with pytest.raises(ControlError) as caught:
        asyncio.run(request(path, ["show clock"]))
    assert str(caught.value) == f"no node listens at {path}; is `labelspan run` up, under this --name?"


def test_a_socket_whose_node_died_is_told(tmp_path: Path) -> None:
    path = tmp_path / "n.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(ControlError, match=f"^{path}: Connection refused$"):
        asyncio.run(request(path, ["show clock"]))


def test_a_node_that_goes_away_is_told(tmp_path: Path) -> None:
    assert against(tmp_path, closes) in (
        "the node closed the connection",
        "the connection to the node broke: Broken pipe",
        "the connection to the node broke: Connection reset by peer",
    )


def test_a_node_that_is_killed_in_the_middle_is_told(tmp_path: Path) -> None:
    assert against(tmp_path, resets) in (
        "the node closed the connection",
        "the connection to the node broke: Connection reset by peer",
    )


@pytest.mark.parametrize("answer", [babbles, babbles_json])
def test_what_is_no_node_is_told(tmp_path: Path, answer: Any) -> None:
    assert against(tmp_path, answer) == f"what answers at {tmp_path / 'n.sock'} is no node of this version"


def test_a_node_that_hangs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "WITHIN", 0.01)

    async def hangs(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    assert against(tmp_path, hangs) == "the node did not answer within 0 s"
