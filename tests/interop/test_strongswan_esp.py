"""Packets between our ESP and strongSwan's own (kernel-libipsec: tunnel mode, in UDP): GRE both ways, through rekeys.

strongSwan's end of the tunnels is `GreEnd`. Whatever the tests do, no GRE is to be seen in clear on the wire.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from stack.lab.capture import Capture
from stack.lab.probe import Prober, Reply
from tests.conftest import require_root
from tests.interop.grend import GreEnd
from tests.interop.strongswan import (
    CBC128,
    CBC192,
    CBC256,
    CHACHA,
    GCM128,
    GCM256,
    US,
    Bench,
    Peer,
    benched,
    both_roles,
    wait,
)

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

FORMS = [
    peer
    for n, esp in enumerate((GCM256, GCM128, CHACHA, CBC256, CBC192, CBC128))
    for peer in both_roles(Peer(10 + 2 * n, esp=esp))
]
WORN = both_roles(
    Peer(
        40,
        esp=evolve(GCM256, proposal="aes256gcm16-ecp256"),
        profile="set pfs group19\nset security-association lifetime packets 1000",
    )
)
RENEWED = both_roles(Peer(50))
LEASED = Peer(
    60,
    tunnel="-",
    ike_profile="aaa authorization group psk list local given\nvirtual-template 1",
    connection="vips = 0.0.0.0",
)
GIVEN = Peer(70, ours=True, tunnel="ip address negotiated", connection="pools = given")
PEERS = [*FORMS, *WORN, *RENEWED, LEASED, GIVEN]

OURS = """aaa new-model
aaa authorization network local local
ip local pool given 10.99.0.10
crypto ikev2 authorization policy given
 pool given
!
interface Loopback1
 ip address 10.99.0.1 255.255.255.255
!
interface Virtual-Template1 type tunnel
 ip unnumbered Loopback1
 tunnel source Loopback0
 tunnel protection ipsec profile access
!
crypto ipsec profile access
 set transform-set c60
!
"""

THEIRS = """pools {
  given {
    addrs = 10.66.0.2/32
    subnet = 10.66.0.1/32
  }
}
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    require_root()
    with benched(tmp_path_factory.mktemp("esp"), PEERS, more=OURS, its_more=THEIRS) as bench:
        bench.start_all(PEERS)
        yield bench


@pytest.fixture(scope="module")
def far(bench: Bench) -> Iterator[GreEnd]:
    with GreEnd(bench.world.namespaces["far"]) as end:
        yield end


@pytest.fixture
def wire(bench: Bench, tmp_path: Path) -> Iterator[Capture]:
    """What passes between the two, which is never GRE in clear, nor ESP outside UDP."""
    with Capture(bench.world.namespaces["far"], "eth0", tmp_path / "wire.pcap") as capture:
        yield capture
    assert capture.total(protocol=47) == 0
    assert capture.total(protocol=50) == 0


def pings(bench: Bench, destination: str, source: str, count: int = 3, size: int = 56) -> list[Reply]:
    with Prober(destination, namespace=bench.world.namespaces["us"], source=source, size=size) as prober:
        return prober.ping(count, timeout=2)


def ends(peer: Peer) -> tuple[str, str]:
    """The overlay's addresses: ours, the far one."""
    return f"10.{peer.number}.0.1", f"10.{peer.number}.0.2"


@pytest.mark.parametrize("peer", FORMS, ids=str)
def test_pings_pass_both_ways(bench: Bench, far: GreEnd, wire: Capture, peer: Peer) -> None:
    bench.up(peer)
    own, other = ends(peer)
    for size in (0, 56, 57, 58, 59, 1300):
        replies = pings(bench, other, own, 1, size)
        assert [reply.kind for reply in replies] == ["reply"], (size, replies, bench.node.text("show counters drops"))
        assert far.ping(peer.address, US, other, own, 1, size) == 1
    child = bench.up(peer)
    for way in ("inbound", "outbound"):
        assert child[way]["packets"] == 12
        assert (child[way]["integrity-failures"], child[way]["replays"], child[way]["refused"]) == (0, 0, 0)
    assert f"ESP:{peer.esp.said}\n" in bench.said(peer)
    assert bench.said(peer).count("12 packets") == 2
    assert wire.total(protocol=17) >= 24


class Load:
    """Pings both ways while something else is done; `lost` once it is left."""

    def __init__(self, bench: Bench, far: GreEnd, peer: Peer) -> None:
        self.bench, self.far, self.peer = bench, far, peer
        self.sent = self.lost = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._ours, self._its)]

    def _ours(self) -> None:
        own, other = ends(self.peer)
        with Prober(other, namespace=self.bench.world.namespaces["us"], source=own) as prober:
            while not self._stop.is_set():
                self.sent += 1
                self.lost += not prober.once(2.0).ok

    def _its(self) -> None:
        own, other = ends(self.peer)
        while not self._stop.is_set():
            self.sent += 1
            self.lost += self.far.ping(self.peer.address, US, other, own, 1) != 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("peer", RENEWED, ids=str)
def test_it_rekeys_under_traffic_and_nothing_is_lost(bench: Bench, far: GreEnd, wire: Capture, peer: Peer) -> None:
    before = bench.up(peer)["number"]
    with Load(bench, far, peer) as load:
        for what in ("--child", "--ike", "--child"):
            at, sent = len(bench.swan(peer).log), load.sent
            bench.swan(peer).swanctl("--rekey", what, peer.conn)
            if what == "--child":
                before = bench.up(peer, other_than=before)["number"]
            else:
                bench.its(peer, r"IKE_SA \S+ rekeyed", since=at)
            wait(lambda sent=sent: load.sent > sent + 50)
    assert load.lost == 0
    assert load.sent > 150
    assert wire.total(protocol=17) > 300


@pytest.mark.parametrize("peer", WORN, ids=str)
def test_we_rekey_under_traffic_and_nothing_is_lost(bench: Bench, far: GreEnd, wire: Capture, peer: Peer) -> None:
    """A CHILD_SA carries 1000 packets; its successor has keys of an exchange of its own."""
    before = bench.up(peer)["number"]
    with Load(bench, far, peer) as load:
        for _ in range(2):
            before = bench.up(peer, other_than=before)["number"]
    assert load.lost == 0
    assert bench.up(peer)["pfs-group"] == 19
    assert wire.total(protocol=17) > 3000


def kind_of(rows: list[dict[str, Any]], prefix: str) -> str:
    return next((str(row["kind"]) for row in rows if row["prefix"] == prefix), "")


def test_a_leased_address_is_reached(bench: Bench, far: GreEnd, wire: Capture) -> None:
    """strongSwan's virtual IP is of our pool; the route to it comes and goes with the SA."""
    bench.up(LEASED)
    bench.node.until("show ip cef", lambda rows: kind_of(rows, "10.99.0.10/32") == "forward")
    assert [reply.kind for reply in pings(bench, "10.99.0.10", "10.99.0.1")] == ["reply"] * 3
    assert far.ping(LEASED.address, US, "10.99.0.10", "10.99.0.1") == 3
    bench.swan(LEASED).swanctl("--terminate", "--ike", LEASED.conn)
    bench.node.until("show ip cef", lambda rows: kind_of(rows, "10.99.0.10/32") == "discard")  # the pool's
    assert [reply.kind for reply in pings(bench, "10.99.0.10", "10.99.0.1", 1)] != ["reply"]


def test_our_negotiated_address_is_reached(bench: Bench, far: GreEnd, wire: Capture) -> None:
    bench.up(GIVEN)
    bench.node.until("show ip cef", lambda value: "10.66.0.1/32" in str(value))
    assert [reply.kind for reply in pings(bench, "10.66.0.1", "10.66.0.2")] == ["reply"] * 3
    assert far.ping(GIVEN.address, US, "10.66.0.1", "10.66.0.2") == 3


def test_nothing_leaves_in_clear_while_the_peer_is_gone(bench: Bench, far: GreEnd, wire: Capture) -> None:
    peer = FORMS[1]
    bench.up(peer)
    own, other = ends(peer)
    bench.swan(peer).swanctl("--terminate", "--ike", peer.conn)
    bench.down(peer)
    before = far.answered
    assert [reply.kind for reply in pings(bench, other, own)] != ["reply"] * 3
    assert far.answered == before
    bench.start(peer)
    bench.up(peer)
    assert [reply.kind for reply in pings(bench, other, own)] == ["reply"] * 3
