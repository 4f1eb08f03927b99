"""The FlexVPN document's own configurations as three real nodes: RSA certificates, addresses from the hub's pool, an
interface for each spoke, BGP and two customers' VPNs over it, all of it in ESP.

    customers .10 of 192.168.110/24, .111/24 -- hub 172.16.0.1 --- core --- spoke1 172.16.1.103
                                                                    \\----- spoke2 172.16.1.104

Only what a certification authority of one's own demands is replaced in the listings: the fingerprint, and the lines that
say which files hold certificates and keys. The spokes have no line of NHRP: the hub tells them of a better way, and they stay.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from stack.cli import main as labelspan
from stack.lab.capture import Capture
from stack.lab.namespace import Namespace, World
from stack.lab.probe import Prober
from stack.wire import internet_checksum
from tests.conftest import require_root
from tests.interop.nodes import Node
from tests.interop.pes import ip

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ROOT / "tests" / "stack" / "ios" / "documents"
GRE, ESP = 47, 50

HUB, SPOKES = "hub", ("spoke1", "spoke2")
IDENTITIES = {"spoke1": "R3-Spoke.cisco.com", "spoke2": "R4.cisco.com"}
OUTER = {"spoke1": "172.16.1.103", "spoke2": "172.16.1.104"}
SITES = {"spoke1": ("192.168.113.0/24", "192.168.123.0/24"), "spoke2": ("192.168.114.0/24", "192.168.124.0/24")}
CERTIFICATES = {
    "hub": ("CN=R1-HUB.cisco.com,OU=FLEX,OU=VPN,O=Cisco Systems,C=US,L=Linux", "R1-HUB.cisco.com"),
    "spoke1": ("cn=R3-spoke.cisco.com,OU=FLEX,O=Cisco", "R3-Spoke.cisco.com"),
    "spoke2": ("cn=R4-Spoke.cisco.com,OU=Flex,O=Cisco", "R4.cisco.com"),
}


# --- an authority, and the listings with its lines ------------------------------------------------------------------------


def pki(*words: str) -> str:
    """What `labelspan pki ...` prints."""
    out = StringIO()
    with redirect_stdout(out):
        assert labelspan(["pki", *words]) == 0, words
    return out.getvalue()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    pki("init", str(folder), "--subject", "cn=CA,o=Cisco", "--key", "rsa2048")
    for name, (subject, fqdn) in CERTIFICATES.items():
        pki("issue", str(folder), name, "--subject", subject, "--fqdn", fqdn, "--key", "rsa2048")
    return folder


def md5(authority: Path) -> str:
    """As the listings have it."""
    lines = pki("fingerprint", str(authority / "ca.pem")).splitlines()
    return next(line.split()[1] for line in lines if "MD5" in line)


def listing(name: str, authority: Path, *, fingerprint: str = "", changes: Mapping[str, str] = {}) -> str:
    """The document's, for the authority that we have."""
    files = {"certificate": f"{name}.pem", "key": f"{name}.key", "ca": "ca.pem", "crl": "ca.crl"}
    ours = "".join(f"{what} file {authority / file}\n" for what, file in files.items())
    lines = []
    for line in (DOCUMENTS / f"flexvpn_{name}.cfg").read_text().splitlines(keepends=True):
        if line.startswith("fingerprint "):
            lines.append(f"fingerprint {fingerprint or md5(authority)}\n{ours}")
        else:
            lines.append(line)
    text = "".join(lines)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


# --- the network of the document -------------------------------------------------------------------------------------------


@define(eq=False)
class Network:
    """Three nodes, a core that routes between them, and a capture of every link to it."""

    authority: Path
    folder: Path
    world: World = field(factory=World)
    nodes: dict[str, Node] = field(factory=dict)
    captures: list[Capture] = field(factory=list)
    leased: dict[str, str] = field(factory=dict)
    """Spoke -> the overlay address that it got first."""

    def build(self) -> None:
        core = self.world.add("core")
        for name in (HUB, *SPOKES):
            self.world.cable(self.world.add(name), "eth0", core, f"to-{name}")
        ip(core, "link", "add", "br0", "type", "bridge")
        ip(core, "link", "set", "br0", "up")
        for name in SPOKES:
            ip(core, "link", "set", f"to-{name}", "master", "br0")
            self.world.cable(self.world.namespaces[name], "eth1", self.world.add(f"lan-{name}"), "eth0")
        core.address("to-hub", "172.16.0.2/30")
        core.address("br0", "172.16.1.1/24")
        core.sysctl(ipv4__ip_forward=1)
        for number, net in enumerate((100, 110, 111), 1):
            host = self.world.add(f"host{net}")
            self.world.cable(self.world.namespaces[HUB], f"eth{number}", host, "eth0")
            host.address("eth0", f"192.168.{net}.10/24")
            host.route("default", via=f"192.168.{net}.1")
        self.captures = [Capture(core, f"to-{name}") for name in (HUB, *SPOKES)]

    def node(self, name: str, text: str = "") -> Node:
        """Not started."""
        devices = 4 if name == HUB else 2
        bindings = {f"Ethernet0/{number}": f"eth{number}" for number in range(devices)}
        text = text or listing(name, self.authority)
        self.nodes[name] = Node(self.world.namespaces[name], text, bindings, self.folder)
        return self.nodes[name]

    def start(self, *names: str) -> None:
        """At once: most of a start is Python's."""
        for name in names:
            self.nodes[name].launch()
        for name in names:
            self.nodes[name].ready()

    @property
    def hub(self) -> Node:
        return self.nodes[HUB]

    def settled(self) -> None:
        """Both spokes are in, and their customers' routes at the hub."""
        for name in SPOKES:
            self.up(name)

    def up(self, name: str) -> str:
        """The spoke's overlay address, once its routes are at the hub, and the hub's with it."""
        self.hub.until("show ip bgp vpnv4 all", lambda value: all(site in str(value) for site in SITES[name]))
        self.nodes[name].until("show ip bgp vpnv4 all", lambda value: "192.168.110.0/24" in str(value))
        address = overlay(self.nodes[name])
        self.leased.setdefault(name, address)
        return address

    def gone(self, name: str, *, bgp: bool = True) -> None:
        """Nothing of a spoke is left at the hub, but that its address is remembered. `bgp`: it has said good-bye there too."""
        hub, address = self.hub, self.leased[name]
        hub.until("show ip route", lambda rows: f"{address}/32" not in prefixes(rows))
        hub.until("show interfaces", lambda rows: IDENTITIES[name] not in str(rows))
        if bgp:
            hub.until("show ip bgp vpnv4 all", lambda value: SITES[name][0] not in str(value))
        assert IDENTITIES[name] not in str(hub.show("show crypto ikev2 sa"))
        assert OUTER[name] not in str(hub.show("show crypto ipsec sa"))
        (lease,) = [lease for lease in leases(hub) if lease["identity"] == IDENTITIES[name]]
        assert (lease["address"], lease["in-use"]) == (address, False)

    def clear_gre(self) -> int:
        return sum(capture.total(protocol=GRE) for capture in self.captures)

    def sealed(self) -> int:
        return sum(capture.total(protocol=ESP) for capture in self.captures)

    def close(self) -> None:
        for node in self.nodes.values():
            if node.process is not None:
                node.stop()
        for capture in self.captures:
            capture.stop()
        self.world.close()


@pytest.fixture(scope="module")
def network(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    require_root()
    network = Network(authority, tmp_path_factory.mktemp("nodes"))
    try:
        network.build()
        for name in (HUB, *SPOKES):
            network.node(name)
        network.start(HUB, *SPOKES)
        yield network
    finally:
        network.close()
    assert network.clear_gre() == 0
    for node in network.nodes.values():
        assert "Traceback" not in node.log.read_text()


@pytest.fixture
def settled(network: Network) -> Network:
    network.settled()
    return network


def prefixes(rows: Any) -> set[str]:
    """Of routes that lead somewhere: what nobody holds of an address pool is discarded."""
    return {row["prefix"] for row in rows if any(one["vias"] for one in row["candidates"])}


def route(node: Node, prefix: str) -> dict[str, Any]:
    (row,) = [row for row in node.show("show ip route") if row["prefix"] == prefix]
    return dict(row)


def out_of(row: Mapping[str, Any]) -> set[str]:
    return {via["interface"] for one in row["candidates"] if one["usable"] for via in one["vias"]}


def overlay(spoke: Node) -> str:
    (tunnel,) = spoke.show("show interfaces Tunnel0")
    (held,) = tunnel["addresses"]
    assert (held["length"], held["origin"]) == (32, "negotiated")
    return str(held["address"])


def leases(hub: Node) -> list[dict[str, Any]]:
    return list(hub.show("show ip local pool mypool")[0]["leases"])


def clone_of(hub: Node, name: str) -> dict[str, Any]:
    """The hub's interface to a spoke."""
    (row,) = [row for row in hub.show("show interfaces") if row["description"].endswith(IDENTITIES[name])]
    return dict(row)


def pinged(source: Namespace, target: str, *, times: int = 3) -> int:
    with Prober(target, namespace=source) as prober:
        return sum(prober.once().ok for _ in range(times))


def implicit_null(node: Node, vrf: str, destination: str, interface: str) -> None:
    """A VPN route's label stack ends, for the far end of a tunnel, in an implicit null: nothing but the VPN label is pushed."""
    last = node.show(f"show ip cef vrf {vrf} {destination}")["chain"][-1]
    assert (last["type"], last["interface"], last["implicit-null"]) == ("attached host", interface, True)
    assert f"label implicit-null TAG midchain out of {interface} " in node.text(f"show ip cef vrf {vrf} {destination}")


# --- as printed ---------------------------------------------------------------------------------------------------------


def test_each_spoke_gets_an_address_and_the_hub_an_interface_for_it(settled: Network) -> None:
    hub = settled.hub
    assert len(set(settled.leased.values())) == 2
    for name in SPOKES:
        spoke, address, clone = settled.nodes[name], settled.leased[name], clone_of(hub, name)
        # the spoke: its own address, and the hub's by the listing's static route
        assert address.startswith("10.1.1.")
        assert route(spoke, f"{address}/32")["selected"] == "connected"
        assert out_of(route(spoke, "10.0.0.1/32")) == {"Tunnel0"}
        # the hub: a clone of the template, and a host route out of it
        assert clone["name"].startswith("Virtual-Access")
        assert (clone["parent"], clone["up"], clone["mpls"]) == ("Virtual-Template1", True, True)
        assert [held["address"] for held in clone["addresses"]] == ["10.0.0.1"]
        assert route(hub, f"{address}/32")["selected"] == "ikev2"
        assert out_of(route(hub, f"{address}/32")) == {clone["name"]}
    assert {(lease["identity"], lease["in-use"]) for lease in leases(hub)} == {
        (identity, True) for identity in IDENTITIES.values()
    }


def test_implicit_null_is_bound_both_ways(settled: Network) -> None:
    """For the address that the hub gave (mode config's reply) and that the spoke confirms (its set); and on the spokes for a
    static host route out of the tunnel, for this hub announces nothing."""
    for name in SPOKES:
        implicit_null(
            settled.hub, "cust1", SITES[name][0].replace(".0/", ".1/")[:-3], clone_of(settled.hub, name)["name"]
        )
        implicit_null(settled.nodes[name], "cust1", "192.168.110.10", "Tunnel0")
        (sa,) = [sa for sa in settled.hub.show("show crypto ikev2 sa") if sa["remote-identity"] == IDENTITIES[name]]
        address = settled.leased[name]
        assert (sa["assigned"], sa["remote-subnets"], sa["flexvpn"]) == ([address], [f"{address}/32"], True)
    table = settled.hub.text("show mpls forwarding-table")
    assert all(clone_of(settled.hub, name)["name"] in table for name in SPOKES)


def test_bgp_finds_the_spokes_by_their_overlay_addresses(settled: Network) -> None:
    summary = settled.hub.show("show bgp summary")
    for family in summary:
        found = {(one["neighbor-address"], one["peer-as"], one["dynamic"]) for one in family["neighbors"]}
        assert found == {(address, 100, True) for address in settled.leased.values()}


def test_customers_reach_the_hub_and_each_other_by_its_default(settled: Network) -> None:
    """Both spokes are AS 100: each refuses the other's routes for the loop, and has the default from the hub, which pops that
    label and looks the destination up in the customer's table."""
    before, clear = settled.sealed(), settled.clear_gre()
    for net, sites in ((110, 0), (111, 1)):
        host = settled.world.namespaces[f"host{net}"]
        for name in SPOKES:
            assert pinged(host, SITES[name][sites].replace(".0/24", ".1")) == 3
        # and not into the other customer's VPN
        other = SITES["spoke2"][1 - sites].replace(".0/24", ".1")
        assert pinged(host, other, times=1) == 0
    for name, other in (SPOKES, SPOKES[::-1]):
        chain = settled.nodes[name].show(f"show ip cef vrf cust1 {SITES[other][0].replace('.0/24', '.1')}")
        assert chain["prefix"] == "0.0.0.0/0"
    assert settled.sealed() - before >= 2 * 12
    assert settled.clear_gre() == clear == 0


def between_spokes(network: Network) -> None:
    """An echo of customer 1 at spoke1 to spoke2's loopback, on the wire of spoke1's LAN, tagged as the listing wants it."""
    lan, spoke = network.world.namespaces["lan-spoke1"], network.world.namespaces["spoke1"]
    with spoke.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as tap:
        tap.bind(("eth1", 0))
        mac = tap.getsockname()[4]
    echo = b"\x08\0" + internet_checksum(b"\x08\0\0\0" + bytes(4)).to_bytes(2) + bytes(4)
    head = bytes.fromhex("4500001c0000000040010000c0a8710ac0a87201")
    head = head[:10] + internet_checksum(head).to_bytes(2) + head[12:]
    frame = mac + b"\x02\0\0\0\0\x0a" + b"\x81\0\0\x0a\x08\0" + head + echo
    with lan.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.bind(("eth0", 0))
        wire.send(frame)


def test_the_hub_knows_a_better_way_and_the_spokes_stay_on_it(settled: Network) -> None:
    """As printed, the spokes have no NHRP: the hub says that there is a better way, nobody listens, and nothing is built."""
    between_spokes(settled)
    settled.hub.until("show ip nhrp traffic", lambda value: "'traffic-indication': 1" in str(value))
    for name, other in (SPOKES, SPOKES[::-1]):
        node = settled.nodes[name]
        assert node.show("show ip nhrp") == []
        assert OUTER[other] not in node.text("show crypto ikev2 sa")
        assert "Virtual-Access" not in node.text("show interfaces")
        assert not [row for row in node.show("show ip route vrf cust1") if row["selected"] == "nhrp"]


def test_what_an_operator_sees(settled: Network) -> None:
    hub, spoke = settled.hub, settled.nodes["spoke1"]
    session = spoke.text("show crypto session detail")
    for line in ("Interface: Tunnel0", "Session status: UP-ACTIVE", "Peer: 172.16.0.1 port 500", "Capabilities:CDFU"):
        assert line in session
    detail = spoke.text("show crypto ikev2 sa detailed")
    for line in (f"Pushed IP address: {settled.leased['spoke1']}", "Default Domain: cisco.com", "Banner: Welcome"):
        assert line in detail
    detail = hub.text("show crypto ikev2 sa detailed")
    for line in (
        "Auth sign: RSA, Auth verify: RSA",
        "DPD configured for 60 seconds, retry 2",
        "Remote id: R4.cisco.com",
    ):
        assert line in detail
    assert "in use settings ={Transport, }" in hub.text("show crypto ipsec sa")
    assert "transform: esp-gcm 256 ," in hub.text("show crypto ipsec sa")
    assert "Name: R1-HUB.cisco.com" in hub.text("show crypto pki certificates")
    assert "BEGIN" not in str(hub.show("show crypto pki certificates")) + hub.text("show running-config")


def test_debugging_shows_the_exchange(settled: Network) -> None:
    hub, spoke = settled.hub, settled.nodes["spoke1"]
    start = len(hub.log.read_text())
    hub.show("debug crypto ikev2")
    spoke.show("clear crypto session")
    hub.until("show crypto ikev2 sa", lambda rows: any(sa["number"] > 2 for sa in rows))
    settled.up("spoke1")
    hub.show("undebug crypto ikev2")
    log = hub.log.read_text()[start:]
    for piece in (
        "IKE_SA_INIT request 0 [SA(IKE: AES_GCM_16-256 ",
        "IKE_AUTH request 1 [SKF(1/",
        "IKE_AUTH request 1 [IDI(FQDN R3-Spoke.cisco.com) CERT(X509_SIGNATURE, ",
        f"CP(REPLY: INTERNAL_IP4_ADDRESS={settled.leased['spoke1']} ",
        "TSI(172.16.1.103 protocol 47) TSR(172.16.0.1 protocol 47)",
        f"CP(SET: INTERNAL_IP4_SUBNET={settled.leased['spoke1']}/255.255.255.255)",
    ):
        assert piece in log


# --- coming and going ---------------------------------------------------------------------------------------------------


def test_a_spoke_that_stops_leaves_nothing_but_its_lease(settled: Network) -> None:
    hub, spoke = settled.hub, settled.nodes["spoke1"]
    assert spoke.stop() == 0
    settled.gone("spoke1")
    # Nothing is sent to where it was, in ESP or otherwise.
    assert pinged(settled.world.namespaces["host110"], "192.168.113.1", times=1) == 0
    assert pinged(settled.world.namespaces["host110"], "192.168.114.1") == 3
    assert len([row for row in hub.show("show interfaces") if row["name"].startswith("Virtual-Access")]) == 1
    settled.start("spoke1")
    assert settled.up("spoke1") == settled.leased["spoke1"]


def test_a_spoke_that_dies_and_comes_back_is_the_same(settled: Network) -> None:
    """kill -9: no DELETE. Its next IKE_AUTH says INITIAL_CONTACT, and the hub lets go of what it had."""
    hub, spoke = settled.hub, settled.nodes["spoke2"]
    assert spoke.process is not None
    spoke.process.kill()
    spoke.process.wait()
    assert IDENTITIES["spoke2"] in str(hub.show("show crypto ikev2 sa"))
    settled.start("spoke2")
    spoke.until("show crypto session", lambda rows: "UP-ACTIVE" in str(rows))
    assert settled.up("spoke2") == settled.leased["spoke2"]
    assert pinged(settled.world.namespaces["host110"], "192.168.114.1") == 3
    rows = [sa for sa in hub.show("show crypto ikev2 sa") if sa["remote-identity"] == IDENTITIES["spoke2"]]
    assert len(rows) == 1
    assert len([row for row in hub.show("show interfaces") if row["name"].startswith("Virtual-Access")]) == 2


def test_the_hub_restarted_has_its_spokes_again(settled: Network) -> None:
    assert settled.hub.stop() == 0
    for name in SPOKES:
        spoke, gone = settled.nodes[name], f"{settled.leased.pop(name)}/32"
        spoke.until("show crypto session", lambda rows: "UP-ACTIVE" not in str(rows))
        assert gone not in prefixes(spoke.show("show ip route"))
        assert "no security association" in spoke.text("show adjacency tunnel 0")
    settled.start(HUB)
    settled.settled()
    assert pinged(settled.world.namespaces["host111"], "192.168.123.1") == 3


def test_a_revoked_spoke_is_let_go_and_refused_and_only_the_hub_says_why(settled: Network) -> None:
    """`labelspan pki revoke`, and SIGHUP for the hub to read the new list. BGP is not told: its hold time must pass, while
    nothing is sent to the spoke, for what it announced has no labelled way any more."""
    hub, spoke = settled.hub, settled.nodes["spoke2"]
    assert hub.process is not None
    pki("revoke", str(settled.authority), "spoke2")
    hub.process.send_signal(signal.SIGHUP)
    settled.gone("spoke2", bgp=False)
    rows = spoke.until("show crypto session", lambda rows: "AUTHENTICATION_FAILED" in str(rows))
    assert "revoked" not in str(rows) + spoke.log.read_text()
    assert re.search("cn=R4-Spoke.cisco.com,ou=Flex,o=Cisco, serial [0-9A-F]+, is revoked", hub.log.read_text())
    hub.until("show crypto ikev2 stats", lambda value: "is revoked" in str(value))
    assert pinged(settled.world.namespaces["host110"], "192.168.113.1") == 3
    assert pinged(settled.world.namespaces["host110"], "192.168.114.1", times=1) == 0


def test_a_wrong_fingerprint_does_not_run(authority: Path, tmp_path: Path) -> None:
    file = tmp_path / "spoke.cfg"
    file.write_text(listing("spoke1", authority, fingerprint="E0AFEFD7F08070BAB33C8297C97E6457"))
    command = [sys.executable, "-m", "stack.cli", "run", str(file), "--control", str(tmp_path / "socket")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert f"its own is {md5(authority)}" in done.stderr
