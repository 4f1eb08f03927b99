"""The shell around the IKEv2 speaker: UDP, the SAD, files, the bus and one timer. All that is IKEv2 is in `ikev2.engine`.

A node runs it through SERVICE. It also runs alone, inside another program, which says whom to protect on the bus (`SaWanted`,
`TunnelProtected`) and may be asked who comes in:

    service = Ikev2Service(config, bus=bus, network=network, authorise=ask)
    await service.run()

`authorise(request)` is awaited for each peer that has proved who it is, and answers with a Grant (attributes of its CFG_REPLY,
an address among them if it likes) or a Refusal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, assert_never

from ikev2.checks import CHECKS
from ikev2.config import Ikev2Config
from ikev2.console import WORDS
from ikev2.crypto.keys import IkeKeys
from ikev2.crypto.suites import IkeSuite
from ikev2.engine.contract import AccessRequest, Ends, Grant, Refusal
from ikev2.engine.kept import Kept
from ikev2.engine.outputs import (
    Authorise,
    Keyed,
    Listen,
    Log,
    Output,
    Post,
    Publish,
    PutInbound,
    PutOutbound,
    RemoveInbound,
    RemoveOutbound,
    Send,
    SyncedOut,
)
from ikev2.engine.snapshot import SpeakerSnapshot
from ikev2.engine.speaker import PRODUCED, Speaker
from ikev2.events import ChildSaDown, ChildSaUp, IkeSaDown, IkeSaUp, PeerMoved, PeerRefused, Rekeyed
from ikev2.lines import LINES
from ikev2.pki.errors import FingerprintError
from ikev2.pki.trustpoint import MAX_FILE, Material, TrustpointError, load_trustpoint
from ikev2.show import COMMANDS, samples
from ikev2.wire import decode, explain
from stack.bus import Bus, Message
from stack.clock import Clock, OsClock
from stack.entropy import Entropy, OsEntropy
from stack.events import (
    Delta,
    HostPortState,
    InterfaceState,
    PolicyState,
    SaMoved,
    SaSoft,
    SaUnknown,
    SaWanted,
    TunnelProtected,
)
from stack.ios.grammar import Finding
from stack.net import DatagramPort, Network
from stack.registry import ServiceSpec
from stack.service import Context, ServiceShell
from stack.tables.sad import Sa, SadWriter
from stack.wire import WireError

__all__ = ["SERVICE", "Authoriser", "Ikev2Service", "check_files"]

PRODUCES: frozenset[Any] = frozenset(
    {*PRODUCED, IkeSaUp, IkeSaDown, PeerRefused, ChildSaUp, ChildSaDown, Rekeyed, PeerMoved}
)
READS: tuple[Any, ...] = (TunnelProtected, InterfaceState, PolicyState, SaWanted, SaSoft, SaMoved, SaUnknown)
"""In this order: what is wanted is best heard when it is known what for."""
CONSUMES: frozenset[Any] = frozenset({*READS, HostPortState})

IKE_PORT, NAT_PORT = 500, 4500

DATAGRAMS_A_TURN = 64
"""Datagrams that are taken from a port before anybody else has a turn."""

RETRY = 5.0
"""Seconds until a port that could not be opened is tried again."""

FAREWELL = 2.0
"""Seconds that DELETEs have to be heard when the service stops."""

AUTHORISATIONS, AUTHORISE_WITHIN = 64, 10.0
"""Questions to the embedder at once, and the seconds that each may take."""

Authoriser = Callable[[AccessRequest], Awaitable[Grant | Refusal]]


class Ikev2Service(ServiceShell):
    """`ikev2`. In a node it is given its `context`; without one it stands alone, on the bus and network that it is given.
    `debugging`: every message is logged (`debug crypto ikev2`), without its secrets."""

    name = "ikev2"
    produces = PRODUCES
    consumes = CONSUMES

    def __init__(
        self,
        config: Ikev2Config,
        context: Context | None = None,
        *,
        bus: Bus | None = None,
        network: Network | None = None,
        clock: Clock | None = None,
        entropy: Entropy = OsEntropy,
        authorise: Authoriser | None = None,
    ) -> None:
        self._alone = context is None
        if context is None:
            if bus is None or network is None:
                raise TypeError("Ikev2Service needs a context, or a bus and a network")
            context = Context(bus=bus, network=network, clock=clock or OsClock(), entropy=entropy)
        super().__init__(context)
        self._authorise = authorise
        self._asking = asyncio.Semaphore(AUTHORISATIONS)
        kept = context.kept.setdefault(self.name, Kept())
        sad = context.tables.sad
        self.speaker = Speaker(
            config,
            context.entropy,
            epoch=context.clock.wall() - context.clock.now(),
            materials=self._materials(config),
            authorises=authorise is not None,
            key_log=context.key_log is not None,
            kept=kept,
            inbound=sad.inbound,
            bundles=sad,
        )
        self._sad: SadWriter | None = None
        self._listening: frozenset[str] = frozenset({""})
        self._ports: dict[tuple[str, int], DatagramPort] = {}
        """By VRF and number."""
        self._busy: set[tuple[str, int]] = set()
        self._retry_at: float | None = None
        self._quiet = asyncio.Event()
        self.unsent = 0
        """Datagrams that the host did not take."""

    # --- the shell ------------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        self._sad = self.context.tables.sad.writer(self.name)
        self._open()
        self._perform(self.speaker.start(self.now))
        self.seat.subscribe(*READS, HostPortState)

    def receive(self, message: Message) -> None:
        if isinstance(message, Delta) and message.topic is HostPortState:
            # By another device than before, or none: what is bound to the old one hears nothing any more.
            self._close(message.rows.keys() - {""})
            self._open()
            return
        self._perform(self.speaker.receive(message, self.now))

    def wake(self) -> None:
        if self._retry_at is not None and self._retry_at <= self.now:
            self._open()
        self._perform(self.speaker.wake(self.now))

    def deadline(self) -> float | None:
        times = (self.speaker.deadline(), self._retry_at)
        return min((time for time in times if time is not None), default=None)

    async def drain(self) -> None:
        """DELETE to all peers, and a little time for them to hear it."""
        self._perform(self.speaker.stop(self.now))
        self.rearm()
        if not self.speaker.stopped:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), FAREWELL)
        self._perform(self.speaker.forget(self.now))

    def close(self) -> None:
        self._close({vrf for vrf, _ in self._ports})
        if self._alone:
            self.context.tables.sad.revoke(self.name)

    def reconfigure(self, config: Ikev2Config) -> None:
        """SAs that the change does not touch stay."""
        self._perform(self.speaker.reconfigure(config, self._materials(config), self.now))
        self.rearm()

    # --- operators ------------------------------------------------------------------------------------------------------

    @property
    def debugging(self) -> bool:
        return self.speaker.node.trace.on

    @debugging.setter
    def debugging(self, on: bool) -> None:
        self.speaker.node.trace.on = on

    def snapshot(self) -> SpeakerSnapshot:
        return self.speaker.snapshot(self.now, self.context.clock.wall())

    def clear(self, *, remote: bytes = b"", number: int = 0) -> int:
        """`clear crypto ikev2 sa`, `clear crypto session`: how many IKE SAs it meant. None named: all."""
        meant, outputs = self.speaker.clear(self.now, remote=remote, number=number)
        self._perform(outputs)
        self.rearm()
        return meant

    # --- UDP ------------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._retry_at = None
        for vrf in sorted(self._listening):
            for number in (IKE_PORT, NAT_PORT):
                if (vrf, number) not in self._ports:
                    self._open_one(vrf, number)

    def _open_one(self, vrf: str, number: int) -> None:
        try:
            port = self.context.network.datagrams(number, marked=number == NAT_PORT, vrf=vrf)
        except OSError as error:
            if (vrf, number) not in self._busy:
                self._busy.add((vrf, number))
                say = self.log.info if vrf else self.log.error
                say("cannot open a UDP port", port=number, vrf=vrf, reason=_why(error))
            self._retry_at = self.now + RETRY
            return
        self._busy.discard((vrf, number))
        self._ports[vrf, number] = port
        port.listen(self.guarded(lambda: self._readable(vrf, port)))

    def _close(self, vrfs: AbstractSet[str]) -> None:
        for vrf, number in [key for key in self._ports if key[0] in vrfs]:
            self._ports.pop((vrf, number)).close()

    def _listen(self, vrfs: frozenset[str]) -> None:
        self._close(self._listening - vrfs)
        self._listening = vrfs
        self._busy = {key for key in self._busy if key[0] in vrfs}
        self._open()

    def _readable(self, vrf: str, port: DatagramPort) -> None:
        """At most so many; what is left makes the port readable again."""
        self.speaker.set_epoch(self.context.clock.wall() - self.now)
        for _ in range(DATAGRAMS_A_TURN):
            try:
                datagram = port.receive()
            except BlockingIOError:
                break
            octets, source, source_port, destination, destination_port = datagram
            if not source_port:
                continue
            ends = Ends(destination, source, destination_port, source_port, vrf)
            if self.debugging:
                self._show("received", octets, ends)
            self._perform(self.speaker.datagram(octets, ends, self.now))
        self.rearm()

    def _send(self, octets: bytes, ends: Ends) -> None:
        port = self._ports.get((ends.vrf, ends.local_port))
        if self.debugging:
            self._show("sent", octets, ends)
        if port is None:
            self.unsent += 1
            return
        try:
            port.send(octets, ends.local, ends.remote, ends.remote_port)
        except OSError as error:
            # As if the network had lost it: it will be sent again.
            self.unsent += 1
            self.log.debug("datagram not sent", reason=_why(error))

    def _show(self, what: str, octets: bytes, ends: Ends) -> None:
        if len(octets) == 1:
            return
        try:
            text = explain(decode(octets[4:] if ends.local_port == NAT_PORT else octets))
        except WireError as error:
            text = f"malformed: {error}"
        self.log.info(what, message=text, remote=f"{'.'.join(map(str, ends.remote))}:{ends.remote_port}")

    # --- outputs --------------------------------------------------------------------------------------------------------

    def _perform(self, outputs: list[Output]) -> None:
        sad = self._sad
        assert sad is not None
        for output in outputs:
            match output:
                case Send(octets, ends):
                    self._send(octets, ends)
                case Publish(topic, rows, table):
                    self.seat.publish(topic, rows, table)
                case SyncedOut(topic):
                    self.seat.synced(topic)
                case Listen(vrfs):
                    self._listen(vrfs)
                case Post(fact):
                    self.seat.post(fact)
                case PutInbound(sa):
                    self._tell(sa)
                    if not sad.put_inbound(sa):
                        self.log.error("the SAD is full", spi=f"{sa.spi:#010x}")
                case PutOutbound(sa):
                    self._tell(sa)
                    sad.put_outbound(sa)
                case RemoveInbound(spi):
                    sad.remove_inbound(spi)
                case RemoveOutbound(key, spi):
                    sad.remove_outbound(key, spi)
                case Authorise(number, request):
                    self.spawn(self._ask(number, request), f"authorise {number}")
                case Keyed(initiator_spi, responder_spi, suite, keys):
                    self._tell_ike(initiator_spi, responder_spi, suite, keys)
                case Log(event, fields, level):
                    say = self.log.info if self.debugging and level == "debug" else getattr(self.log, level)
                    # A CHILD_SA's number is an SPI, which everybody else prints in hex.
                    say(event, **{k: f"{v:#010x}" if k == "child" else v for k, v in fields.items()})
                case _:
                    assert_never(output)
        if self.speaker.stopped:
            self._quiet.set()

    def _tell(self, sa: Sa) -> None:
        """An SA's keys to the key log, if an operator asked for one."""
        if (log := self.context.key_log) is not None:
            log.esp(sa)

    def _tell_ike(self, initiator_spi: bytes, responder_spi: bytes, suite: IkeSuite, keys: IkeKeys) -> None:
        if (log := self.context.key_log) is not None:
            log.ike(initiator_spi, responder_spi, suite.cipher, keys.ei, keys.er, suite.integrity, keys.ai, keys.ar)

    # --- the embedder ---------------------------------------------------------------------------------------------------

    async def _ask(self, number: int, request: AccessRequest) -> None:
        ask = self._authorise
        assert ask is not None
        answer: Grant | Refusal
        try:
            async with asyncio.timeout(AUTHORISE_WITHIN):
                async with self._asking:
                    answer = await ask(request)
        except TimeoutError:
            answer = Refusal(f"nobody has authorised it within {AUTHORISE_WITHIN:g} s")
        except Exception as error:
            # Its text is not ours, and may hold what should not be logged.
            answer = Refusal(f"the authorisation hook raised {type(error).__name__}")
        if not isinstance(answer, Grant | Refusal):
            answer = Refusal("the authorisation hook gave neither a Grant nor a Refusal")
        self._perform(self.speaker.authorised(number, answer, self.now))
        self.rearm()

    # --- files ----------------------------------------------------------------------------------------------------------

    def _materials(self, config: Ikev2Config) -> Mapping[str, Material | TrustpointError]:
        """Every trust point, or why it could not be loaded: that is its profiles' misfortune, and not the node's."""
        found: dict[str, Material | TrustpointError] = {}
        for name, trustpoint in config.trustpoints.items():
            if trustpoint.key_file:
                self._check_mode(name, trustpoint.key_file)
            try:
                found[name] = load_trustpoint(trustpoint, config.certificate_chains.get(name), _read)
            except TrustpointError as error:
                found[name] = error
                self.log.error("a trust point cannot be used", trustpoint=name, reason=str(error))  # noqa: TRY400  # as above
        return found

    def _check_mode(self, name: str, file: str) -> None:
        try:
            mode = Path(file).stat().st_mode
        except OSError:
            return  # load_trustpoint will say so
        if mode & 0o077:
            self.log.warning("others can read a private key", trustpoint=name, file=file, mode=f"{mode & 0o777:o}")


def check_files(config: Ikev2Config, now: float | None = None) -> Iterator[Finding]:
    """What is wrong with the trust points' files. A fingerprint that is not the authority's is an error: a node with it must
    not run; all else only keeps the profiles down that need them. `now`: seconds since 1970."""
    now = OsClock().wall() if now is None else now
    for name, trustpoint in config.trustpoints.items():
        under = f"crypto pki trustpoint {name}"
        try:
            material = load_trustpoint(trustpoint, config.certificate_chains.get(name), _read)
        except FingerprintError as error:
            yield Finding("error", str(error), f"fingerprint {trustpoint.fingerprint}", under=under)
        except TrustpointError as error:
            yield Finding("warning", f"{error}: profiles that need it stay down", under)
        else:
            for one in (*material.own, *(anchor.certificate for anchor in material.anchors)):
                if not one.not_before <= now <= one.not_after:
                    when = "is not valid yet" if now < one.not_before else "has expired"
                    yield Finding("warning", f"trustpoint {name}: certificate {one.subject} {when}", under)
            for crl in material.crls:
                if crl.next_update is not None and crl.next_update < now:
                    yield Finding("warning", f"trustpoint {name}: the CRL of {crl.issuer} is out of date", under)


def _read(file: str) -> bytes:
    with Path(file).open("rb") as stream:
        return stream.read(MAX_FILE + 1)


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__


SERVICE = ServiceSpec(
    name="ikev2",
    factory=Ikev2Service,
    config=Ikev2Config,
    produces=PRODUCES,
    consumes=CONSUMES,
    optional=frozenset({SaWanted, TunnelProtected, SaSoft, SaMoved, SaUnknown, HostPortState}),
    writes=frozenset({"sad"}),
    lines=LINES,
    checks=CHECKS,
    commands=COMMANDS,
    samples=lambda service: samples(service.snapshot()),
    words=WORDS,
    files=check_files,
    rank=40,
)
