"""strongSwan and one of our nodes after they have met: rekeys, deletes, dead peers, and what can take another turn on the way
there (cookies, other groups, other proposals, childless initiation, addresses from either side's pool).

Our node asks everybody for a cookie, and lives twenty times as fast as configured.
"""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator

import pytest

from stack.addr import parse_address
from tests.conftest import require_root, require_tool
from tests.interop.hasty import HastyNode
from tests.interop.strongswan import US, Bench, Esp, Peer, benched, both_roles, wait

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

PFS = Esp("esp-gcm 256", "aes256gcm16-ecp256", "AES_GCM_16-256")

REKEYS = both_roles(Peer(10, esp=PFS, profile="set pfs group19"))
REKEYS += both_roles(Peer(12))
HASTY = both_roles(Peer(20, ike_profile="lifetime 120"))
HASTY_CHILD = both_roles(
    Peer(22, esp=PFS, profile="set pfs group19\nset security-association lifetime seconds 120")
) + both_roles(Peer(24, profile="set security-association lifetime seconds 120"))
COLLIDING = [
    *both_roles(Peer(26, ike_profile="lifetime 200")),
    *both_roles(Peer(28, profile="set security-association lifetime seconds 200")),
]
DPD = both_roles(Peer(30, ike_profile="dpd 2 2 periodic", connection="dpd_delay = 1s"))
DELETES = both_roles(Peer(40))

OTHER_GROUP = Peer(50, ike="aes256gcm16-prfsha384-ecp384", connection="proposals = aes256gcm16-prfsha384-ecp521-ecp384")
OTHER_GROUP_OURS = Peer(52, ours=True, ike="aes256gcm16-prfsha384-modp4096")
OTHER_CHILD_GROUP = Peer(
    53, profile="set pfs group19", child="esp_proposals = aes256gcm16-ecp384-ecp256", connection="dpd_delay = 0s"
)
SEVERAL = Peer(
    54,
    ike="aes256gcm16-prfsha384-ecp384",
    connection="proposals = aes128-sha1-modp3072, aes192-sha512-ecp521, aes256gcm16-prfsha384-ecp384",
    child="esp_proposals = aes192-sha512, aes128-sha256, aes256gcm16",
)
NOTHING = [
    Peer(60, ours=True, connection="proposals = aes192-sha512-ecp521"),
    Peer(61, connection="proposals = aes192-sha512-ecp521"),
    Peer(62, ours=True, child="esp_proposals = aes192-sha512"),
    Peer(63, child="esp_proposals = aes192-sha512"),
]
ELSEWHERE = [
    Peer(64, ours=True, child="local_ts = 10.1.2.0/24\nremote_ts = 10.3.4.0/24"),
    Peer(65, child="local_ts = 10.1.2.0/24\nremote_ts = 10.3.4.0/24"),
]
WIDE = both_roles(Peer(66, child="local_ts = 0.0.0.0/0\nremote_ts = 0.0.0.0/0"))
CHILDLESS = Peer(70, connection="childless = force")

LEASED = [
    Peer(
        number,
        tunnel="-",
        ike_profile="aaa authorization group psk list local given\nvirtual-template 1",
        connection="vips = 0.0.0.0",
    )
    for number in (80, 81)
]
GIVEN = Peer(
    90,
    ours=True,
    tunnel="ip address negotiated\n mpls bgp forwarding",
    connection="pools = given",
    ike_profile="aaa authorization group psk list local taken",
)

PEERS = [
    *REKEYS, *HASTY, *HASTY_CHILD, *COLLIDING, *DPD, *DELETES, OTHER_GROUP, OTHER_GROUP_OURS, OTHER_CHILD_GROUP, SEVERAL,
    *NOTHING, *ELSEWHERE, *WIDE, CHILDLESS, *LEASED, GIVEN,
]  # fmt: skip

FAILING = {60, 61, 62, 63, 64, 65}

OURS = """crypto ikev2 cookie-challenge 0
aaa new-model
aaa authorization network local local
ip local pool given 10.99.0.10 10.99.0.11
crypto ikev2 authorization policy given
 pool given
 dns 10.99.0.1
 banner # welcome #
 def-domain interop.example
 route set interface Loopback1
!
crypto ikev2 authorization policy taken
!
interface Loopback1
 ip address 10.99.0.1 255.255.255.255
!
interface Virtual-Template1 type tunnel
 ip unnumbered Loopback1
 tunnel source Loopback0
 mpls bgp forwarding
 tunnel protection ipsec profile access
!
crypto ipsec profile access
 set transform-set c80
!
"""

THEIRS = """pools {
  given {
    addrs = 10.166.0.2/32
    dns = 10.166.0.1
    subnet = 10.166.0.1/32, 10.167.0.0/16
  }
}
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    require_root()
    folder = tmp_path_factory.mktemp("exchanges")
    with benched(folder, PEERS, more=OURS, its_more=THEIRS, made=HastyNode) as bench:
        bench.start_all(PEERS)
        yield bench


def mark(bench: Bench, peer: Peer) -> int:
    return len(bench.swan(peer).log)


# --- on the way there ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.number not in FAILING], ids=str)
def test_up(bench: Bench, peer: Peer) -> None:
    bench.up(peer)
    log = bench.its(peer, "CHILD_SA .* established")
    assert ("parsed IKE_SA_INIT response 0 [ N(COOKIE) ]" in log) != peer.ours


def test_it_is_asked_for_another_group(bench: Bench) -> None:
    log = bench.its_log(OTHER_GROUP)
    assert "peer didn't accept DH group ECP_521, it requested ECP_384" in log


def test_we_are_asked_for_another_group(bench: Bench) -> None:
    bench.swan(OTHER_GROUP_OURS).until("DH group CURVE_25519 unacceptable, requesting MODP_4096")
    (ike,) = bench.ike(OTHER_GROUP_OURS)
    assert ike["group"] == 16


def test_it_chose_among_several(bench: Bench) -> None:
    (ike,) = bench.ike(SEVERAL)
    assert (ike["encryption"], ike["group"]) == ("aes-gcm-256", 20)
    assert bench.up(SEVERAL)["outbound"]["cipher"] == "aes-gcm-256"


@pytest.mark.parametrize("peer", ELSEWHERE, ids=str)
def test_selectors_that_do_not_meet(bench: Bench, peer: Peer) -> None:
    bench.its(peer, r"N\(TS_UNACCEPT\)")
    if peer.ours:
        wait(lambda: "TS_UNACCEPTABLE" in bench.log(peer) and "TS_UNACCEPTABLE" in bench.reason(peer))
    else:
        wait(lambda: "CHILD_SA refused" in bench.log(peer))
        print(bench.log(peer), bench.reason(peer))
        assert "selectors" in bench.reason(peer)
    assert not peer.sas(bench.node)


@pytest.mark.parametrize("peer", WIDE, ids=str)
def test_selectors_are_narrowed_to_the_tunnel(bench: Bench, peer: Peer) -> None:
    child = bench.up(peer)
    assert [one["protocol"] for one in child["local-selectors"] + child["remote-selectors"]] == [47, 47]
    assert f"local  {peer.address}/32[gre]" in bench.said(peer)


def test_it_comes_without_a_child_first(bench: Bench) -> None:
    log = bench.its_log(CHILDLESS)
    assert re.search(r"generating IKE_AUTH request 1 \[ (?!.*SA TSi)", log)
    assert "generating CREATE_CHILD_SA request 2 [ SA No TSi TSr ]" in log


# --- addresses ----------------------------------------------------------------------------------------------------------


def test_it_has_an_address_of_our_pool(bench: Bench) -> None:
    """Each has one of its own, and an interface; the route to it comes and goes with the SA, the lease is remembered."""
    children = {peer: bench.up(peer) for peer in LEASED}
    bench.node.until("show ip local pool", lambda value: value[0]["in-use"] == 2)
    leases = {row["identity"]: row["address"] for row in bench.node.show("show ip local pool")[0]["leases"]}
    for peer, child in children.items():
        address = leases[peer.id]
        assert f"installing new virtual IP {address}" in bench.its_log(peer)
        assert child["interface"].startswith("Virtual-Access")
        assert f"via {child['interface']}" in bench.node.text(f"show ip route {address}")
    peer, stays = LEASED
    bench.swan(peer).swanctl("--terminate", "--ike", peer.conn)
    gone, kept = leases[peer.id], leases[stays.id]
    table = bench.node.until("show ip route", lambda value: f"{gone}/32" not in str(value))
    assert f"{kept}/32" in str(table)
    bench.start(peer)
    bench.up(peer)
    leases = {row["identity"]: row["address"] for row in bench.node.show("show ip local pool")[0]["leases"]}
    assert leases[peer.id] == gone


def test_we_have_an_address_of_its_pool(bench: Bench) -> None:
    """Tunnel90 has it, and the routes that come with it, as long as the SA is there."""
    bench.up(GIVEN)
    (ike,) = bench.ike(GIVEN)
    assert (ike["pushed"], ike["remote-subnets"]) == (["10.166.0.2"], ["10.166.0.1/32", "10.167.0.0/16"])
    there = ("10.166.0.2/32", "10.166.0.1/32", "10.167.0.0/16")
    bench.node.until("show ip route", lambda value: all(f"'{prefix}'" in str(value) for prefix in there))
    bench.swan(GIVEN).swanctl("--terminate", "--ike", GIVEN.conn)
    bench.node.until("show ip route", lambda value: not any(f"'{prefix}'" in str(value) for prefix in there))
    bench.up(GIVEN)
    bench.node.until("show ip route", lambda value: all(f"'{prefix}'" in str(value) for prefix in there))


# --- rekeys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", REKEYS, ids=str)
def test_it_rekeys(bench: Bench, peer: Peer) -> None:
    """CHILD_SA, IKE SA, CHILD_SA: one of each is left, and what follows works."""
    before = bench.up(peer)
    at = mark(bench, peer)
    bench.swan(peer).swanctl("--rekey", "--child", peer.conn)
    second = bench.up(peer, other_than=before["number"])
    assert second["ike"] == before["ike"]
    bench.swan(peer).swanctl("--rekey", "--ike", peer.conn)
    bench.its(peer, r"IKE_SA \S+ rekeyed", since=at)
    bench.swan(peer).swanctl("--rekey", "--child", peer.conn)
    third = bench.up(peer, other_than=second["number"])
    assert third["pfs-group"] == (19 if peer.esp is PFS else 0)
    wait(lambda: bench.said(peer).count("INSTALLED") == 1 and bench.said(peer).count("ESTABLISHED") == 1)
    assert len(bench.ike(peer)) == 1
    assert len(peer.sas(bench.node)) == 1


def test_it_is_asked_for_another_group_when_it_rekeys(bench: Bench) -> None:
    peer = OTHER_CHILD_GROUP
    before, at = bench.up(peer), mark(bench, peer)
    bench.swan(peer).swanctl("--rekey", "--child", peer.conn)
    child = bench.up(peer, other_than=before["number"])
    assert child["pfs-group"] == 19
    assert "didn't accept DH group ECP_384, it requested ECP_256" in bench.its_log(peer, at)


@pytest.mark.parametrize("peer", HASTY_CHILD, ids=str)
def test_we_rekey_a_child(bench: Bench, peer: Peer) -> None:
    before = bench.up(peer)
    child = bench.up(peer, other_than=before["number"], within=10)
    log = bench.its(peer, r"parsed CREATE_CHILD_SA request \d+ \[ N\(REKEY_SA\) SA No .*\]")
    assert child["ike"] == before["ike"]
    if peer.esp is PFS:
        assert re.search(r"parsed CREATE_CHILD_SA request \d+ \[ N\(REKEY_SA\) SA No KE TSi TSr", log)
    assert bench.said(peer).count("INSTALLED") == 1


@pytest.mark.parametrize("peer", HASTY, ids=str)
def test_we_rekey_an_ike_sa(bench: Bench, peer: Peer) -> None:
    number = bench.up(peer)["number"]
    bench.its(peer, r"parsed CREATE_CHILD_SA request \d+ \[ SA No KE \]", within=10)
    bench.its(peer, r"IKE_SA \S+ rekeyed", within=10)
    assert bench.up(peer)["number"] == number
    wait(lambda: bench.said(peer).count("ESTABLISHED") == 1)
    wait(lambda: len(bench.ike(peer)) == 1)


# --- collisions -----------------------------------------------------------------------------------------------------------


class Wire:
    """What we send to a peer in IKE: seen where it arrives, and kept from strongSwan for a while."""

    def __init__(self, bench: Bench, peer: Peer) -> None:
        self._far, self._peer = bench.world.namespaces["far"], peer
        self._socket = self._far.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)

    def __enter__(self) -> Wire:
        self._nft("add table ip kept; add chain ip kept in { type filter hook prerouting priority 0; }")
        self._nft(f"add rule ip kept in ip saddr {US} ip daddr {self._peer.address} udp dport 4500 drop")
        self._socket.bind(("eth0", 0x0800))
        self._socket.settimeout(10)
        return self

    def open(self) -> None:
        self._nft("delete table ip kept")

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _nft(self, text: str) -> None:
        command = [require_tool("nft"), text]
        self._far.run(lambda: subprocess.run(command, check=True, capture_output=True, timeout=10))

    def until(self, *, response: bool) -> None:
        """We have sent a CREATE_CHILD_SA request, or response."""
        ends = parse_address(US) + parse_address(self._peer.address)
        while True:
            packet = self._socket.recv(65536)
            ike = packet[32:]
            if packet[12:20] == ends and ike[18:19] == b"\x24" and bool(ike[19] & 0x20) == response:
                return


@pytest.mark.parametrize("peer", COLLIDING, ids=str)
def test_both_rekey_at_once(bench: Bench, peer: Peer) -> None:
    """Our request is on its way when strongSwan sends one; then each hears of the other's. One SA is left, the same at both.

    RFC 7296 2.8.1 for a CHILD_SA, 2.8.2 for an IKE SA:

        us -- CREATE_CHILD_SA --x       (kept)
           <-- CREATE_CHILD_SA --- strongSwan
           --- its answer -------x      (kept)
           --- both, again ------>
    """
    what = "ike" if "lifetime" in peer.ike_profile else "child"
    before = bench.up(peer)
    at = mark(bench, peer)
    with Wire(bench, peer) as wire:
        wire.until(response=False)
        bench.swan(peer).swanctl("--rekey", f"--{what}", peer.conn)
        wire.until(response=True)
        wire.open()
    bench.its(peer, r"collision", since=at)

    def settled() -> bool:
        said, children, ikes = bench.said(peer), peer.sas(bench.node), bench.ike(peer)
        return (
            said.count("INSTALLED") == said.count("ESTABLISHED") == len(children) == 1
            and f"out {children[0]['inbound']['spi']:08x}" in said
            and f"in  {children[0]['outbound']['spi']:08x}" in said
            # strongSwan may have forgotten the IKE SA that lost, which we keep for half a minute then.
            and any(ike["local-spi"] in said and ike["remote-spi"] in said for ike in ikes)
        )

    wait(settled, 15, lambda: f"{bench.said(peer)}{peer.sas(bench.node)}{bench.ike(peer)}")
    after = bench.up(peer)
    assert (after["number"] != before["number"]) == (what == "child")


@pytest.mark.parametrize("peer", NOTHING, ids=str)
def test_nothing_in_common(bench: Bench, peer: Peer) -> None:
    """Whoever is asked says NO_PROPOSAL_CHOSEN; ours says in log and show what was missing."""
    if peer.ours:
        wait(lambda: "NO_PROPOSAL_CHOSEN" in bench.log(peer) and "NO_PROPOSAL_CHOSEN" in bench.reason(peer))
    else:
        bench.its(peer, r"received NO_PROPOSAL_CHOSEN notify")
        refused = bench.node.show("show crypto ikev2 stats")["refused"]
        assert any("no common" in one["reason"] for one in refused if one["remote-address"] == peer.address)
    assert not peer.sas(bench.node)


# --- the end ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["child", "ike"])
@pytest.mark.parametrize("peer", DELETES, ids=str)
def test_it_deletes(bench: Bench, peer: Peer, what: str) -> None:
    bench.start(peer)
    before = bench.up(peer)
    bench.swan(peer).swanctl("--terminate", f"--{what}", peer.conn)
    if peer.ours:
        bench.up(peer, other_than=before["number"])
    else:
        bench.down(peer)


@pytest.mark.parametrize("peer", DELETES, ids=str)
def test_we_delete(bench: Bench, peer: Peer) -> None:
    bench.start(peer)
    before, at = bench.up(peer), mark(bench, peer)
    bench.node.show(f"clear crypto session remote {peer.address}")
    bench.its(peer, "received DELETE for IKE_SA", since=at)
    if peer.ours:
        bench.up(peer, other_than=before["number"])
        wait(lambda: bench.said(peer).count("ESTABLISHED") == 1)
    else:
        bench.down(peer)
        wait(lambda: not bench.said(peer).strip())


def test_a_dead_peer_is_noticed(bench: Bench) -> None:
    """The way is cut for two of them, without a word to either end; both give up, and we come back when it is open again."""
    far = bench.world.namespaces["far"]
    nft = require_tool("nft")
    marks = {peer: mark(bench, peer) for peer in DPD}
    ours, its = DPD
    for peer in DPD:
        bench.up(peer)
    addresses = ", ".join(peer.address for peer in DPD)
    rules = "add chain ip cut out { type filter hook output priority 0; }; add rule ip cut out ip saddr "

    def run(text: str) -> None:
        far.run(lambda: subprocess.run([nft, text], check=True, capture_output=True, timeout=10))

    run(f"add table ip cut; {rules} {{ {addresses} }} drop")
    try:
        for peer in DPD:
            print(bench.down(peer, within=20))
            bench.its(peer, "giving up after", since=marks[peer], within=20)
    finally:
        run("delete table ip cut")
    bench.up(ours)
    bench.start(its)
    bench.up(its)


def test_a_peer_that_has_lost_everything_replaces_what_stood(bench: Bench) -> None:
    """INITIAL_CONTACT (RFC 7296 2.4) of strongSwan."""
    (_, peer) = REKEYS[:2]
    before = bench.up(peer)["number"]
    bench.swan(peer).crash()
    bench.swan(peer).start()
    bench.start(peer)
    bench.up(peer, other_than=before)
    wait(lambda: len(bench.ike(peer)) == 1)


def test_we_have_lost_everything_and_replace_what_stood(bench: Bench) -> None:
    """INITIAL_CONTACT of ours."""
    (peer, _) = DELETES
    bench.up(peer)
    process = bench.node.process
    assert process is not None
    process.kill()
    process.wait()
    at = mark(bench, peer)
    bench.node.start()
    bench.up(peer)
    assert "N(INIT_CONTACT)" in bench.its_log(peer, at)
    wait(lambda: bench.said(peer).count("ESTABLISHED") == 1)
