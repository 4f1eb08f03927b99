"""Ports that fail: traps 3 and 8. Errors are cleared, counted by errno's name, and never end a reader."""

from __future__ import annotations

import errno

import pytest

from stack.tables.fib import LeafKind
from tests.tunnel.io.world import (
    CE,
    CUST1,
    E0,
    OURS,
    PE2,
    REMOTE,
    TUNNEL,
    FakePort,
    World,
    frame,
    labelled,
    lower_ttl,
    udp4,
    unwrapped,
)
from tunnel.io import ports as ports_module
from tunnel.io.batch import Arena, Intake, SendQueue
from tunnel.io.counters import Counters, Drop, Slow
from tunnel.io.ports import Outlets
from tunnel.io.show import drops, interfaces


def os_error(number: int) -> OSError:
    return OSError(number, "told by the port")


@pytest.fixture
def single():
    return World(batch=False)


@pytest.mark.parametrize("warm", [False, True])
def test_trap_8_an_icmp_error_of_a_connected_socket_is_cleared_and_the_packet_sent(single, warm):
    if warm:
        single.same(E0, frame(udp4()))
    else:
        single.into(E0, frame(udp4()))
    port = single.ports["raw 47 2"]
    port.send_errors.append(os_error(errno.ENOPROTOOPT))  # 92, as it was seen
    assert single.into(E0, frame(udp4()))["raw 47 2"]
    assert single.dropped() == {}
    assert single.forwarder.snapshot().errors == (("raw 47 2", "ENOPROTOOPT", 1),)


def test_trap_8_an_error_that_stays_drops_the_packet(single):
    single.same(E0, frame(udp4()))
    single.ports["raw 47 2"].send_errors.extend([os_error(errno.EMSGSIZE)] * 2)
    assert single.into(E0, frame(udp4())) == {}
    assert single.forwarder.counters.drops == {(Drop.PORT_ERROR, TUNNEL): 1}
    single.ports["raw 47 2"].send_errors.append(BlockingIOError(errno.EAGAIN, "full"))
    assert single.into(E0, frame(udp4())) == {}
    single.ports["raw 47 2"].send_errors.extend([os_error(errno.EPROTO), BlockingIOError(errno.EAGAIN, "full")])
    assert single.into(E0, frame(udp4())) == {}
    assert single.forwarder.counters.drops[Drop.QUEUE_FULL, TUNNEL] == 2
    assert single.into(E0, frame(udp4()))["raw 47 2"]


@pytest.mark.parametrize("name", [E0, "gre", "host cust1", "mpls-in-ip"])
def test_trap_8_a_reader_outlives_what_its_port_reports(single, name):
    again = []
    single.readers[name].again = lambda: again.append(name)
    single.ports[name].recv_errors.append(os_error(errno.ENETDOWN))
    assert single.into(name) == {}
    assert again == [name]
    assert single.forwarder.snapshot().errors == ((name, "ENETDOWN", 1),)
    if name == E0:
        single.ports[name].put(bytes(10) + frame(udp4()))
        single.readers[name].drain()
        assert single.sent()["raw 47 2"]


def test_errors_of_the_host_port_and_of_errors_without_a_name(single):
    single.ports["host cust1"].send_errors.extend([OSError("no number"), BlockingIOError(errno.EAGAIN, "full")])
    assert single.into(E0, frame(udp4(CE, OURS)), frame(udp4(CE, OURS))) == {}
    assert single.forwarder.snapshot().errors == (("host cust1", "OSError", 1),)
    assert single.dropped() == {Drop.PORT_ERROR: 1, Drop.QUEUE_FULL: 1}


def test_a_batch_that_does_not_go_as_a_whole():
    """The kernel takes some and then says why it takes no more: those that went are counted once, the others by reason."""
    world = World(batch=True)
    world.same(E0, frame(udp4()))
    world.ports["raw 47 2"]._tx[0].setsockopt(1, 7, 4608)  # SO_SNDBUF
    tally = world.forwarder.counters.out_of(TUNNEL)
    tally[:] = [0, 0]
    out = world.into(E0, *[frame(udp4(size=900))] * 30)["raw 47 2"]
    assert 0 < len(out) < 30
    assert world.dropped() == {Drop.QUEUE_FULL: 30 - len(out)}
    assert tally == [len(out), 920 * len(out)]
    assert all(unwrapped(octets)[3] == lower_ttl(udp4(size=900)) for octets in out)


def test_a_batch_whose_port_is_broken():
    world = World(batch=True)
    world.same(E0, frame(udp4()))
    for end in world.ports["raw 47 2"]._tx:
        end.close()
    world.ports["raw 47 2"].closed = True
    tally = list(world.forwarder.counters.out_of(TUNNEL))
    assert world.into(E0, frame(udp4()), frame(udp4())) == {}
    assert world.dropped() == {Drop.PORT_ERROR: 2}
    assert world.forwarder.counters.out_of(TUNNEL) == tally
    assert world.forwarder.snapshot().errors == (("raw 47 2", "EBADF", 4),)


def test_a_descriptor_is_not_used_once_its_port_is_gone():
    """A closed port's number may be another socket's soon: queues and intakes forget it."""
    world = World(batch=True)
    world.same(E0, frame(udp4()))
    queue = world.forwarder.outlets.queue(world.ports["raw 47 2"])
    world.w["adjacencies"].remove(next(a.key for a in world.tables.adjacencies if a.destination == PE2))
    world.into(E0, frame(udp4()))
    assert queue.descriptor == -1
    reader = world.readers[E0]
    reader.close()
    world.ports[E0].put(bytes(10) + frame(udp4()))
    reader.drain()
    assert reader.closed
    assert world.sent() == {}


def test_an_intake_tells_errors_of_its_descriptor():
    port = FakePort("p", batch=True)
    intake = Intake(port, Arena())
    assert intake.fill() == ()
    assert intake.error is None
    for octets in (b"one", b"three"):
        port.put(octets)
    assert list(intake.fill()) == [3, 5]
    port.close()
    assert intake.fill() == ()
    assert intake.error.errno == errno.EBADF
    assert SendQueue.of(FakePort("q")) is None


def test_packets_of_one_flow_stay_in_order_when_some_are_slow():
    """Options make a packet slow: what waits in the batch goes before it."""
    for batch in (False, True):
        world = World(batch=batch)
        world.same(E0, frame(udp4()))
        packets = [udp4(identification=n, options=bytes.fromhex("94040000") if n % 3 == 2 else b"") for n in range(9)]
        out = world.into(E0, *[frame(packet) for packet in packets])["raw 47 2"]
        assert [int.from_bytes(unwrapped(octets)[3][4:6]) for octets in out] == list(range(9))


def test_a_batch_is_64_packets(world):
    world.into(E0, frame(udp4()))
    for n in range(70):
        world.ports[E0].put(bytes(world.headroom) + frame(udp4(identification=n)))
    world.readers[E0].drain()
    assert len(world.sent()["raw 47 2"]) == 64
    world.readers[E0].drain()
    assert len(world.sent()["raw 47 2"]) == 6


def test_connected_sockets_are_bounded(monkeypatch):
    monkeypatch.setattr(ports_module, "MAX_REMOTES", 3)
    opened = []

    def open_raw(protocol: int, remote: bytes) -> FakePort:
        opened.append(FakePort(remote.hex()))
        return opened[-1]

    outlets = Outlets(open_raw, Counters())
    for n in range(5):
        outlets.remote(47, bytes((192, 0, 2, n)))
    assert len(outlets) == 3
    assert [port.closed for port in opened] == [True, True, False, False, False]
    assert outlets.remote(47, bytes((192, 0, 2, 4))) is opened[4]
    outlets.close()
    assert all(port.closed for port in opened)


def test_when_the_process_may_open_no_more_files_the_oldest_makes_room():
    opened: list[FakePort] = []

    def open_raw(protocol: int, remote: bytes) -> FakePort:
        if len([port for port in opened if not port.closed]) >= 2:
            raise OSError(errno.EMFILE, "too many open files")
        opened.append(FakePort(remote.hex()))
        return opened[-1]

    counters = Counters()
    outlets = Outlets(open_raw, counters)
    assert all(outlets.remote(47, bytes((192, 0, 2, n))) for n in range(4))
    assert counters.errors == {}


def test_show_counters_drops():
    world = World()
    world.into(E0, frame(udp4()), frame(udp4(ttl=1)), frame(udp4(CE, OURS)))
    world.route(CUST1, "10.2.0.0/16", LeafKind.FORWARD, 99)
    world.into(E0, frame(udp4()))
    world.into("gre", labelled(udp4(REMOTE, CE), 99))
    shown = drops(world.forwarder.snapshot())
    assert shown.text.splitlines()[:4] == [
        "     Packets  Interface                Reason",
        "           1  Ethernet0/0              TTL expired",
        "           1  Tunnel0                  unknown label",
        "           1  Ethernet0/0              next hop unusable",
    ]
    assert shown.value["slow"] == {"ICMP_SENT": 2, "TO_HOST": 1}
    assert {"reason": "LABEL_UNKNOWN", "interface": TUNNEL, "packets": 1} in shown.value["drops"]
    table = interfaces(world.forwarder.snapshot())
    assert any(row["interface"] == E0 and row["packets_in"] == 4 for row in table.value)
    assert drops(World().forwarder.snapshot()).text == "No packet was dropped"


def test_every_reason_has_a_text_of_its_own():
    texts = [reason.value for reason in Drop] + [what.value for what in Slow]
    assert len(set(texts)) == len(texts)
