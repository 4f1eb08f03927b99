"""Many initiators in one process, over real UDP: the load of benchmarks and tests. Not a figure by itself.

    load = Load(OsNetwork())
    caller = load.call(local, remote, terms, child)   # IKE_SA_INIT goes out
    load.run(lambda: caller.up)                       # until it holds; AssertionError if that takes too long
    load.close(caller)                                # DELETE
    load.run(lambda: caller.closed)

Each caller is an `IkeSa` of ours with an address of its own, which the host must have (a whole prefix may be made local).
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field

from ikev2.config import AuthMethod, IkeProposal, TransformSet
from ikev2.crypto.suites import esp_proposals, ike_proposals
from ikev2.engine import contract as c
from ikev2.engine.sa import IkeSa, Settings
from ikev2.pki.credentials import Credential, PskCredential, Trust
from ikev2.wire import Identity, decode, split_header
from ikev2.wire.payloads import Proposal
from stack.esp import EspMode, Selector
from stack.events import SaKey
from stack.net import Network

__all__ = ["GRE", "Caller", "Load", "child_terms", "fqdn", "psk_terms"]

GRE = 47
_MARKER = bytes(4)
_IKE = ike_proposals(IkeProposal("load", ("aes-gcm-256",), prf=("sha384",), groups=(31,)))
_ESP = esp_proposals([TransformSet("load")])
_SETTINGS = Settings(fragmentation_mtu=1280)


def fqdn(name: str) -> Identity:
    return Identity(2, name.encode())


def psk_terms(name: str, key: bytes, **more: Any) -> c.Terms:
    return signed_terms(name, PskCredential(key), Trust(frozenset({AuthMethod.PSK}), key), **more)


def signed_terms(name: str, credential: Credential, trust: Trust, **more: Any) -> c.Terms:
    """`known_contact`: its SAs stand side by side."""
    more.setdefault("known_contact", True)
    return c.Terms(profile="load", local=fqdn(name), credential=credential, trust=trust, **more)


def child_terms(local: bytes, remote: bytes, mode: EspMode = EspMode.TRANSPORT) -> c.ChildTerms:
    """GRE between two addresses."""
    own, far = (Selector(local, local, GRE),), (Selector(remote, remote, GRE),)
    return c.ChildTerms(SaKey("load"), _ESP, own, far, mode=mode)


@define(eq=False)
class _Directory:
    """What an initiator asks of a configuration."""

    terms_of: c.Terms
    number: int

    def epoch(self) -> float:
        return time.time() - time.monotonic()

    def ike_proposals(self, _ends: c.Ends) -> tuple[Proposal, ...]:
        return _IKE

    def requests(self, _ends: c.Ends) -> bytes:
        return b""

    def terms(self, *_asked: Any) -> c.Terms:
        return self.terms_of

    def confirm(self, *_asked: Any) -> None:
        return None

    def authorise(self, *_asked: Any) -> c.Refusal:
        return c.Refusal("an initiator")

    def called(self, _number: int, terms: Any, *_who: Any) -> Any:
        return terms

    def child(self, *_asked: Any) -> c.Refusal:
        return c.Refusal("an initiator", 14)

    def esp_spi(self) -> int:
        return int.from_bytes(os.urandom(4)) | 0x1000

    def ike_spi(self) -> bytes:
        return os.urandom(8)


@define(eq=False)
class Caller:
    sa: Any = None
    established: bool = False
    children: dict[int, c.ChildUp] = field(factory=dict)
    rekeys: int = 0
    closed: c.Closed | None = None
    refused: str = ""
    inbound: dict[int, Any] = field(factory=dict)
    outbound: Any = None
    configured: tuple[Any, ...] = ()

    @property
    def up(self) -> bool:
        return bool(self.children)


@define(eq=False)
class Load:
    """`held`: those that are not closed, by initiator SPI."""

    network: Network
    settings: Settings = _SETTINGS
    held: dict[bytes, Caller] = field(factory=dict)
    _ports: dict[int, Any] = field(init=False)
    _due: float = 0.0

    def __attrs_post_init__(self) -> None:
        self._ports = {number: self.network.datagrams(number, marked=number == 4500) for number in (500, 4500)}

    def call(self, local: bytes, remote: bytes, terms: c.Terms, child: c.ChildTerms | None) -> Caller:
        caller = Caller()
        caller.sa, out = IkeSa.initiate(
            len(self.held),
            c.Ends(local, remote),
            _Directory(terms, len(self.held)),
            terms,
            child,
            os.urandom,
            self.settings,
            time.monotonic(),
        )
        self.held[caller.sa.spi_own] = caller
        self._perform(caller, out)
        return caller

    def close(self, caller: Caller) -> None:
        self._perform(caller, caller.sa.close("done", time.monotonic()))

    def rekey(self, caller: Caller) -> None:
        """All its CHILD_SAs."""
        for number in list(caller.children):
            self._perform(caller, caller.sa.rekey_child(number, time.monotonic()))

    def run(self, true: Callable[[], Any], seconds: float = 10.0) -> float:
        """How long it took."""
        begun = time.monotonic()
        while not true():
            assert time.monotonic() - begun < seconds, (
                f"it does not happen: {self.held and next(iter(self.held.values()))}"
            )
            self.turn(0.05)
        return time.monotonic() - begun

    def turn(self, wait: float) -> None:
        """Take what has come, waiting for it at most so long."""
        ports = list(self._ports.values())
        readable, _, _ = select.select([port.socket for port in ports], [], [], wait)
        for port in ports:
            if port.socket in readable:
                self._take(port)
        now = time.monotonic()
        if now >= self._due:
            self._due = now + 0.05
            self._wake(now)

    def _take(self, port: Any) -> None:
        for _ in range(64):
            try:
                octets, source, source_port, destination, own_port = port.receive()
            except BlockingIOError:
                return
            if own_port == 4500:
                octets = octets[4:]
            if len(octets) < 28:
                continue
            caller = self.held.get(split_header(octets).initiator_spi)
            if caller is not None:
                ends = c.Ends(destination, source, own_port, source_port)
                self._perform(caller, caller.sa.receive(octets, decode(octets), ends, time.monotonic()))

    def _wake(self, now: float) -> None:
        for caller in list(self.held.values()):
            due = caller.sa.deadline()
            if due is not None and due <= now:
                self._perform(caller, caller.sa.wake(now))

    def _perform(self, caller: Caller, outputs: Iterable[Any]) -> None:
        for output in outputs:
            match output:
                case c.Send(octets, ends):
                    self._ports[ends.local_port].send(octets, ends.local, ends.remote, ends.remote_port)
                case c.Established():
                    caller.established = True
                case c.ChildUp(_, number, _, _, replaces):
                    caller.rekeys += bool(replaces)
                    caller.children.pop(replaces, None)
                    caller.children[number] = output
                case c.ChildDown(_, number, reason, refused):
                    caller.children.pop(number, None)
                    caller.refused = reason if refused else ""
                case c.PutInbound(sa):
                    caller.inbound[sa.spi] = sa
                case c.RemoveInbound(spi):
                    caller.inbound.pop(spi, None)
                case c.PutOutbound(sa):
                    caller.outbound = sa
                case c.Configured(_, attributes):
                    caller.configured = attributes
                case c.Closed():
                    caller.closed = output
                    self.held.pop(caller.sa.spi_own, None)

    def shut(self) -> None:
        for port in self._ports.values():
            port.close()
