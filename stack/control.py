"""The control socket of a running node: one JSON request a line, one JSON reply a line. The console is its first client.

Request: `{"command": "show ip route", "json": false}`. Reply: `{"ok": true, "text": "...", "value": ...}` or
`{"ok": false, "error": "..."}`. The socket is the owner's only (mode 0600). Clients and line lengths are bounded.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from attrs import define, field

from stack.ios.command import CommandError
from stack.router import Router

__all__ = ["MAX_CLIENTS", "MAX_REQUEST", "ControlError", "ControlServer", "default_socket", "request"]

MAX_REQUEST = 65_536
"""Octets of one request line."""

MAX_REPLY = 64 << 20
MAX_CLIENTS = 32
"""Connections at once; one on top is refused with a reply that says so."""

WITHIN = 30.0
"""Seconds that a client waits for its answer."""


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
    _server: asyncio.Server | None = None
    _clients: set[asyncio.Task[Any]] = field(factory=set)

    async def start(self) -> None:
        """Raises OSError if the socket cannot be made; a stale one is replaced, a live one is not."""
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if self.path.exists():
            if await _alive(self.path):
                raise OSError(f"another node answers at {self.path}; give this one another --name or --control")
            self.path.unlink()
        old = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self.path), limit=MAX_REQUEST)
        finally:
            os.umask(old)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for client in list(self._clients):
            client.cancel()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._clients.add(task)
        try:
            if len(self._clients) > MAX_CLIENTS:
                await _reply(writer, {"ok": False, "error": f"{MAX_CLIENTS} clients are connected already"})
                return
            while line := await reader.readline():
                await _reply(writer, self._answer(line))
        except ValueError:
            await _reply(writer, {"ok": False, "error": f"a request is at most {MAX_REQUEST} octets long"})
        except ConnectionError:
            pass  # the client left
        finally:
            writer.close()
            if task is not None:
                self._clients.discard(task)

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(line)
            command = asked["command"]
            if not isinstance(command, str):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            return {"ok": False, "error": 'a request is a line of JSON: {"command": "show ..."}'}
        try:
            shown = self.router.execute(command)
        except CommandError as error:
            return {"ok": False, "error": str(error)}
        except Exception as error:
            self.router.context.log.exception("command failed", command=command, error=type(error).__name__)
            return {"ok": False, "error": f"internal error in {command!r}; it is in the log"}
        return {"ok": True, "text": shown.text, "value": shown.value}


async def _reply(writer: asyncio.StreamWriter, reply: dict[str, Any]) -> None:
    writer.write(json.dumps(reply).encode() + b"\n")
    await writer.drain()


async def _alive(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return False
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
    replies = []
    try:
        for command in commands:
            writer.write(json.dumps({"command": command}).encode() + b"\n")
            line = await asyncio.wait_for(reader.readline(), WITHIN)
            if not line:
                raise ControlError("the node closed the connection")
            replies.append(json.loads(line))
    except TimeoutError:
        raise ControlError(f"the node did not answer within {WITHIN:.0f} s") from None
    finally:
        writer.close()
    return replies
