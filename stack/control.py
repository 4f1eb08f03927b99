"""The control socket of a running node: one JSON request a line, one JSON reply a line. The console is its first client.

Request: `{"command": "show ip route"}`. Reply: `{"ok": true, "text": "...", "value": ...}` or
`{"ok": false, "error": "..."}`. The socket is the owner's only (mode 0600). Clients and line lengths are bounded.

With `apart`, what services show is printed by a copy of the process (stack.apart): a table of 100,000 routes takes seconds,
and no session's keepalive waits for it.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import stat
from contextlib import aclosing
from pathlib import Path
from typing import Any

from attrs import define, field

from stack.apart import apart
from stack.ios.command import CommandError
from stack.router import Router

__all__ = ["MAX_CLIENTS", "MAX_REQUEST", "ControlError", "ControlServer", "default_socket", "request"]

MAX_REQUEST = 65_536
"""Octets of one request line."""

MAX_REPLY = 1 << 30
"""Octets of one reply that a client takes."""

MAX_CLIENTS = 32
"""Connections at once; one on top is refused with a reply that says so."""

MAX_COPIES = 4
"""Copies of the process that print at once; further clients wait for their turn."""

WITHIN = 300.0
"""Seconds that a client waits for its answer. Half a million routes take minutes."""


class ControlError(Exception):
    """The node cannot be asked, or refused the command; the message says why and what to do."""


def default_socket(name: str) -> Path:
    """Where the node called `name` listens: in the user's runtime directory, or /run/labelspan for root."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    base = Path(runtime) if runtime and os.geteuid() != 0 else Path("/run")
    return base / "labelspan" / f"{name}.sock"


@define(eq=False)
class ControlServer:
    """Answers commands for one router."""

    router: Router
    path: Path
    apart: bool = False
    _copies: asyncio.Semaphore = field(factory=lambda: asyncio.Semaphore(MAX_COPIES))
    _server: asyncio.Server | None = None
    _clients: set[asyncio.Task[Any]] = field(factory=set)
    _inode: int = 0

    async def start(self) -> None:
        """Raises OSError if the socket cannot be made. A stale one is replaced; a live one is not, and neither is anything
        that is no socket."""
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if self.path.is_symlink() or self.path.exists():
            if not stat.S_ISSOCK(self.path.lstat().st_mode):
                raise OSError(f"{self.path} is there already, and is no socket; give this node another --control")
            if await _alive(self.path):
                raise OSError(f"another node answers at {self.path}; give this one another --name or --control")
            self.path.unlink()
        listener = _listener(self.path)
        self._inode = self.path.lstat().st_ino
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_REQUEST)

    async def stop(self) -> None:
        """No task of a client is left. A socket that somebody else put there meanwhile stays."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        if clients:
            await asyncio.wait(clients)
        if self.path.exists() and self.path.lstat().st_ino == self._inode:
            self.path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._clients.add(task)
        try:
            if len(self._clients) > MAX_CLIENTS:
                await _reply(writer, _refusal(f"{MAX_CLIENTS} clients are connected already"))
                return
            while line := await reader.readline():
                if self.apart and self._only_shows(line):
                    await self._answer_apart(writer, line)
                else:
                    await _reply(writer, self._answer(line))
                await asyncio.sleep(0)  # a client that sends many commands at once must not hold up the protocols
        except ValueError:
            await _last_reply(writer, _refusal(f"a request is at most {MAX_REQUEST} octets long"))
        except (ConnectionError, TimeoutError):
            pass  # the client left, or waited too long for the rest
        except asyncio.CancelledError:
            pass  # the node stops
        finally:
            writer.close()
            if task is not None:
                self._clients.discard(task)

    def _only_shows(self, line: bytes) -> bool:
        """Whether a copy of the process may answer."""
        command = _command(line)
        try:
            return command is not None and self.router.only_shows(command)
        except CommandError:
            return False

    async def _answer_apart(self, writer: asyncio.StreamWriter, line: bytes) -> None:
        """The answer of a copy, as it comes. Raises ConnectionError, TimeoutError: then the client has at most a part."""
        last = b""
        try:
            async with self._copies, aclosing(apart(lambda: self._answer(line) + b"\n", within=WITHIN)) as pieces:
                async for last in pieces:
                    writer.write(last)
                    await writer.drain()
        except (ConnectionError, TimeoutError):
            raise
        except OSError as error:
            self.router.context.log.warning("no copy of the process can be made", reason=error.strerror)
            await _reply(writer, self._answer(line))
            return
        if not last:
            await _reply(writer, _refusal("the node ran out of something while it answered; it is in the log"))
        elif not last.endswith(b"\n"):
            raise ConnectionResetError

    def _answer(self, line: bytes) -> bytes:
        """The reply to one request line, whatever is in it."""
        command = _command(line)
        if command is None:
            return _refusal('a request is a line of JSON: {"command": "show ..."}')
        try:
            shown = self.router.execute(command)
            return json.dumps({"ok": True, "text": shown.text, "value": shown.value}).encode()
        except CommandError as error:
            return _refusal(str(error))
        except Exception as error:
            self.router.context.log.exception("command failed", command=command, error=type(error).__name__)
            return _refusal(f"internal error in {command!r}; it is in the log")


def _command(line: bytes) -> str | None:
    """The command in a request line; None if it is no request."""
    try:
        command = json.loads(line)["command"]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
    return command if isinstance(command, str) else None


def _listener(path: Path) -> socket.socket:
    """A listening socket that is the owner's only from its first moment."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    old = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise OSError(f"{path}: {error.strerror or error}") from None
    finally:
        os.umask(old)
    return listener


def _refusal(error: str) -> bytes:
    return json.dumps({"ok": False, "error": error}).encode()


async def _reply(writer: asyncio.StreamWriter, reply: bytes) -> None:
    writer.write(reply + b"\n")
    await writer.drain()


async def _last_reply(writer: asyncio.StreamWriter, reply: bytes) -> None:
    try:
        await _reply(writer, reply)
    except ConnectionError:
        pass  # the client left


async def _alive(path: Path) -> bool:
    """Whether somebody listens there; a listener that is too busy to answer now does."""
    try:
        _, writer = await asyncio.open_unix_connection(str(path))
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    except OSError:
        return True
    writer.close()
    return True


async def request(path: Path, commands: list[str]) -> list[dict[str, Any]]:
    """The replies to `commands`, in order. Raises ControlError."""
    try:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_REPLY)
    except FileNotFoundError:
        raise ControlError(f"no node listens at {path}; is `labelspan run` up, under this --name?") from None
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror or error}") from None
    try:
        return [await _ask(reader, writer, command) for command in commands]
    except TimeoutError:
        raise ControlError(f"the node did not answer within {WITHIN:.0f} s") from None
    except OSError as error:
        raise ControlError(f"the connection to the node broke: {error.strerror or error}") from None
    except asyncio.LimitOverrunError:
        raise ControlError(f"the answer is longer than {MAX_REPLY >> 20} MiB; ask for less of it") from None
    except (ValueError, TypeError):
        raise ControlError(f"what answers at {path} is no node of this version") from None
    finally:
        writer.close()


async def _line(reader: asyncio.StreamReader) -> bytes:
    """As readline, but a line that is too long is told from one that makes no sense. Raises LimitOverrunError."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ConnectionResetError(errno.ECONNRESET, "the answer was cut short") from None
        return b""


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str) -> dict[str, Any]:
    """One reply. Raises ControlError, TimeoutError, OSError; ValueError or TypeError if it makes no sense."""
    async with asyncio.timeout(WITHIN):
        writer.write(json.dumps({"command": command}).encode() + b"\n")
        await writer.drain()
        line = await _line(reader)
    if not line:
        raise ControlError("the node closed the connection")
    reply = json.loads(line)
    if not isinstance(reply, dict) or not isinstance(reply.get("ok"), bool):
        raise TypeError("no reply")
    if not reply["ok"]:
        return {"ok": False, "error": str(reply.get("error"))}
    return {"ok": True, "text": str(reply.get("text")), "value": reply.get("value")}
