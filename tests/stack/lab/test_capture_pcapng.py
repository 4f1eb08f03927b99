"""pcapng: blocks that add up, names and nanoseconds that come back, a bound, and a file that is its owner's alone."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.pcapng import ETHERNET, RAW_IP, Pcapng, create
from stack.testing.capture import Capture, Frame
from tests.stack.testing.test_memory_capture import blocks


def test_the_blocks_octet_for_octet() -> None:
    file = io.BytesIO()
    pcapng = Pcapng(file)
    assert pcapng.interface("pe1-core") == 0
    assert pcapng.interface("tun", RAW_IP) == 1
    pcapng.packet(1, 0x1122334455667788, b"\x45\0\0")
    section, one, two, packet = blocks(file.getvalue())
    assert section == (0x0A0D0D0A, bytes.fromhex("4d3c2b1a01000000ffffffffffffffff"))
    assert one == (
        1,
        bytes.fromhex("010000000000000002000800") + b"pe1-core" + bytes.fromhex("09000100 09000000 00000000"),
    )
    assert two == (
        1,
        bytes.fromhex("650000000000000002000300") + b"tun\0" + bytes.fromhex("09000100 09000000 00000000"),
    )
    assert packet == (6, bytes.fromhex("01000000 44332211 88776655 03000000 03000000 45000000"))
    assert (pcapng.packets, pcapng.left_out) == (1, 0)
    assert ETHERNET == 1


@given(st.lists(st.binary(max_size=90), max_size=20), st.integers(28, 1500))
def test_what_would_pass_the_limit_is_counted_and_not_written(frames: list[bytes], limit: int) -> None:
    file = io.BytesIO()
    pcapng = Pcapng(file, limit)
    link = pcapng.interface("x")
    before = len(file.getvalue())
    for frame in frames:
        pcapng.packet(link, 1, frame)
    assert len(file.getvalue()) <= max(limit, before)
    assert pcapng.packets + pcapng.left_out == len(frames)
    assert len([kind for kind, _ in blocks(file.getvalue()) if kind == 6]) == pcapng.packets
    if before + sum(32 + len(frame) + 3 for frame in frames) <= limit:
        assert pcapng.left_out == 0


def test_the_bound_of_a_memory_capture() -> None:
    file = io.BytesIO()
    with Capture(file, 1.7e9, limit=200) as capture:
        for _ in range(10):
            capture.record(Frame(0.5, "a", "a:eth0", bytes(60), "carried"), ethernet=True)
        assert capture.left_out == 10 - len([kind for kind, _ in blocks(file.getvalue()) if kind == 6]) == 9


def test_a_file_is_its_owners_alone_and_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "lab.pcapng"
    path.write_bytes(b"old" * 100)
    path.chmod(0o644)
    before = os.umask(0)
    try:
        with create(path) as file:
            Pcapng(file)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert struct.unpack_from("<I", path.read_bytes()) == (0x0A0D0D0A,)
    assert path.stat().st_size == 28


def test_a_link_or_a_device_is_no_file(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "link").symlink_to(victim)
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo"):
        with pytest.raises(OSError, match=name):
            create(tmp_path / name)
    with pytest.raises(OSError, match="no plain file"):
        create(Path("/dev/null"))
    assert victim.read_text() == "mine"
