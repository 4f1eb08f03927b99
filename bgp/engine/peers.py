"""A neighbour: one session, and for a while perhaps two, of which one survives (RFC 4271 6.8).

`main` is the session that the neighbour's configuration drives: it dials, waits, and is held back after failures. While it
is busy with a connection of its own, another one that the peer opened gets a session beside it, `second`. When the peer's
identifier is known from either OPEN, the collision is decided; when either is established, the other goes, and the
survivor is `main` from then on.

A dynamic neighbour (listen range) is passive and lives as long as its connection.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field, frozen

from bgp.config import BgpConfig, ConnectionMode, NeighborConfig
from bgp.engine.fsm import Input, State
from bgp.engine.outputs import Close, Connect, Log, PeerKey, PeerView, SetTtl
from bgp.engine.session import Counters, Down, PeerSession, SessionOutput, Timer, Up
from bgp.engine.session_config import hop_limits, session_families, session_timers
from bgp.engine.session_ends import End, EndReason, Hold, cease
from bgp.engine.session_open import Terms, judge
from bgp.wire import CeaseSubcode, ErrorCode, Family, Message, MessageError, Notification, Open, OpenSubcode, Update
from stack.addr import format_address

__all__ = ["Peer", "PeerOutput", "PeerSnapshot", "ours_survives"]

PeerOutput = SessionOutput | SetTtl

RESTART_TIME = 120
"""Seconds that peers are asked to keep our routes while we restart (RFC 4724 3)."""

FAULTS_LOGGED = 10
"""Malformed UPDATEs of one session that are logged one by one; all are counted."""

_HAS_OPENED = (State.OPEN_SENT, State.OPEN_CONFIRM)


@frozen
class PeerSnapshot:
    """A neighbour for `show`. Times are on the clock's scale; `since` is when it entered `state`.

    `hold`: why it is not even started (NONE: it is). Timers are the negotiated ones, 0 without a session. `last_end`:
    of the last session that was up, or what a NOTIFICATION said since; `last_attempt`: of the last attempt at one.
    """

    key: PeerKey
    config: NeighborConfig
    dynamic: bool
    asn: int
    local_asn: int
    state: State
    since: float
    hold: Hold
    local: bytes
    remote: bytes
    router_id: bytes
    local_id: bytes
    families: frozenset[Family]
    offered: frozenset[Family]
    hold_time: int
    keepalive: float
    incoming: bool
    refresh: bool
    asn4: bool
    last_received: float
    last_sent: float
    last_end: End
    last_end_at: float
    last_attempt: End
    next_attempt: float | None
    waiting_octets: int
    blocked: bool
    received: dict[str, int]
    sent: dict[str, int]
    refused: dict[str, int]
    octets_received: int
    octets_sent: int
    established: int
    dropped: int
    faulty_updates: int
    contained_faults: int
    bound: str = ""

    @property
    def ibgp(self) -> bool:
        return self.asn == self.local_asn


def ours_survives(local: tuple[bytes, int], remote: tuple[bytes, int]) -> bool:
    """Whether the connection that we opened is the one to keep. Each end is (BGP identifier, AS).

    RFC 4271 6.8: the higher identifier's connection is kept; RFC 6286 2.3: "if the BGP Identifiers of the peers are
    identical, then the connection initiated by the BGP speaker with the larger AS number is preserved".
    """
    return local > remote


@define(eq=False)
class Peer:
    """`config` has its peer group merged in. `source` is our end when we dial (b'': the host chooses).

    `plain`: it refuses capabilities. `greeted`: it has connected once. `restarted`: an earlier incarnation of this speaker
    ran, and what it had installed still forwards. `bound`: the IKEv2 identity that its address is assigned to ('' if nobody's).
    """

    key: PeerKey
    node: BgpConfig
    config: NeighborConfig
    entropy: Callable[[int], bytes]
    number: Callable[[], int]
    dynamic: bool = False
    identifier: bytes = b""
    source: bytes = b""
    hold: Hold = Hold.NO_IDENTIFIER
    plain: bool = False
    greeted: bool = False
    restarted: bool = False
    bound: str = ""
    faults_logged: int = 0
    counters: Counters = field(factory=Counters)
    last_end: End = field(factory=lambda: End(EndReason.NONE))
    last_end_at: float = 0.0
    last_attempt: End = field(factory=lambda: End(EndReason.NONE))
    second: PeerSession | None = None
    main: PeerSession = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.main = self._session()

    # --- what it is -----------------------------------------------------------------------------------------------

    @property
    def ibgp(self) -> bool:
        return self.config.remote_as == self.node.asn

    @property
    def passive(self) -> bool:
        return self.dynamic or self.config.mode is ConnectionMode.PASSIVE

    @property
    def established(self) -> bool:
        return self.main.state is State.ESTABLISHED

    @property
    def named(self) -> dict[str, str]:
        """For logs."""
        return {"peer": format_address(self.key[1]), "vrf": self.key[0] or "default"}

    def faulty(self, update: Update) -> list[Log]:
        """An UPDATE had errors, which are repaired (RFC 7606): what is logged of it."""
        self.counters.faulty_updates += 1
        if self.faults_logged >= FAULTS_LOGGED:
            return []
        self.faults_logged += 1
        return [
            Log(
                "warning",
                "malformed UPDATE",
                {**self.named, "fault": str(error), "action": error.action.name.lower()},
            )
            for error in update.errors[:FAULTS_LOGGED]
        ]

    def sessions(self) -> tuple[PeerSession, ...]:
        return (self.main,) if self.second is None else (self.main, self.second)

    def session(self, connection: int) -> PeerSession | None:
        return next((one for one in self.sessions() if one.connection == connection), None)

    def deadline(self) -> float | None:
        return min((when for one in self.sessions() if (when := one.deadline()) is not None), default=None)

    def terms(self) -> Terms:
        timers = session_timers(self.node, self.config)
        return Terms(
            asn=self.node.asn,
            peer_asn=self.config.remote_as,
            identifier=self.identifier or bytes(4),
            families=session_families(self.node, self.config),
            hold=timers.hold,
            keepalive=timers.keepalive,
            plain=self.plain,
            graceful=RESTART_TIME if self.node.graceful_restart else 0,
            restarted=self.restarted and not self.counters.established,
            forwarding=self.restarted or self.counters.established > 0,
        )

    def view(self) -> PeerView:
        """As Ribs sees it, once it is established."""
        main = self.main
        if main.agreement is None:
            raise AssertionError("an established session has an agreement")
        graceful = main.agreement.graceful
        return PeerView(
            key=self.key,
            asn=self.config.remote_as,
            local_asn=self.node.asn,
            router_id=main.agreement.peer.identifier,
            local_id=self.identifier,
            local=main.local,
            remote=main.remote or self.key[1],
            ibgp=self.ibgp,
            families=main.agreement.families,
            config=self.config,
            session=main.wire,
            refresh=main.agreement.refresh,
            dynamic=self.dynamic,
            restartable=frozenset(one.family for one in graceful.families) if graceful else frozenset(),
            forwarding=frozenset(one.family for one in graceful.families if one.forwarding)
            if graceful
            else frozenset(),
            restart_time=graceful.time if graceful else 0,
            restarted=graceful.restarted if graceful else False,
        )

    def _session(self) -> PeerSession:
        return PeerSession(
            terms=self.terms(),
            passive=self.passive,
            connect_retry=self._connect_retry(),
            entropy=self.entropy,
            number=self.number,
            connect=self._connect,
            counters=self.counters,
        )

    def _connect_retry(self) -> float:
        return max(1.0, float(session_timers(self.node, self.config).connect_retry))

    def _connect(self, number: int) -> Connect:
        limits = hop_limits(self.config, ibgp=self.ibgp)
        return Connect(
            connection=number,
            peer=self.key,
            vrf=self.key[0],
            local=self.source,
            remote=self.key[1],
            port=self.node.port,
            ttl=limits.sent,
            min_ttl=limits.accepted,
            password=self.config.password.encode(),
        )

    # --- start and stop -------------------------------------------------------------------------------------------

    def allow(self, hold: Hold, end: End, now: float) -> list[PeerOutput]:
        """`hold` NONE: it may run, so it is started if it is not. Else `end` is how it ends, if it runs."""
        self.hold = hold
        if hold is not Hold.NONE:
            return self.stop(end, now)
        return self._start(now)

    def _start(self, now: float) -> list[PeerOutput]:
        main = self.main
        if main.state is not State.IDLE or main.timer(Timer.IDLE_HOLD) is not None:
            return []
        self._renew_terms(main)
        return self._after(main, main.step(_start_input(passive=self.passive), now), now)

    def _renew_terms(self, session: PeerSession) -> None:
        session.terms, session.passive = self.terms(), self.passive
        session.connect_retry = self._connect_retry()

    def stop(self, end: End, now: float) -> list[PeerOutput]:
        """Both sessions end by `end`. With `end.again` it starts anew by itself soon."""
        outputs: list[PeerOutput] = []
        if self.second is not None:
            outputs += self._after(self.second, self.second.step(Input.AUTOMATIC_STOP, now, cause=end), now)
        main = self.main
        main.failures = 0
        if main.state is State.IDLE:
            if not end.again and main.timer(Timer.IDLE_HOLD) is not None:
                # A fresh session has no timer; whoever stopped it will start it.
                self.main = self._session()
            return outputs
        return outputs + self._after(main, main.step(Input.AUTOMATIC_STOP, now, cause=end), now)

    def restart_soon(self, now: float) -> list[PeerOutput]:
        """An operator, or a changed configuration, wants no damping."""
        if self.main.state is State.IDLE and self.hold is Hold.NONE:
            self.main = self._session()
            return self._start(now)
        return []

    def notify(self, notification: Notification, reason: EndReason, text: str, now: float) -> list[PeerOutput]:
        """The established session ends by `notification`; damped, then started again."""
        end = End(reason, notification, sent=True, text=text)
        return self._after(self.main, self.main.step(Input.AUTOMATIC_STOP, now, cause=end), now)

    def contain(self, session: PeerSession, text: str, now: float) -> list[PeerOutput]:
        """Our own fault while working on its message: this session goes, nobody else's."""
        self.counters.contained_faults += 1
        end = cease(CeaseSubcode.OUT_OF_RESOURCES, EndReason.FAULT, text=text, again=True)
        session.failures += 1
        return self._after(session, session.step(Input.AUTOMATIC_STOP, now, cause=end), now)

    # --- connections ----------------------------------------------------------------------------------------------

    def connected(self, connection: int, local: bytes, remote: bytes, now: float) -> list[PeerOutput]:
        """A connection that we dialled is up."""
        session = self.session(connection)
        if session is None:
            return [Close(connection, abort=True)]
        self._renew_terms(session)
        return self._after(
            session, session.connected(connection, incoming=False, local=local, remote=remote, now=now), now
        )

    def failed(self, connection: int, reason: EndReason, text: str, now: float) -> list[PeerOutput]:
        """A connection could not be opened, or is gone."""
        session = self.session(connection)
        if session is None:
            return []
        return self._after(session, session.tcp_failed(reason, text, now), now)

    def accept(self, connection: int, local: bytes, remote: bytes, now: float) -> list[PeerOutput]:
        """The peer connected. What cannot be taken is closed without a word, and counted by reason."""
        self.greeted = True
        session = self._seat_for_incoming()
        if isinstance(session, str):
            self.counters.count(self.counters.refused, session)
            return [Close(connection, abort=True)]
        outputs: list[PeerOutput] = []
        if session is None or session is not self.main:
            if session is not None and session.connection is not None:
                self.counters.count(self.counters.refused, "replaced by a newer connection")
                outputs.append(Close(session.connection, abort=True))
            session = self.second = self._session()
            session.step(Input.AUTOMATIC_START_PASSIVE, now)
        self._renew_terms(session)
        limits = hop_limits(self.config, ibgp=self.ibgp)
        outputs.append(SetTtl(connection, limits.sent, limits.accepted))
        opened = session.connected(connection, incoming=True, local=local, remote=remote, now=now)
        return outputs + self._after(session, opened, now)

    def _seat_for_incoming(self) -> PeerSession | str | None:
        """The session to give the new connection to (None: a fresh second one), or why there is none."""
        main, second = self.main, self.second
        if self.hold is not Hold.NONE:
            return str(self.hold.value)
        if self.config.mode is ConnectionMode.ACTIVE and not self.dynamic:
            return "the neighbor is active only"
        if main.state is State.IDLE:
            # "In this state, BGP FSM refuses all incoming BGP connections for this peer." (RFC 4271 8.2.2, Idle)
            return "idle"
        if main.state is State.ESTABLISHED:
            # "a connection collision with an existing BGP connection that is in the Established state causes closing of
            # the newly created connection" (6.8)
            return "established"
        if main.state is State.ACTIVE:
            return main
        if second is not None and second.state is not State.OPEN_SENT:
            return "two connections already"
        return second

    # --- messages -------------------------------------------------------------------------------------------------

    def receive(self, session: PeerSession, message: Message, now: float) -> list[PeerOutput]:
        """A message on `session`. OPEN is judged here, since it may end the other session or this one."""
        if isinstance(message, Open) and session.state is State.OPEN_SENT:
            refusal = judge(message, session.terms)
            if refusal is not None:
                return self._after(session, session.refuse_open(refusal, now), now)
            outputs, survives = self._collide(session, message, now)
            return outputs + (self._after(session, session.receive(message, now), now) if survives else [])
        if isinstance(message, Notification):
            self._learn_from(message)
        return self._after(session, session.receive(message, now), now)

    def wrong(self, session: PeerSession, error: MessageError, now: float) -> list[PeerOutput]:
        return self._after(session, session.wrong(error, now), now)

    def _learn_from(self, notification: Notification) -> None:
        """RFC 5492 3: who refuses the Capabilities parameter may be asked again without it."""
        refused = (ErrorCode.OPEN, OpenSubcode.UNSUPPORTED_PARAMETER)
        if (notification.code, notification.subcode) == refused and not self.plain:
            self.plain = True

    def _collide(self, session: PeerSession, message: Open, now: float) -> tuple[list[PeerOutput], bool]:
        """RFC 4271 6.8, upon OPEN. The other session may still be in OpenSent: the OPEN in hand names its peer as well.

        Answers what to do, and whether `session` survives.
        """
        other = self.main if session is not self.main else self.second
        if other is None or other.state not in _HAS_OPENED:
            return [], True
        if session.incoming == other.incoming:
            keep = max(session, other, key=lambda one: one.connection or 0)
        else:
            ours = ours_survives((self.identifier, self.node.asn), (message.identifier, message.asn))
            keep = session if session.incoming != ours else other
        lost = other if keep is session else session
        end = cease(CeaseSubcode.COLLISION, EndReason.COLLISION)
        return self._after(lost, lost.step(Input.COLLISION_DUMP, now, cause=end), now), keep is session

    # --- time -----------------------------------------------------------------------------------------------------

    def wake(self, now: float) -> list[PeerOutput]:
        outputs: list[PeerOutput] = []
        for session in self.sessions():
            outputs += self._after(session, session.wake(now), now)
        return outputs

    def _after(self, session: PeerSession, outputs: list[SessionOutput], now: float) -> list[PeerOutput]:
        """What a session's outputs mean for the peer: which session stays, and what is told to the outside."""
        told: list[PeerOutput] = []
        for output in outputs:
            if isinstance(output, Up):
                told += self._promote(session, now)
                told.append(output)
            elif isinstance(output, Down):
                self._remember(output, now)
                told.append(output)
            else:
                told.append(output)
        if session is self.second and session.state in (State.IDLE, State.ACTIVE):
            self.second = None
        if session is self.main and self.second is not None and session.state is State.IDLE:
            # It lost the collision, or failed; the connection that is left carries on, with its count of failures.
            self.second.failures = session.failures
            self.main, self.second = self.second, None
        return told

    def _remember(self, down: Down, now: float) -> None:
        """A session's end, and what a NOTIFICATION said, stay until the next one; failed attempts are kept apart."""
        if down.end.reason is EndReason.COLLISION:
            return
        self.last_attempt = down.end
        if down.established or down.end.notification is not None:
            self.last_end, self.last_end_at = down.end, now

    def _promote(self, session: PeerSession, now: float) -> list[PeerOutput]:
        """`session` is established: "all other connections for this peer are closed" (RFC 4271 6.8)."""
        other = self.second if session is self.main else self.main
        self.second = None
        self.main = session
        if other is None:
            return []
        session.failures = max(session.failures, other.failures)
        end = cease(CeaseSubcode.COLLISION, EndReason.COLLISION)
        # The lost session's Down is of no interest: the peer is up.
        return [one for one in other.step(Input.COLLISION_DUMP, now, cause=end) if not isinstance(one, Down)]

    # --- show -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> PeerSnapshot:
        main = self.main if self.second is None else max(self.main, self.second, key=lambda one: _ORDER[one.state])
        agreement = main.agreement if main.state in (State.OPEN_CONFIRM, State.ESTABLISHED) else None
        attempts = [when for timer in (Timer.CONNECT_RETRY, Timer.IDLE_HOLD) if (when := main.timer(timer)) is not None]
        counters = self.counters
        return PeerSnapshot(
            key=self.key,
            config=self.config,
            dynamic=self.dynamic,
            asn=self.config.remote_as,
            local_asn=self.node.asn,
            state=main.state,
            since=main.since,
            hold=self.hold,
            local=main.local if main.tcp_up else self.source,
            remote=self.key[1],
            router_id=agreement.peer.identifier if agreement else b"",
            local_id=self.identifier,
            families=agreement.families if agreement else frozenset(),
            offered=main.terms.families,
            hold_time=agreement.hold if agreement else 0,
            keepalive=agreement.keepalive if agreement else 0.0,
            incoming=main.incoming,
            refresh=agreement.refresh if agreement else False,
            asn4=main.wire.asn4 if agreement else False,
            last_received=main.last_received,
            last_sent=main.last_sent,
            last_end=self.last_end,
            last_end_at=self.last_end_at,
            last_attempt=self.last_attempt,
            next_attempt=min(attempts, default=None),
            waiting_octets=len(main.stream),
            blocked=main.choked,
            received=dict(counters.received),
            sent=dict(counters.sent),
            refused=dict(counters.refused),
            octets_received=counters.octets_received,
            octets_sent=counters.octets_sent,
            established=counters.established,
            dropped=counters.dropped,
            faulty_updates=counters.faulty_updates,
            contained_faults=counters.contained_faults,
            bound=self.bound,
        )


_ORDER = {state: place for place, state in enumerate(State)}


def _start_input(*, passive: bool) -> Input:
    return Input.AUTOMATIC_START_PASSIVE if passive else Input.AUTOMATIC_START
