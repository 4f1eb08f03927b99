"""How many NHRP packets a second `nhrp.wire` parses and builds, and how that compares with a naive codec.

The naive one is fixed and lives below: `struct`, IPv4 only, no check of anything but the checksum, tuples and dicts. It runs
alternately with ours in the same process, so the ratio holds on a busy or a slow machine where packets a second do not.

    python benchmarks/nhrp_wire.py [--packets 20000] [--rounds 7] [--json]
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from nhrp.wire import (  # noqa: E402  (run as a script, from anywhere)
    Cie,
    ContextLabel,
    Extension,
    ExtensionKind,
    FecLabel,
    Flag,
    Kind,
    MplsBinding,
    NextHopLabel,
    Packet,
    Role,
    authentication,
    cie_extension,
    decode,
    encode,
    mpls_extension,
    mpls_of,
)

PARSE, BUILD = 40_000, 50_000
"""Packets a second that the project wants of itself, on its own 2-core machine."""
OUI = b"\x02\x4d\x46"


def address(text: str) -> bytes:
    return bytes(int(part) for part in text.split("."))


HUB, SPOKE, FAR = address("10.0.0.1"), address("10.0.0.11"), address("10.0.0.12")
NBMA, FAR_NBMA = address("172.16.1.103"), address("172.16.2.1")
RECORDS = (Extension(3), Extension(4), Extension(5), authentication(b"NHRPAUTH"))
PROFILES = {
    "registration": Packet(
        Kind.REGISTRATION_REQUEST,
        NBMA,
        SPOKE,
        HUB,
        request_id=1,
        flags=Flag.UNIQUE_REGISTRATION | Flag.NAT,
        cies=(Cie(prefix_length=255, mtu=1500, holding_time=7200),),
        extensions=(*RECORDS, cie_extension(ExtensionKind.NAT_ADDRESS, (Cie(nbma=FAR_NBMA, protocol=HUB),))),
    ),
    "resolution": Packet(
        Kind.RESOLUTION_REPLY,
        NBMA,
        SPOKE,
        address("192.168.2.1"),
        request_id=7,
        flags=0xE802,
        cies=(Cie(0, 24, 1400, 7200, FAR_NBMA, FAR),),
        extensions=(
            cie_extension(ExtensionKind.RESPONDER_ADDRESS, (Cie(0, 32, 1400, 7200, FAR_NBMA, FAR),)),
            cie_extension(ExtensionKind.FORWARD_TRANSIT, (Cie(nbma=address("172.16.0.1"), protocol=HUB),)),
            *RECORDS[2:],
            mpls_extension(MplsBinding(Role.REPLY, fec=(FecLabel(0, (40,)),), next_hop=(NextHopLabel(0),)), OUI),
        ),
    ),
    "redirect": Packet(
        Kind.TRAFFIC_INDICATION,
        address("172.16.0.1"),
        HUB,
        address("192.168.1.1"),
        body=bytes.fromhex("4500001c000000003f010000c0a80101c0a802010800000000000000"),
        extensions=(
            *RECORDS[1:],
            mpls_extension(MplsBinding(Role.INDICATION, ContextLabel(30, HUB)), OUI),
        ),
    ),
}


def naive_parse(octets: bytes) -> tuple[Any, ...]:
    fields = struct.unpack_from(">HH5sBHHHBBBBBBHI4s4s4s", octets)
    total = 0
    for (word,) in struct.iter_unpack(">H", octets if len(octets) % 2 == 0 else octets + b"\0"):
        total += word
    if total % 0xFFFF:
        raise ValueError("checksum")
    at, end = 40, fields[6] or fields[4]
    cies: list[Any] = []
    while fields[8] < 7 and at < end:
        cie = struct.unpack_from(">BBHHHBBBB", octets, at)
        after = at + 12 + cie[5] + cie[6] + cie[7]
        cies.append((cie, octets[at + 12 : at + 12 + cie[5]], octets[at + 12 + cie[5] + cie[6] : after]))
        at = after
    body = octets[at:end]
    extensions: dict[int, bytes] = {}
    at = end
    while fields[6] and at < fields[4]:
        kind, size = struct.unpack_from(">HH", octets, at)
        extensions[kind] = octets[at + 4 : at + 4 + size]
        at += 4 + size
    return fields, cies, body, extensions


def naive_build(parsed: tuple[Any, ...]) -> bytes:
    fields, cies, body, extensions = parsed
    octets = bytearray(struct.pack(">HH5sBHHHBBBBBBHI4s4s4s", *fields))
    octets[12:14] = b"\0\0"
    for cie, nbma, protocol in cies:
        octets += struct.pack(">BBHHHBBBB", *cie) + nbma + protocol
    octets += body
    for kind, value in extensions.items():
        octets += struct.pack(">HH", kind, len(value)) + value
    total = 0
    for (word,) in struct.iter_unpack(">H", octets if len(octets) % 2 == 0 else octets + b"\0"):
        total += word
    octets[12:14] = (0xFFFF - total % 0xFFFF).to_bytes(2)
    return bytes(octets)


def times(packets: int, run: Callable[[], object]) -> Callable[[], None]:
    def again() -> None:
        for _ in range(packets):
            run()

    return again


def best(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest of `rounds`, alternated."""
    seconds = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def measure(profile: str, packets: int, rounds: int) -> dict[str, Any]:
    packet = PROFILES[profile]
    octets = encode(packet)
    parsed = naive_parse(octets)
    if decode(octets) != packet or naive_build(parsed) != octets:
        raise SystemExit(f"{profile}: the codecs do not agree")
    runs = {
        "parse": lambda: decode(octets),
        "naive_parse": lambda: naive_parse(octets),
        "build": lambda: encode(packet),
        "naive_build": lambda: naive_build(parsed),
        "labels": lambda: mpls_of(packet, OUI),
    }
    seconds = best({name: times(packets, run) for name, run in runs.items()}, rounds)
    return {
        "profile": profile,
        "octets": len(octets),
        **{f"{name}_packets_per_s": round(packets / spent) for name, spent in seconds.items()},
        "parse_ratio_to_naive": round(seconds["naive_parse"] / seconds["parse"], 2),
        "build_ratio_to_naive": round(seconds["naive_build"] / seconds["build"], 2),
        "target_parse": PARSE,
        "target_build": BUILD,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--packets", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="one JSON object a profile")
    arguments = parser.parse_args()
    for profile in PROFILES:
        row = measure(profile, arguments.packets, arguments.rounds)
        if arguments.json:
            print(json.dumps(row))
            continue
        print(
            f"{profile:12} {row['octets']:4} octets  "
            f"parse {row['parse_packets_per_s']:8,} packets/s  {row['parse_ratio_to_naive']:5.2f} x naive  target {PARSE:,}   "
            f"build {row['build_packets_per_s']:8,} packets/s  {row['build_ratio_to_naive']:5.2f} x naive  target {BUILD:,}   "
            f"labels {row['labels_packets_per_s']:8,}/s"
        )


if __name__ == "__main__":
    main()
