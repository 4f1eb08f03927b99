"""IKEv2 and ESP with strongSwan on a Linux kernel (User-mode Linux), whose own ESP carries GRE in transport mode.

Two protected tunnels lead there: an L3VPN profile's mGRE (labelled packets of VRF red), with a pre-shared key, and Tunnel7, GRE
with IPv4 and IPv6, with certificates. FRR says by BGP what is behind the former. Whatever the tests do, no GRE is to be seen in
clear on the wire: the kernel blocks its own, so that any that there is would be ours.

    red1 --- pe1 (ours) --- namespace `far`: FRR 192.0.2.9, tap --- User-mode Linux: 192.0.2.8, 192.0.2.18 --- h8
"""

from __future__ import annotations

import re
import subprocess
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from ikev2.console import WORDS
from stack.lab.capture import Capture
from stack.lab.namespace import Namespace, World
from stack.lab.probe import Prober
from tests.conftest import require_root, require_tool
from tests.interop import xfrm
from tests.interop.frr import Frr
from tests.interop.kernelswan import KernelSwan
from tests.interop.nodes import Node
from tests.interop.pes import customer, ip, pe_config
from tests.interop.test_kernel_esp import FAR_TUNNELS, POINT, US, VPN, WAYS
from tests.interop.test_linux_datapath import FAR_PE, FRR
from tests.interop.uml import ESP_MODULES, UserModeLinux

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

CRYPTO = """
crypto ikev2 proposal core
 encryption aes-gcm-256
 prf sha384
 group 19
!
crypto ikev2 policy core
 proposal core
!
crypto ikev2 keyring core
 peer far
  address 192.0.2.8
  pre-shared-key a key for one test
 !
crypto ikev2 profile core
 match identity remote address 192.0.2.8 255.255.255.255
 authentication remote pre-share
 authentication local pre-share
 keyring local core
{dpd}!
crypto pki trustpoint lab
 certificate file {folder}/pe1.pem
 key file {folder}/pe1.key
 ca file {folder}/ca.pem
 crl file {folder}/ca.crl
!
crypto ikev2 profile cert
 match identity remote fqdn far.example
 identity local fqdn pe1.example
 authentication remote ecdsa-sig
 authentication local ecdsa-sig
 pki trustpoint lab
!
crypto ipsec transform-set core {transform}
 mode {mode}
!
crypto ipsec profile core
 set security-association lifetime packets {packets}
 {no}set security-association esn
 set transform-set core
 set pfs group19
 set ikev2-profile core
{responder}!
crypto ipsec profile cert
 set transform-set core
 set ikev2-profile cert
!
interface Tunnel7
 ip address 10.77.0.1 255.255.255.252
 ipv6 address 2001:db8:77::1/64
 tunnel source Loopback0
 tunnel destination 192.0.2.18
 tunnel mode gre ip
 tunnel protection ipsec profile cert
!
"""

SWAN = """
connections {{
  core {{
    version = 2
    local_addrs = 192.0.2.8
    remote_addrs = 192.0.2.1
    proposals = aes256gcm16-prfsha384-ecp256
    encap = {encap}
    dpd_delay = {dpd}
    local {{
      auth = psk
      id = 192.0.2.8
    }}
    remote {{
      auth = psk
      id = 192.0.2.1
    }}
    children {{
      core {{
        mode = {mode}
        local_ts = 192.0.2.8/32[gre]
        remote_ts = 192.0.2.1/32[gre]
        esp_proposals = {esp}
        replay_window = 128
      }}
    }}
  }}
  cert {{
    version = 2
    local_addrs = 192.0.2.18
    remote_addrs = 192.0.2.1
    proposals = aes256gcm16-prfsha384-ecp256
    local {{
      auth = ecdsa
      id = far.example
      certs = far.pem
    }}
    remote {{
      auth = ecdsa
      id = pe1.example
    }}
    children {{
      cert {{
        mode = transport
        local_ts = 192.0.2.18/32[gre]
        remote_ts = 192.0.2.1/32[gre]
        esp_proposals = {cert}
      }}
    }}
  }}
}}
secrets {{
  ike {{
    id = 192.0.2.1
    secret = "a key for one test"
  }}
}}
"""

SETTINGS = """
  install_routes = no
  retransmit_timeout = 1.0
  retransmit_base = 1.4
  retransmit_tries = 3
"""

BLOCK = "ip xfrm policy add src {source} dst 192.0.2.0/24 proto gre dir out action block priority 4000000"
"""A selector of its own: strongSwan's policies would replace one that is the same."""

EVERY_ESP = (
    "aes256gcm16-ecp256-esn-noesn, aes128gcm16-ecp256-esn-noesn, chacha20poly1305-ecp256-esn-noesn, "
    + ", ".join(
        f"aes{bits}-{digest}-ecp256-esn-noesn" for bits in (128, 192, 256) for digest in ("sha256", "sha384", "sha512")
    )
)


@frozen
class Form:
    """A way to protect: as IOS and as strongSwan write it, and as strongSwan says what it has."""

    transform: str
    esp: str
    said: str
    esn: bool = True
    mode: str = "transport"
    encap: str = "no"

    @property
    def proposal(self) -> str:
        return f"{self.esp}-ecp256-{'esn' if self.esn else 'noesn'}"

    def __str__(self) -> str:
        return "-".join((self.esp, "esn" if self.esn else "noesn", self.mode, *(["udp"] * (self.encap == "yes"))))


GCM = Form("esp-gcm 256", "aes256gcm16", "AES_GCM_16-256")
FORMS = [
    GCM,
    Form("esp-gcm", "aes128gcm16", "AES_GCM_16-128", esn=False),
    Form("esp-chacha20-poly1305", "chacha20poly1305", "CHACHA20_POLY1305"),
    Form("esp-aes 256 esp-sha256-hmac", "aes256-sha256", "AES_CBC-256/HMAC_SHA2_256_128"),
    Form("esp-aes 192 esp-sha384-hmac", "aes192-sha384", "AES_CBC-192/HMAC_SHA2_384_192", esn=False),
    Form("esp-aes esp-sha512-hmac", "aes128-sha512", "AES_CBC-128/HMAC_SHA2_512_256"),
    evolve(GCM, encap="yes"),
    evolve(GCM, mode="tunnel"),
]


@frozen
class Far:
    world: World
    pe: Node
    uml: UserModeLinux
    swan: KernelSwan
    far: Namespace
    folder: Path

    def configure(
        self, form: Form = GCM, *, responder: bool = False, packets: str = "disable", dpd: bool = False
    ) -> None:
        """Our side."""
        self.pe.configure(our_config(self.folder, form, responder=responder, packets=packets, dpd=dpd))

    def load(self, form: Form = GCM, esp: str = "", dpd: str = "0s") -> None:
        """Its side."""
        self.swan.load(swan_config(form, esp, dpd))

    def children(self, interface: str = "Tunnel0") -> list[Any]:
        rows = self.pe.show("show crypto ipsec sa")
        return [row for row in rows if row["interface"] == interface and row["carries"]]

    def up(self, within: float = 20.0) -> Any:
        """The CHILD_SA of the VPN, once it stands and everybody in the node has heard so."""
        self.pe.until("show crypto ipsec sa", lambda _: self.children(), within=within)
        self.pe.until("show adjacency", lambda rows: self.ready(rows))
        for command, prefix in (("show ip cef vrf red", "10.8.0.0/24"), ("show ipv6 cef vrf red", "2001:db8:8::/64")):
            self.pe.until(command, lambda value, prefix=prefix: prefix in str(value))
        return self.children()[0]

    def ready(self, rows: Any) -> bool:
        """Whether the VPN's adjacency says that it hangs on the CHILD_SA that carries."""
        found = [row for row in rows if row["interface"] == "Tunnel0" and row["address"] == VPN]
        numbers = {child["number"] for child in self.children()}
        return any(row["complete"] and row["security"]["child"] in numbers for row in found)

    def another(self, before: int) -> None:
        """The CHILD_SA of the VPN, once it is another one than `before`."""
        self.pe.until("show crypto ipsec sa", lambda _: any(child["number"] != before for child in self.children()))
        self.up()

    def down(self) -> None:
        """Nothing stands on either side."""
        self.swan.swanctl("--terminate", "--ike", "core", "--force", check=False)
        self.pe.until("show crypto ipsec sa", lambda _: not self.children())

    def reaches(self, destination: str, source: str = "", size: int = 56) -> None:
        """From the customer's host, or from an address of pe1's own."""
        namespace = self.world.namespaces["pe1" if source else "red1"]
        with Prober(destination, namespace=namespace, source=source, size=size) as prober:
            replies = prober.ping(3, timeout=2)
        assert [reply.kind for reply in replies] == ["reply"] * 3, (replies, self.pe.text("show counters drops"))

    def burst(self, count: int) -> None:
        """So many pings from the customer's host, of which none is lost."""
        command = [require_tool("ping"), "-q", "-c", str(count), "-i", "0.002", "-W", "5", "10.8.0.10"]
        with self.world.namespaces["red1"].spawn(command, stdout=subprocess.PIPE, text=True) as ping:
            said, _ = ping.communicate(timeout=60)
        assert lost(said) == 0, (said, self.pe.text("show counters drops"))

    def ping(self, destination: str, *options: str, inside: str = "ip netns exec h8") -> str:
        """What `ping` says over there."""
        return self.uml.run(f"{inside} ping -c 3 -i 0.02 -W 2 {' '.join(options)} {destination}".strip(), check=False)

    def both_ways(self) -> None:
        """Customers' packets with labels, IPv4 and IPv6, through the VPN's tunnel."""
        for destination in ("10.8.0.10", "2001:db8:8::10"):
            for size in (56, 1300):
                self.reaches(destination, size=size)
        for destination in ("10.1.1.10", "2001:db8:1::10"):
            assert " 3 received" in self.ping(destination)


def our_config(
    folder: Path, form: Form = GCM, *, responder: bool = False, packets: str = "disable", dpd: bool = False
) -> str:
    crypto = CRYPTO.format(
        folder=folder,
        transform=form.transform,
        mode=form.mode,
        no="" if form.esn else "no ",
        packets=packets,
        responder=" responder-only\n" if responder else "",
        dpd=" dpd 2 2 periodic\n" if dpd else "",
    )
    return pe_config(1, ways=WAYS, protocol="gre key 77\n protection ipsec profile core", more=crypto)


def swan_config(form: Form = GCM, esp: str = "", dpd: str = "0s") -> str:
    return SWAN.format(encap=form.encap, mode=form.mode, esp=esp or form.proposal, cert=EVERY_ESP, dpd=dpd)


def certify(folder: Path) -> None:
    """A CA, and a certificate for each end, as `labelspan pki` makes them."""
    (pki,) = WORDS
    for words in (
        ("init", str(folder), "--subject", "cn=Lab CA,o=Cisco"),
        ("issue", str(folder), "pe1", "--subject", "cn=pe1,o=Cisco", "--fqdn", "pe1.example"),
        ("issue", str(folder), "far", "--subject", "cn=far,o=Cisco", "--fqdn", "far.example"),
    ):
        parser = ArgumentParser()
        pki.add(parser)
        assert pki.run(parser.parse_args(words)) == 0


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    require_root()
    for program in ("bgpd", "tc"):
        require_tool(program)
    folder = tmp_path_factory.mktemp("far")
    certify(folder)
    files = {
        "x509/far.pem": (folder / "far.pem").read_bytes(),
        "private/far.pem": (folder / "far.key").read_bytes(),
        "x509ca/ca.pem": (folder / "ca.pem").read_bytes(),
        "x509crl/ca.crl": (folder / "ca.crl").read_bytes(),
    }
    with World() as world, ExitStack() as stack:
        pe, far = world.add("pe1"), world.add("far")
        world.cable(pe, "eth0", far, "eth0")
        customer(world, pe, 1)
        far.address("eth0", "198.51.100.9/24")
        far.address("lo", "192.0.2.9/32")
        far.sysctl(ipv4__ip_forward=1)
        far.route("192.0.2.1/32", via="198.51.100.1")
        bindings = {"Ethernet0/0": "eth0", "Ethernet0/1": "eth1"}
        node = stack.enter_context(Node(pe, our_config(folder), bindings, folder))
        uml = stack.enter_context(UserModeLinux(far, folder, modules=(*ESP_MODULES, "sch_netem")))
        far.address("tap0", "203.0.113.1/30")
        for address in (VPN, POINT):
            far.route(f"{address}/32", via="203.0.113.2")
        stack.enter_context(Frr(far, FRR))
        table = node.until("show mpls forwarding-table", lambda value: len(value) == 2)
        labels = {row["fec"].removesuffix("[V]"): row["local-label"] for row in table}
        lines = FAR_PE + FAR_TUNNELS.format(v4=labels["10.1.1.0/24"], v6=labels["2001:db8:1::/64"])
        for line in lines.strip().splitlines():
            uml.run(line)
        for address in (VPN, POINT):
            uml.run(BLOCK.format(source=address))
        swan = stack.enter_context(KernelSwan(uml, folder, swan_config(), files=files, settings=SETTINGS))
        node.until("show tunnel endpoints", lambda value: VPN in str(value))
        yield Far(world, node, uml, swan, far, folder)


@pytest.fixture
def wire(far: Far, tmp_path: Path) -> Iterator[Capture]:
    """What passes between the two, which is never GRE in clear."""
    with Capture(far.far, "tap0", tmp_path / "far.pcap") as capture:
        yield capture
    assert capture.total(protocol=47) == 0


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_we_ask_and_the_kernel_carries(far: Far, wire: Capture, form: Form) -> None:
    far.configure(responder=True)
    far.down()
    far.load(form, EVERY_ESP)
    refused = xfrm.counters(far.uml)
    far.configure(form)
    check(far, form, far.up())
    far.both_ways()
    assert xfrm.errors(far.uml, refused) == {}
    assert carried(wire, udp=form.encap == "yes") >= 2 * (4 * 3 + 2 * 3)


@pytest.mark.parametrize("form", [*FORMS[1:4], *FORMS[5:]], ids=str)
def test_the_kernel_asks_and_we_carry(far: Far, wire: Capture, form: Form) -> None:
    far.configure(form, responder=True)
    far.down()
    far.load(form)
    refused = xfrm.counters(far.uml)
    assert "completed successfully" in far.swan.initiate("core")
    child = far.up()
    check(far, form, child)
    assert not initiated(far, child)
    far.both_ways()
    assert xfrm.errors(far.uml, refused) == {}
    assert carried(wire, udp=form.encap == "yes") >= 2 * (4 * 3 + 2 * 3)


def test_both_ask_at_once(far: Far, wire: Capture) -> None:
    """Two IKE SAs come of it, and whichever CHILD_SA each end sends by, the other takes."""
    far.configure(responder=True)
    far.down()
    far.load()
    mark = far.swan.mark()
    far.uml.run("tc qdisc add dev eth0 root netem delay 1500ms")
    far.configure()
    far.swan.until(f"received packet: from {US}[500] to {VPN}[500]", since=mark)
    far.swan.swanctl("--initiate", "--child", "core", "--timeout", "4", check=False)
    far.uml.run("tc qdisc del dev eth0 root")
    far.up()
    assert len(set(re.findall(r"IKE_SA core\[(\d+)\] established", far.swan.since(mark)))) == 2
    far.both_ways()
    assert carried(wire) >= 2 * (4 * 3 + 2 * 3)


def test_what_is_not_ours_is_refused_and_nothing_passes(far: Far, wire: Capture) -> None:
    far.configure(GCM, responder=True)
    far.down()
    far.load(esp=FORMS[3].proposal)
    assert "NO_PROPOSAL_CHOSEN" in far.swan.swanctl("--initiate", "--child", "core", "--timeout", "5", check=False)
    with Prober("10.8.0.10", namespace=far.world.namespaces["red1"]) as prober:
        assert not any(reply.ok for reply in prober.ping(2, timeout=0.3))
    assert " 0 received" in far.ping("10.1.1.10", "-W 0.3")
    assert wire.total(protocol=47) == 0
    far.load()
    assert "completed successfully" in far.swan.initiate("core")
    far.up()
    far.both_ways()


def test_certificates_and_a_point_to_point_tunnel(far: Far, wire: Capture) -> None:
    """By RFC 7427 signatures of ECDSA, with a CRL; the tunnel carries IPv4 and IPv6."""
    (child,) = far.children("Tunnel7")
    assert "far.example" in child["identity"]
    for destination, source in (("10.77.0.2", "10.77.0.1"), ("2001:db8:77::2", "2001:db8:77::1")):
        far.reaches(destination, source)
        far.reaches(destination, source, 1300)
        assert " 3 received" in far.ping(source, inside="")
    assert carried(wire) == 2 * 2 * 3 * 3


class Load:
    """Pings both ways while something else is done; `lost` once it is left."""

    def __init__(self, far: Far, count: int, interval: float) -> None:
        self.far, self.count, self.interval = far, count, interval
        self.lost = (-1, -1)

    def __enter__(self) -> Load:
        command = [require_tool("ping"), "-q", "-c", str(self.count), "-i", str(self.interval), "-W", "2", "10.8.0.10"]
        self._ours = self.far.world.namespaces["red1"].spawn(command, stdout=subprocess.PIPE, text=True)
        theirs = f"ip netns exec h8 ping -q -c {self.count} -i {self.interval} -W 2 10.1.1.10"
        self.far.uml.run(f"{theirs} </dev/null >/run/load 2>&1 & load=$!")
        return self

    def __exit__(self, *_: object) -> None:
        said, _ = self._ours.communicate(timeout=self.count * self.interval + 30)
        self.far.uml.run("wait $load; true", within=60)
        self.lost = (lost(said), lost(self.far.uml.run("cat /run/load")))


def lost(said: str) -> int:
    found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
    assert found is not None, said
    return int(found[1]) - int(found[2])


def test_we_rekey_under_traffic_and_lose_nothing(far: Far, wire: Capture) -> None:
    """A CHILD_SA carries 1000 packets; each successor has keys of an exchange of its own (PFS)."""
    far.configure(packets="1000")
    far.load()
    far.up()
    mark, refused, before = far.swan.mark(), xfrm.counters(far.uml), far.children()[0]["number"]
    with Load(far, 1200, 0.005) as load:  # 2400 packets each way, so the lifetime ends twice
        pass
    assert load.lost == (0, 0), far.pe.text("show counters drops")
    assert far.children()[0]["number"] != before
    assert far.swan.since(mark).count("outbound CHILD_SA core{") == 2
    assert xfrm.errors(far.uml, refused) == {}
    assert carried(wire) >= 4 * 1200


def test_it_rekeys_under_traffic_and_nothing_is_lost(far: Far, wire: Capture) -> None:
    """CHILD_SA and IKE SA, again and again."""
    far.configure()
    far.load()
    far.up()
    mark, refused = far.swan.mark(), xfrm.counters(far.uml)
    with Load(far, 1500, 0.002) as load:
        for what in ("--child core", "--ike core", "--child core", "--ike core", "--child core"):
            far.swan.swanctl("--rekey", what)
            time.sleep(0.3)
    assert load.lost == (0, 0)
    log = far.swan.since(mark)
    assert len(far.children()) == 1
    assert log.count("outbound CHILD_SA core{") == 3
    assert len(re.findall(r"IKE_SA core\[\d+\] rekeyed", log)) == 2
    assert xfrm.errors(far.uml, refused) == {}
    assert carried(wire) >= 4 * 1500


def test_rfc7296_2_8_1_both_rekey_at_once_and_nothing_is_lost(far: Far, wire: Capture) -> None:
    """Its request is a second on its way when ours comes, which is due between 850 and 950 packets of 1000."""
    far.load()
    far.configure(packets="1000")
    far.up()
    mark, refused = far.swan.mark(), xfrm.counters(far.uml)
    for _ in range(2):
        before = far.children()[0]
        far.burst(840 - before["outbound"]["packets"])
        far.uml.run("tc qdisc add dev eth0 root netem delay 1000ms limit 10000")
        far.swan.swanctl("--rekey", "--child", "core")
        far.burst(115)
        far.another(before["number"])
        far.uml.run("tc qdisc del dev eth0 root")
        far.burst(300)
        far.pe.until("show crypto ipsec sa", lambda _: len(far.children()) == 1)
    log = far.swan.since(mark)
    assert re.search("rekey collision (won|lost)", log), log[-3000:]  # on a busy machine not every time
    assert xfrm.errors(far.uml, refused) == {}
    assert carried(wire) >= 2 * 2 * (115 + 300)


@pytest.mark.parametrize("what", ["child", "ike"])
def test_it_deletes_and_we_come_back(far: Far, wire: Capture, what: str) -> None:
    far.configure()
    far.load()
    before = far.up()["number"]
    far.swan.swanctl("--terminate", f"--{what}", "core")
    far.another(before)
    far.both_ways()
    assert carried(wire) >= 2 * (4 * 3 + 2 * 3)


def test_we_delete_and_come_back(far: Far, wire: Capture) -> None:
    far.configure()
    far.load()
    before, mark = far.up()["number"], far.swan.mark()
    far.pe.show("clear crypto session remote 192.0.2.8")
    far.swan.until("received DELETE for IKE_SA core", since=mark)
    far.another(before)
    far.both_ways()
    assert far.swan.swanctl("--list-sas", "--ike", "core").count("INSTALLED") == 1
    assert carried(wire) >= 2 * (4 * 3 + 2 * 3)


def test_a_dead_peer_is_noticed_on_either_side(far: Far, wire: Capture) -> None:
    """The way is cut without a word; both give up, nothing leaves in clear, and when it is back so is everything."""
    far.load(dpd="2s")
    far.configure(dpd=True)
    before = far.up()["number"]
    far.pe.show("clear crypto session remote 192.0.2.8")
    far.another(before)
    mark = far.swan.mark()
    far.swan.until("sending DPD request", since=mark)
    ip(far.far, "route", "replace", "blackhole", f"{VPN}/32")
    far.uml.run(f"ip route add blackhole {US}")
    try:
        far.pe.until("show crypto ipsec sa", lambda _: not far.children(), within=40)
        assert "no security association" in far.pe.text("show adjacency")
        far.swan.until("giving up after", since=mark, within=20)
    finally:
        ip(far.far, "route", "replace", f"{VPN}/32", "via", "203.0.113.2")
        far.uml.run(f"ip route del blackhole {US}")
    far.up(within=30)
    far.both_ways()
    assert carried(wire) >= 2 * (4 * 3 + 2 * 3)


def carried(wire: Capture, *, udp: bool = False) -> int:
    """Packets of ESP, all that have come until now; nothing is captured after that."""
    wire.stop()
    return wire.total(protocol=17 if udp else 50)


def initiated(far: Far, child: Any) -> bool:
    """Whether we asked for the IKE SA of a CHILD_SA."""
    (ike,) = (row for row in far.pe.show("show crypto ikev2 sa") if row["number"] == child["ike"])
    return bool(ike["initiator"])


def check(far: Far, form: Form, child: Any) -> None:
    """Both sides say what was asked for."""
    said = far.swan.swanctl("--list-sas", "--ike", "core")
    assert form.said in said
    assert ("/ESN" in said) == form.esn
    assert (child["outbound"]["esn"], child["outbound"]["mode"]) == (form.esn, form.mode)
    assert child["outbound"]["udp-encapsulation"] == (form.encap == "yes")
