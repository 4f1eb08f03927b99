"""A node whose keys are set by hand: `labelspan run` with a service in ikev2's place, which owns the SAD.

Run as `python -m tests.interop.keyed FILE SOCKET INTERFACE=DEVICE...`. Each line of its standard input is a pair of SAs in
JSON, as `Pair` has them, and is answered on its standard output by a line: `[]`, or what is wrong. `KeyedNode` is the
other end of that.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import uvloop
from attrs import asdict, frozen

from stack.addr import parse_address
from stack.bus import Message
from stack.control import ControlServer
from stack.daemon import configure_logging
from stack.esp import Cipher, EspForm, EspMode, Integrity, Selector
from stack.events import (
    Delta,
    SaKey,
    SaMoved,
    SaRow,
    SaSoft,
    SaState,
    SaUnknown,
    SaWanted,
    TunnelProtected,
)
from stack.ios.check import read_file
from stack.os import OsNetwork
from stack.registry import ServiceSpec, load_specs
from stack.router import Router
from stack.service import Context, ServiceShell
from stack.tables.sad import Sa, SaUse
from tests.interop.nodes import READY_WITHIN, Node

__all__ = ["KeyedNode", "Pair"]

GRE = 47


@frozen
class Pair:
    """A CHILD_SA to `remote`, as text. `key_in`, `key_out`: hex of encryption key, salt and integrity key, one behind the
    other. `sent`, `taken`: the last sequence numbers."""

    remote: str
    cipher: str
    integrity: str = "NONE"
    mode: str = "TRANSPORT"
    udp: bool = False
    esn: bool = False
    window: int = 64
    spi_in: int = 0x1001
    spi_out: int = 0x2001
    key_in: str = ""
    key_out: str = ""
    sent: int = 0
    taken: int = 0

    @property
    def form(self) -> EspForm:
        return EspForm(Cipher[self.cipher], Integrity[self.integrity], EspMode[self.mode], self.udp)

    def keys(self, key: str) -> dict[str, bytes]:
        """Cut as `Sa` wants them."""
        octets, cipher = bytes.fromhex(key), self.form.cipher
        at, behind = cipher.key, cipher.key + cipher.salt
        return {"encryption": octets[:at], "salt": octets[at:behind], "integrity": octets[behind:]}


class Keys(ServiceShell):
    """Owns what ikev2 owns: SAD, SaState and UDP port 4500."""

    name = "keys"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.wanted: dict[SaKey, Any] = {}
        self._sad = context.tables.sad.writer(self.name)
        self._port = context.network.datagrams(4500, marked=True)

    async def begin(self) -> None:
        self.seat.subscribe(TunnelProtected, SaWanted, SaSoft, SaMoved, SaUnknown)
        self.seat.synced(SaState)

    def receive(self, message: Message) -> None:
        if isinstance(message, Delta) and message.topic is SaWanted:
            for key, row in message.rows.items():
                self.wanted.pop(key, None)
                if row is not None:
                    self.wanted[key] = row

    def close(self) -> None:
        self._port.close()

    def put(self, pair: Pair) -> str:
        """Stand at once instead of whatever stood; '' or why not."""
        remote = parse_address(pair.remote)
        found = [(key, row) for key, row in self.wanted.items() if row.remote == remote]
        if len(found) != 1:
            return f"{len(found)} neighbours at {pair.remote} want an SA"
        ((key, row),) = found
        own, far = (Selector(end, end, GRE) for end in (row.local, row.remote))
        for spi in [spi for spi, sa in self.context.tables.sad.inbound.items() if sa.key == key]:
            self._sad.remove_inbound(spi)
        for inbound in (True, False):
            sa = Sa(
                pair.spi_in if inbound else pair.spi_out,
                key,
                row.local,
                row.remote,
                pair.form,
                esn=pair.esn,
                window=pair.window,
                ports=(4500, 4500) if pair.udp else (0, 0),
                own=(own,),
                far=(far,),
                child=pair.spi_in,
                use=SaUse(pair.taken if inbound else pair.sent),
                **pair.keys(pair.key_in if inbound else pair.key_out),
            )
            if inbound:
                self._sad.put_inbound(sa)
            else:
                self._sad.put_outbound(sa)
        self.seat.publish(SaState, {key: SaRow(up=True, form=pair.form, identity=pair.remote, child=pair.spi_in)})
        return ""

    def drop(self, remote: str) -> str:
        """No SA any more."""
        octets = parse_address(remote)
        for key in [key for key, row in self.wanted.items() if row.remote == octets]:
            self._sad.remove_outbound(key)
            for spi in [spi for spi, sa in self.context.tables.sad.inbound.items() if sa.key == key]:
                self._sad.remove_inbound(spi)
            self.seat.publish(SaState, {key: SaRow(up=False, reason="taken away by hand")})
        return ""


KEYS = ServiceSpec(
    name="keys",
    factory=lambda _config, context: Keys(context),
    produces=frozenset({SaState}),
    consumes=frozenset({TunnelProtected, SaWanted, SaSoft, SaMoved, SaUnknown}),
    writes=frozenset({"sad"}),
    rank=20,
)


async def serve(file: str, control: str, bindings: dict[str, str]) -> None:
    configure_logging(as_json=False)
    network, loop, ended = OsNetwork(), asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    specs = (*(spec for spec in load_specs() if spec.name != "ikev2"), KEYS)
    router = Router(read_file(Path(file)).config, network=network, specs=specs, bindings=bindings)
    server = ControlServer(router, Path(control))
    await server.start()

    def told(line: str) -> None:
        service, words = router.service("keys"), json.loads(line)
        assert isinstance(service, Keys)
        said = service.drop(words["drop"]) if "drop" in words else service.put(Pair(**words))
        print(json.dumps([said] if said else []), flush=True)

    def listen() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(told, line)

    threading.Thread(target=listen, daemon=True).start()
    async with router:
        await ended.wait()
    await server.stop()
    network.close()


class KeyedNode(Node):
    """A `Node` that takes its keys from the test."""

    def start(self) -> None:
        self.file.write_text(self.config)
        command = [sys.executable, "-m", "tests.interop.keyed", str(self.file), str(self.socket)]
        command += [f"{interface}={device}" for interface, device in self.bindings.items()]
        with self.log.open("ab") as log:
            self.process = self.namespace.spawn(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        self.until("show version", bool, within=READY_WITHIN)

    def _tell(self, words: dict[str, Any]) -> None:
        process = self.process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(words).encode() + b"\n")
        process.stdin.flush()
        said = process.stdout.readline()
        assert said == b"[]\n", said

    def keyed(self, pair: Pair) -> None:
        self._tell(asdict(pair))

    def unkeyed(self, remote: str) -> None:
        self._tell({"drop": remote})


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], sys.argv[2], dict(word.split("=", 1) for word in sys.argv[3:])))
