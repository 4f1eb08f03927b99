"""Our packets as tshark reads them, in GRE with a key: nothing malformed, checksums right, and the values that we meant."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from nhrp.wire import (
    Cie,
    ErrorCode,
    ExtensionKind,
    Flag,
    Kind,
    MplsBinding,
    Packet,
    Role,
    authentication,
    cie_extension,
    encode,
    indication,
    mpls_extension,
)
from nhrp.wire.mpls import FecLabel, NextHopLabel
from nhrp.wire.packet import Extension
from stack.addr import parse_address as a
from tests.conftest import require_tool
from tests.nhrp.wire_values import REAL

NBMA, HUB_NBMA, SPOKE, HUB, TARGET = map(a, ("192.0.2.2", "192.0.2.1", "10.0.0.2", "10.0.0.1", "192.168.2.1"))
GOOD = "1"
REDIRECTED = bytes.fromhex("4500001c000000003f010000c0a80101c0a802010800000000000000")
RECORDS = (Extension(3), Extension(4), Extension(5))
NAT = cie_extension(ExtensionKind.NAT_ADDRESS, (Cie(prefix_length=32, nbma=HUB_NBMA, protocol=HUB),))
LABELS = mpls_extension(
    MplsBinding(Role.REPLY, fec=(FecLabel(0, (40,)),), next_hop=(NextHopLabel(0),)), b"\x02\x4d\x46"
)
HOST = (Cie(prefix_length=32, mtu=1400, holding_time=600),)
REGISTRATION = Packet(
    Kind.REGISTRATION_REQUEST, NBMA, SPOKE, HUB, 1, Flag.UNIQUE_REGISTRATION | Flag.NAT, HOST,
    (*RECORDS, authentication(b"NHRPAUTH"), NAT),
)  # fmt: skip
PACKETS = [
    REGISTRATION,
    Packet(Kind.REGISTRATION_REPLY, NBMA, SPOKE, HUB, 1, Flag.UNIQUE_REGISTRATION, (Cie(14, 32),), RECORDS),
    Packet(Kind.RESOLUTION_REQUEST, NBMA, SPOKE, TARGET, 2, 0xC802, HOST, RECORDS),
    Packet(
        Kind.RESOLUTION_REPLY, NBMA, SPOKE, TARGET, 2, 0xF802, (Cie(0, 24, 1400, 600, HUB_NBMA, HUB),),
        (cie_extension(3, (Cie(nbma=HUB_NBMA, protocol=HUB),)), *RECORDS[1:], LABELS),
    ),
    Packet(Kind.PURGE_REQUEST, NBMA, SPOKE, HUB, 3, 0, (Cie(prefix_length=24, protocol=a("10.3.3.0")),)),
    Packet(Kind.PURGE_REPLY, NBMA, SPOKE, HUB, 3, 0, (Cie(prefix_length=24, protocol=a("10.3.3.0")),)),
    Packet(Kind.TRAFFIC_INDICATION, HUB_NBMA, HUB, SPOKE, body=REDIRECTED),
]  # fmt: skip


def capture(path: Path, packets: list[bytes]) -> Path:
    """A classic capture file of raw IPv4 packets."""
    octets = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    for packet in packets:
        gre = bytes.fromhex("2000200100000001") + packet
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0xC0, 20 + len(gre), 0, 0, 255, 47, 0, NBMA, HUB_NBMA)
        octets += struct.pack("<IIII", 0, 0, len(ip + gre), len(ip + gre)) + ip + gre
    path.write_bytes(octets)
    return path


def dissected(path: Path, *fields: str) -> list[list[str]]:
    command = [require_tool("tshark"), "-r", str(path), "-o", "nhrp.auth_ext_has_addr:false", "-T", "fields"]
    for name in fields:
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.interop
def test_our_packets_are_read_without_a_malformed_mark(tmp_path):
    error = indication(ErrorCode.PROTOCOL_ERROR, 16, encode(REGISTRATION), HUB_NBMA, HUB)
    assert error is not None
    packets = [*PACKETS, error]
    rows = dissected(
        capture(tmp_path / "nhrp.pcap", [encode(one) for one in packets]),
        "_ws.malformed",
        "nhrp.hdr.op.type",
        "nhrp.hdr.chksum.status",
        "nhrp.src.nbma.addr",
        "nhrp.src.prot.addr",
        "nhrp.dst.prot.addr",
    )
    assert len(rows) == len(packets)
    for packet, (malformed, kind, checksum, nbma, source, destination) in zip(packets, rows, strict=True):
        assert malformed == ""
        assert int(kind.split(",")[0]) == packet.kind
        assert set(checksum.split(",")) == {GOOD}  # that of the quoted packet too
        assert [a(text.split(",")[0]) for text in (nbma, source, destination)] == [
            packet.source_nbma, packet.source, packet.destination,
        ]  # fmt: skip


@pytest.mark.interop
def test_all_packets_of_the_other_tests_are_read_too(tmp_path):
    """Those with a subaddress tshark shows otherwise; IPv6 it knows."""
    packets = [octets for name, octets in REAL.items() if name not in {"subaddress", "error"}]
    rows = dissected(
        capture(tmp_path / "real.pcap", packets), "_ws.malformed", "nhrp.hdr.chksum.status", "nhrp.hdr.op.type"
    )
    assert [(malformed, int(kind.split(",")[0])) for malformed, _, kind in rows] == [("", one[17]) for one in packets]
    assert {checksum for _, checksum, _ in rows} == {GOOD}


@pytest.mark.interop
def test_the_password_the_vendor_and_the_error_are_where_they_are_looked_for(tmp_path):
    error = indication(ErrorCode.INVALID_EXTENSION, 52, encode(REGISTRATION), HUB_NBMA, HUB)
    assert error is not None
    names = ("nhrp.auth_ext.spi", "nhrp.auth_ext.data", "nhrp.vendor_ext.id", "nhrp.err.code", "nhrp.err.offset")
    packets = [encode(one) for one in (REGISTRATION, PACKETS[3], error)]
    registration, reply, refusal = dissected(capture(tmp_path / "fields.pcap", packets), *names)
    assert [registration[0], registration[1].replace(":", "")] == ["1", b"NHRPAUTH".hex()]
    assert int(reply[2], 0) == 0x024D46
    assert [int(refusal[3]), int(refusal[4])] == [ErrorCode.INVALID_EXTENSION, 52]
