"""What tshark makes of a capture: the layers of each frame, and everything it finds wrong with it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from tests.conftest import require_tool

ERROR = 8_388_608
"""tshark's expert severity of what is wrong, such as a bad checksum or a malformed packet."""

_CHECKS = ("ip", "tcp", "udp")
_STATUS = ("ip", "icmp", "icmpv6", "tcp", "udp", "gre", "igmp")


@frozen
class Decoded:
    """`layers`: as `ip:gre:mpls:ip:icmp`, from the network layer on. `wrong`: tshark's complaints. `bad`: layers whose
    checksum is wrong."""

    number: int
    layers: str
    wrong: tuple[str, ...]
    bad: tuple[str, ...]

    @property
    def inner(self) -> str:
        """What follows the labels; empty if there are none."""
        return self.layers.partition("mpls:")[2]


def decode(capture: Path, *, read_filter: str = "") -> Sequence[Decoded]:
    """Every frame of a pcap, all checksums looked at."""
    fields = ["frame.number", "frame.protocols", "_ws.expert.severity", "_ws.expert.message", "_ws.malformed"]
    fields += [f"{layer}.checksum.status" for layer in _STATUS]
    command = [
        require_tool("tshark"),
        "-n",
        "-r",
        str(capture),
        "-T",
        "fields",
        "-E",
        "separator=/t",
        "-E",
        "aggregator=;",
    ]
    command += [word for layer in _CHECKS for word in ("-o", f"{layer}.check_checksum:TRUE")]
    command += [word for name in fields for word in ("-e", name)]
    if read_filter:
        command += ["-Y", read_filter]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [_decoded(line.split("\t")) for line in done.stdout.splitlines()]


def extract(capture: Path, into: Path, condition: str) -> None:
    """The frames of a capture that meet a condition, as a classic pcap."""
    command = [require_tool("tshark"), "-n", "-r", str(capture), "-Y", condition, "-F", "pcap", "-w", str(into)]
    subprocess.run(command, capture_output=True, timeout=60, check=True)


def in_words(capture: Path, protocol: str) -> str:
    """Every packet of a protocol as tshark explains it."""
    command = [require_tool("tshark"), "-n", "-r", str(capture), "-Y", protocol, "-O", protocol]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def _decoded(row: Sequence[str]) -> Decoded:
    number, layers, severities, messages, malformed, *statuses = row
    wrong = [m for s, m in zip(severities.split(";"), messages.split(";"), strict=False) if s and int(s) >= ERROR]
    if malformed:
        wrong.append("malformed")
    bad = [layer for layer, status in zip(_STATUS, statuses, strict=True) if "0" in status.split(";")]
    return Decoded(int(number), layers.removeprefix("eth:ethertype:"), tuple(wrong), tuple(bad))


def faults(frames: Sequence[Decoded]) -> list[Decoded]:
    """Frames that something is wrong with. Checksums of the host kernel's own TCP do not count: between veths it leaves
    them to hardware that is not there. Those of TCP under a label do: that left our packet path."""
    return [frame for frame in frames if (frame.wrong or frame.bad) and not _hosts_own(frame)]


def _hosts_own(frame: Decoded) -> bool:
    only_checksum = frame.bad == ("tcp",) and all("Bad checksum" in complaint for complaint in frame.wrong)
    return only_checksum and not frame.inner
