"""A small, real TCP (RFC 9293) behind asyncio.Transport: one connection.

Handshake, cumulative ACK with reassembly, fixed window, exponential retransmission with RFC 6298's timer, fast retransmit
and partial acknowledgements (RFC 6582's), FIN with half-close, RST with RFC 5961's checks, zero-window probes, MSS, path
MTU, GTSM (RFC 5082) and MD5 signatures (RFC 2385). No window scaling, SACK or congestion window: the links are simulated.
Sequence numbers are kept unwrapped (they only grow), and cut to 32 bits on the wire.
"""

from __future__ import annotations

import asyncio
import errno
from enum import Enum
from typing import TYPE_CHECKING

from attrs import define, field

from stack.addr import format_address
from stack.testing._packets import TCP, Flags, Ip, Segment, Trouble, build_ip, build_tcp
from stack.testing._port import os_error
from stack.testing._transport import TransportSide

if TYPE_CHECKING:
    from stack.testing._tcp_host import TcpHost

__all__ = ["State", "TcpConnection"]

_WINDOW = 65535
_FIRST_RTO, _MIN_RTO, _MAX_RTO = 1.0, 0.2, 60.0
_SYN_TRIES, _DATA_TRIES = 6, 15
_LINGER = 60.0
"""Seconds in TIME-WAIT, and in FIN-WAIT-2 when nobody is left to read."""


class State(Enum):
    SYN_SENT = "SYN-SENT"
    SYN_RCVD = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"
    CLOSED = "CLOSED"


_HALF_OPEN = (State.SYN_SENT, State.SYN_RCVD)


@define(eq=False, slots=False)
class TcpConnection(TransportSide):
    """`una`, `nxt`: the oldest unacknowledged and the next sequence number; `rcv`: the next one expected.

    `wnd` octets after `una` are what the peer allows. `pending` holds what was written, from `una` on. `opened` is what
    connect() waits for.
    """

    host: TcpHost = field(repr=False)
    mss: int
    una: int
    state: State = State.SYN_SENT
    rcv: int = 0
    opened: asyncio.Future[None] | None = None
    nxt: int = field(init=False)
    wnd: int = field(default=0, init=False)
    retransmitted: int = field(default=0, init=False)
    _fin_sent: bool = field(default=False, init=False)
    _pieces: dict[int, bytes] = field(factory=dict, init=False, repr=False)
    _fin_at: int = field(default=-1, init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _rto: float = field(default=_FIRST_RTO, init=False)
    _srtt: float = field(default=0.0, init=False)
    _rttvar: float = field(default=0.0, init=False)
    _timed: tuple[int, float] | None = field(default=None, init=False)
    _backoff: int = field(default=0, init=False)
    _silent: int = field(default=0, init=False)
    _duplicates: int = field(default=0, init=False)
    _recover: int = field(default=0, init=False)
    _probing: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.nxt = self.una + 1  # the SYN takes one
        self._recover = self.una
        self._emit_syn()
        self._arm()

    @property
    def key(self) -> tuple[str, bytes, int, bytes, int]:
        return (self.options.vrf, self.options.local, self.sport, self.options.remote, self.dport)

    # --- closing ---

    def close(self) -> None:
        if self.is_closing():
            return
        self.closing = True
        if self.state is State.CLOSED:
            self.lose(None)
            return
        if self.unread:
            self.abort()  # RFC 2525 2.17: unread data is lost, and the peer is to know
            return
        self.end_wanted = True
        self.pump()
        self._let_go()

    def abort(self) -> None:
        self.closing = True
        if self.state not in (*_HALF_OPEN, State.TIME_WAIT, State.CLOSED):
            self._emit(self.nxt, Flags.RST | Flags.ACK)
        self.end(None)

    def _let_go(self) -> None:
        """After close(): connection_lost once all was sent; what is left is the kernel's business."""
        if self.closing and self._fin_sent and not self.lost:
            self.lose(None)
            if self.state is State.FIN_WAIT_2:
                self._linger()

    def orphan(self) -> None:
        """The process is gone: nobody is told, and the kernel closes (RST if there was something unread)."""
        self.lost = self.closing = True
        if self.unread or self.state in _HALF_OPEN:
            self.abort()
        else:
            self.end_wanted = True
            self.pump()
            if self.state is State.FIN_WAIT_2:
                self._linger()

    def vanish(self) -> None:
        """The power failed: nobody is told, here or there."""
        self.lost = self.closing = True
        self.finish()

    def finish(self) -> None:
        """Both ends have said and acknowledged all. The owner may still read what waits, and has to close."""
        self.state = State.CLOSED
        self._stop_timer()
        self.host.forget(self)
        if self.closing:
            self.lose(None)

    def end(self, error: Exception | None) -> None:
        """No more of this connection, in any state."""
        self.state = State.CLOSED
        self._stop_timer()
        self.host.forget(self)
        self.pending.clear()
        self._pieces.clear()
        if self.opened is not None and not self.opened.done():
            self.opened.set_exception(error or ConnectionAbortedError())
        self.lose(error)

    # --- out ---

    def get_write_buffer_size(self) -> int:
        """What was written and not sent once: what is in flight is the kernel's, so to say."""
        return max(0, self.una + len(self.pending) - self.nxt) if self.state not in _HALF_OPEN else len(self.pending)

    def _emit(self, seq: int, flags: Flags, octets: bytes = b"", mss: int = 0) -> None:
        if self.state is State.CLOSED:
            return
        window = max(0, _WINDOW - len(self.unread))
        ack = self.rcv if flags & Flags.ACK else 0
        segment = Segment(self.sport, self.dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, flags, window, mss, b"", octets)
        o = self.options
        octets = build_tcp(o.local, o.remote, segment, o.md5)
        ident, tos = self.host.ident(), o.dscp << 2
        packet = build_ip(o.local, o.remote, TCP, octets, ttl=o.ttl, tos=tos, ident=ident, df=True)
        self.host.output(packet, self)

    def _emit_syn(self) -> None:
        flags = Flags.SYN if self.state is State.SYN_SENT else Flags.SYN | Flags.ACK
        self._emit(self.una, flags, mss=self.host.own_mss(self.options))

    def acknowledge(self) -> None:
        self._emit(self.nxt, Flags.ACK)

    @property
    def _room(self) -> int:
        """Octets of data in a full segment."""
        return self.mss - (20 if self.options.md5 else 0)

    def pump(self) -> None:
        """Send what the peer's window allows, then the FIN if one is due."""
        if self.state in _HALF_OPEN or self._fin_sent or self.state is State.CLOSED:
            return
        end = self.una + len(self.pending)
        while self.nxt < end:
            size = min(self._room, end - self.nxt, self.una + self.wnd - self.nxt)
            if size <= 0 or (size < min(self._room, end - self.nxt) and self.nxt > self.una):
                break  # closed, or too small to be worth it (RFC 9293 3.8.6.2.1)
            if self._timed is None:
                self._timed = (self.nxt + size, self.loop.time())
            at = self.nxt - self.una
            self.nxt += size
            self._emit(self.nxt - size, Flags.ACK | Flags.PSH, bytes(self.pending[at : at + size]))
        if self.end_wanted and self.nxt == end:
            self._fin_sent = True
            self.nxt += 1
            self.state = State.LAST_ACK if self.state is State.CLOSE_WAIT else State.FIN_WAIT_1
            self._emit(end, Flags.FIN | Flags.ACK)
            self._let_go()
        self._arm()

    def _retransmit(self) -> None:
        """The oldest segment once more."""
        self._timed = None  # RFC 6298 3: no sample from what was sent twice
        self.retransmitted += 1
        if self.state in _HALF_OPEN:
            self._emit_syn()
            return
        sent = self.nxt - self.una - self._fin_sent
        size = min(self._room, sent)
        flags = Flags.ACK | (Flags.PSH if size else Flags(0))
        if self._fin_sent and size == len(self.pending):
            flags |= Flags.FIN
        self._emit(self.una, flags, bytes(self.pending[:size]))

    def path_is_narrower(self, mss: int) -> None:
        """RFC 1191 6.4: send the lost segment again, smaller, at once."""
        if mss < self.mss and self.state not in _HALF_OPEN:
            self.mss = mss
            self._recover = self.nxt
            if self.nxt > self.una:
                self._retransmit()

    # --- timers ---

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, *, restart: bool = False) -> None:
        if restart:
            self._stop_timer()
        if self._timer is None and self.state is not State.CLOSED and (self.nxt > self.una or self.pending):
            self._timer = self.loop.call_later(min(self._rto * 2**self._backoff, _MAX_RTO), self._expired)

    def _expired(self) -> None:
        self._timer = None
        self._backoff += 1
        self._silent += 1
        if self._silent > (_SYN_TRIES if self.state in _HALF_OPEN else _DATA_TRIES):
            self.end(os_error(errno.ETIMEDOUT, f"{format_address(self.options.remote)} is silent"))
            return
        if self.nxt == self.una:
            self._probing = True
            self.nxt += 1  # a zero-window probe: one octet too many, which the peer must answer (RFC 9293 3.8.6.1)
        self._recover = self.nxt
        self._retransmit()
        self._arm()

    def _linger(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(_LINGER, self.finish)

    def _measured(self, sample: float) -> None:
        if not self._srtt:
            self._srtt, self._rttvar = sample, sample / 2
        else:
            self._rttvar += (abs(self._srtt - sample) - self._rttvar) / 4
            self._srtt += (sample - self._srtt) / 8
        self._rto = min(_MAX_RTO, max(_MIN_RTO, self._srtt + 4 * self._rttvar))

    # --- in ---

    def arrived(self, segment: Segment, ip: Ip) -> None:
        """RFC 9293 3.10.7. The caller has checked checksum and signature."""
        if ip.ttl < self.options.min_ttl:
            self.host.drops["GTSM"] += 1
        elif self.state is State.SYN_SENT:
            self._answered(segment)
        else:
            self._checked(segment)

    def _answered(self, segment: Segment) -> None:
        acceptable = segment.flags & Flags.ACK and segment.ack == self.nxt & 0xFFFFFFFF
        if segment.flags & Flags.RST:
            if acceptable:
                self.end(os_error(errno.ECONNREFUSED, format_address(self.options.remote)))
        elif segment.flags & Flags.ACK and not acceptable:
            self.host.refuse(self.options, segment)
        elif segment.flags & Flags.SYN:
            self.rcv = segment.seq + 1
            self.mss = min(self.mss, segment.mss or 536)
            if acceptable:
                self._establish(segment)
                self.acknowledge()
                self.pump()
            else:  # both called at once
                self.state = State.SYN_RCVD
                self._emit_syn()

    def _establish(self, segment: Segment) -> None:
        self.state = State.ESTABLISHED
        self.una = self.nxt
        self.wnd = segment.window
        self._silent = self._backoff = 0
        self._rto = _FIRST_RTO
        self._stop_timer()
        try:
            self.protocol = self.factory()
        except Exception as error:
            self.loop.call_exception_handler({"message": "a protocol factory raised", "exception": error})
            self._emit(self.nxt, Flags.RST | Flags.ACK)
            self.end(error)
            return
        self.call("connection_made", self)
        if self.opened is not None and not self.opened.done():
            self.opened.set_result(None)

    def _checked(self, segment: Segment) -> None:
        seq = _unwrap(segment.seq, self.rcv)
        length = len(segment.data) + bool(segment.flags & Flags.FIN)
        window = max(0, _WINDOW - len(self.unread))
        if not (seq < self.rcv + max(window, 1) and seq + length >= self.rcv):
            if not segment.flags & Flags.RST:
                if self.state is State.SYN_RCVD and segment.flags & Flags.SYN:
                    self._emit_syn()  # our answer was lost
                else:
                    self.acknowledge()
            return
        if segment.flags & Flags.RST:
            if seq == self.rcv:  # RFC 5961 3.2: else it may be forged
                self._reset()
            else:
                self.acknowledge()
        elif segment.flags & Flags.SYN:
            self.acknowledge()  # RFC 5961 4.2
        elif segment.flags & Flags.ACK and self._acked(segment):
            self._take(seq, segment, window)

    def _reset(self) -> None:
        if self.state in (State.TIME_WAIT, State.LAST_ACK, State.CLOSING):
            self.finish()
        else:
            self.end(os_error(errno.ECONNRESET, format_address(self.options.remote)))

    def _acked(self, segment: Segment) -> bool:
        """Take the acknowledgement; False if the rest of the segment is not to be looked at."""
        ack = _unwrap(segment.ack, self.una)
        if self.state is State.SYN_RCVD:
            if ack != self.nxt:
                self.host.refuse(self.options, segment)
                return False
            self._establish(segment)
        if ack > self.nxt:
            self.acknowledge()
            return False
        self._silent = 0
        moved = self.wnd != segment.window
        if ack >= self.una:
            self.wnd = segment.window
        if self._probing and (ack > self.una or self.wnd):
            self._probing = False
            self.nxt = max(self.una, ack)  # the probe was taken, or it was not and goes again with the rest
            self._arm(restart=True)
        if ack > self.una:
            self._advanced(ack)
        elif ack == self.una and not segment.data and not moved and self.nxt > self.una:
            self._duplicates += 1
            if self._duplicates == 3 and self.una >= self._recover:
                self._recover = self.nxt
                self._retransmit()
        self.pump()
        return self.state is not State.CLOSED

    def _advanced(self, ack: int) -> None:
        fin = self._fin_sent and ack == self.nxt
        del self.pending[: ack - self.una - fin]
        self.una = ack
        self._backoff = self._duplicates = 0
        if self._timed is not None and ack >= self._timed[0]:
            self._measured(self.loop.time() - self._timed[1])
            self._timed = None
        if fin:
            self._fin_acked()
            return
        if self.una < self._recover:
            self._retransmit()  # a partial acknowledgement: the next hole is lost as well
        self._arm(restart=True)
        self.written()

    def _fin_acked(self) -> None:
        self._stop_timer()
        if self.state is State.FIN_WAIT_1:
            self.state = State.FIN_WAIT_2
            if self.lost:
                self._linger()
        elif self.state is State.CLOSING:
            self.state = State.TIME_WAIT
            self._linger()
        elif self.state is State.LAST_ACK:
            self.finish()

    def _take(self, seq: int, segment: Segment, window: int) -> None:
        """Data and FIN, in order or not."""
        octets = segment.data[: max(0, self.rcv + window - seq)]
        fin = segment.flags & Flags.FIN and len(octets) == len(segment.data)
        if not segment.data and not fin:
            return
        if self.state not in (State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2):
            self.acknowledge()
            return
        if octets and self.lost:
            self._emit(self.nxt, Flags.RST | Flags.ACK)  # RFC 1122 4.2.2.13: nobody is left to read it
            self.end(None)
            return
        if fin:
            self._fin_at = seq + len(octets)
        if len(octets) > len(self._pieces.get(seq, b"")):
            self._pieces[seq] = octets
        fresh = self._in_order()
        ended = self._fin_at == self.rcv
        if ended:
            self.rcv += 1
            self._peer_ended()
        if fresh and not self.reading:
            self.unread += fresh
        self.acknowledge()
        if fresh and self.reading and not self.closing:
            self.call("data_received", fresh)
        if ended:
            self.eof()

    def _in_order(self) -> bytes:
        fresh = bytearray()
        for start in sorted(self._pieces):
            if start > self.rcv:
                break
            piece = self._pieces.pop(start)[self.rcv - start :]
            fresh += piece
            self.rcv += len(piece)
        return bytes(fresh)

    def _peer_ended(self) -> None:
        if self.state is State.ESTABLISHED:
            self.state = State.CLOSE_WAIT
        elif self.state is State.FIN_WAIT_1:
            self.state = State.CLOSING
        else:
            self.state = State.TIME_WAIT
            self._linger()

    def trouble(self, trouble: Trouble) -> None:
        """An ICMP error: the end of an attempt to connect, a hint to an established connection (RFC 5461)."""
        if self.state is State.SYN_SENT:
            number = errno.ECONNREFUSED if trouble in (Trouble.PORT, Trouble.PROTOCOL) else errno.EHOSTUNREACH
            self.end(os_error(number, format_address(self.options.remote)))


def _unwrap(number: int, near: int) -> int:
    """The unwrapped sequence number with these low 32 bits that is nearest to `near`."""
    return near + ((number - near + 0x80000000) & 0xFFFFFFFF) - 0x80000000
