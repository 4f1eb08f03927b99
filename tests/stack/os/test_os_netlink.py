"""The netlink octets, against values worked out by hand; and that any octets are survived."""

from __future__ import annotations

import errno
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.os import MissingPrivilege, bpf
from stack.os.filters import _ingress_rules
from stack.os.netlink import _raise_error, attribute, attributes, nested, text
from stack.os.rtnetlink import OURS, _link, _route, is_foreign_route


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (attribute(3, b"abc"), "0700030061626300"),
        (attribute(1, b""), "04000100"),
        (text(3, "eth0"), "090003006574683000000000"),
        (nested(18, attribute(1, b"\1")), "0c0012800500010001000000"),
    ],
)
def test_attributes_are_padded_to_four_octets(octets, expected):
    assert octets.hex() == expected


@given(st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40), max_size=8))
def test_attributes_round_trip(members):
    assert attributes(b"".join(attribute(kind, value) for kind, value in members.items())) == members


@given(st.binary(max_size=120))
def test_any_octets_are_survived(octets):
    attributes(octets)
    _link(octets)
    _route(octets, {})
    is_foreign_route(octets)


@given(st.binary(max_size=120), st.integers(0, 0xFFFF))
def test_an_answer_of_any_octets_is_nothing_or_an_oserror(octets, flags):
    code = -int.from_bytes(octets[:4], sys.byteorder, signed=True) if len(octets) >= 4 else 0
    if code > 0:
        with pytest.raises(OSError, match="trying"):
            _raise_error(octets, flags, "trying")
    else:
        _raise_error(octets, flags, "trying")


def test_an_error_carries_the_kernels_own_words():
    body = struct.pack("=i", -errno.EINVAL) + bytes(16) + text(1, "Invalid prefix for given length")
    with pytest.raises(OSError, match="adding: Invalid prefix for given length") as caught:
        _raise_error(body, 0x300, "adding")
    assert caught.value.errno == errno.EINVAL
    _raise_error(bytes(4), 0, "nothing")


def test_a_refusal_names_the_capability():
    with pytest.raises(MissingPrivilege) as caught:
        _raise_error(struct.pack("=i", -errno.EPERM), 0, "adding")
    assert caught.value.capability == "CAP_NET_ADMIN"


def test_foreign_routes():
    def message(table, protocol, kind=1, flags=0):
        return struct.pack("=BBBBBBBBI", 2, 24, 0, 0, table, protocol, 0, kind, flags)

    assert is_foreign_route(message(254, 4))
    assert not is_foreign_route(message(254, OURS))
    assert not is_foreign_route(message(255, 2, kind=2))  # the local table follows addresses
    assert not is_foreign_route(message(254, 4, flags=0x200))  # a cached clone


@pytest.mark.parametrize(
    "program",
    [bpf.reject_all(), bpf.untagged_filter(), bpf.vlan_filter(10), bpf.labelled_filter(), bpf.reject_devices(range(9))],
)
def test_bpf_jumps_stay_inside_and_every_path_returns(program):
    for at, (code, true, false, _) in enumerate(program):
        if code & 0x07 == 0x05:
            assert at + 1 + max(true, false) < len(program)
    assert program[-1][0] == 0x06


@pytest.mark.parametrize(("vlans", "count"), [([], 0), ([None], 2), ([10], 1), ([None, 10, 20], 4)])
def test_ingress_rules(vlans, count):
    assert len(_ingress_rules(vlans)) == count
