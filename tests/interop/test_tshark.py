"""tshark decodes all that our nodes put on a wire: nothing malformed, every checksum right, the layers as they should be."""

from __future__ import annotations

import re
import struct
from collections import Counter
from pathlib import Path

import pytest

from stack.lab.run import run_lab
from stack.lab.scenario import load
from tests.conftest import require_root, require_tool
from tests.interop.tshark import decode, extract, faults, in_words

pytestmark = [pytest.mark.root, pytest.mark.interop, pytest.mark.slow]

CORE = ("pe1-core", "pe2-core", "pe3-core")
CUSTOMERS_OWN = {"ip:icmp:data", "ipv6:icmpv6:data"}
ERRORS = {"ip:icmp:ip:icmp:data", "ipv6:icmpv6:ipv6:icmpv6", "ipv6:icmpv6:ipv6:icmpv6:data"}
"""What a PE may say about an echo while routes come and go."""

IN_TUNNEL = {f"ip:gre:mpls:{inner}" for inner in CUSTOMERS_OWN | ERRORS}
IN_LSP = {"mpls:ip:icmp:data"}
HOSTS_OWN = {
    "arp",
    "ipv6:icmpv6",
    "ipv6:ipv6.hopopts:icmpv6",
    "ip:tcp",
    "ip:tcp:bgp",
    "ip:tcp:bgp:bgp",
    "ip:icmp:ip:gre",
}
CUSTOMER = CUSTOMERS_OWN | ERRORS | {"arp", "ipv6:icmpv6", "ipv6:ipv6.hopopts:icmpv6"}


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_root()
    require_tool("tshark")
    folder, links = tmp_path_factory.mktemp("captures"), tmp_path_factory.mktemp("links")
    assert run_lab("mgre", backend="netns", capture=folder) == 0
    for link in load("mgre").link:
        extract(folder / "lab.pcapng", links / f"{link}.pcap", f'frame.interface_name == "{link}"')
    return links


def test_nothing_that_a_lab_sends_is_malformed(captures: Path) -> None:
    files = sorted(captures.glob("*.pcap"))
    assert len(files) == 10
    for file in files:
        frames = decode(file)
        assert len(frames) > 20, file
        assert faults(frames) == [], file


def test_rfc4023_3_the_layers_on_the_core_and_on_the_direct_link(captures: Path) -> None:
    for link in (*CORE, "pe1-pe2"):
        seen = Counter(frame.layers for frame in decode(captures / f"{link}.pcap"))
        lsp = IN_LSP if link == "pe1-pe2" else set()
        assert set(seen) <= IN_TUNNEL | HOSTS_OWN | lsp, link
        assert seen["ip:gre:mpls:ip:icmp:data"] > 5, link
        assert seen["ip:gre:mpls:ipv6:icmpv6:data"] > 5, link
        assert {layers for layers in seen if layers.startswith("mpls")} == lsp, link


def test_customers_see_no_label(captures: Path) -> None:
    for link in ("red1", "red2", "red3", "blue1", "blue2", "blue3"):
        seen = {frame.layers for frame in decode(captures / f"{link}.pcap")}
        assert CUSTOMERS_OWN <= seen <= CUSTOMER, link


def test_rfc4364_and_rfc4659_every_bgp_message_is_understood(captures: Path) -> None:
    """Both families, with labels, route distinguishers and targets; no attribute that tshark does not know."""
    frames = decode(captures / "pe3-core.pcap", read_filter="bgp")
    assert not [frame for frame in frames if [said for said in frame.wrong if "Bad checksum" not in said]]
    said = in_words(captures / "pe3-core.pcap", "bgp")
    for pattern in (
        r"Next hop:  RD=0:0 IPv4=192\.0\.2\.3\n",
        r"Label Stack: \d+ \(bottom\)\n +Route Distinguisher: 65000:13\n +MP Reach NLRI IPv4 prefix: 10\.1\.3\.0\n",
        r"Next hop:  RD=0:0 IPv6=::ffff:192\.0\.2\.3\n",
        r"Label Stack=\d+ \(bottom\) RD=65000:13, IPv6=2001:db8:3::/64\n",
        r"Route Target: 65000:100 ",
        r"Type: KEEPALIVE Message",
        r"Type: NOTIFICATION Message",
    ):
        assert re.search(pattern, said), pattern
    assert "Unknown" not in said


@pytest.mark.parametrize(("at", "layer"), [(24, "ip"), (60, "ip"), (-1, "icmp")])
def test_what_is_wrong_is_noticed(captures: Path, tmp_path: Path, at: int, layer: str) -> None:
    """The same captures with one octet changed: the outer header, the inner one, the customer's data."""
    octets = bytearray((captures / "pe3-core.pcap").read_bytes())
    number = next(f.number for f in decode(captures / "pe3-core.pcap") if f.layers == "ip:gre:mpls:ip:icmp:data")
    start = 24
    for _ in range(number - 1):
        start += 16 + struct.unpack_from("=I", octets, start + 8)[0]
    length = struct.unpack_from("=I", octets, start + 8)[0]
    octets[start + 16 + (at if at >= 0 else length + at)] ^= 0x40
    (tmp_path / "broken.pcap").write_bytes(octets)
    (fault,) = faults(decode(tmp_path / "broken.pcap"))
    assert (fault.number, fault.bad) == (number, (layer,))
