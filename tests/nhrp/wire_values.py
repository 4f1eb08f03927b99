"""NHRP packets as octets: real and reference ones, whole and written out, and strategies that make any."""

from __future__ import annotations

from hypothesis import strategies as st

from nhrp.wire import Cie, Extension, Kind, Packet
from stack.wire import internet_checksum

RESOLUTION_REQUEST = bytes.fromhex(
    "000108000000000000400072556d0034010104000404c80200000007ac1001670a00000bc0a802010020000005781c20000000008004000080050000"
    "800300000008002a024d4601010100000001000a0001e10000010a000001000600040000000100050008000000010000000180000000"
)
RESOLUTION_REPLY = bytes.fromhex(
    "000108000000000000400084cc6a003c010204000404e80200000007ac1001670a00000bc0a802010018000005781c2004000400ac1002010a00000c"
    "8004000080050000800300140020000005781c2004000400ac1002010a00000c00080020024d4601010200000002000800010000000281000003000800"
    "0100000000310080000000"
)
TRAFFIC_INDICATION = bytes.fromhex(
    "000108000000000000010062b1a20044010804000404000000000000ac1000010a000001c0a801014500001c000000003f010000c0a80101c0a80201"
    "080000000000000000080016024d4601010000000001000a0001e10000010a00000180000000"
)
ECHOED_REQUEST = bytes.fromhex(
    "00010800000000000040006696e6003c010204000404e80000000007ac1001670a00000bc0a80201001800000000003c04000400ac1002010a00000c"
    "80040000800500008003000000080016024d4601010100000001000a0001e10000010a00000180000000"
)
"""A reply by one who knows nothing of labels and echoes what it does not know."""


def packed(text: str) -> bytes:
    """Hex with blanks and comments (`| ...` to the end of a line) as a packet; its checksum is filled in."""
    octets = bytearray(bytes.fromhex("".join(line.partition("|")[0] for line in text.splitlines())))
    octets[12:14] = b"\0\0"
    octets[12:14] = internet_checksum(bytes(octets)).to_bytes(2)
    return bytes(octets)


REGISTRATION_CISCO = packed("""
    0001 0800 0000000000 ff 0051 0000 0034 | 81 octets, extensions at 52
    01 03 04 00  04 04 8002 00000001       | registration request, unique and NAT
    c0000202 0a000002 0a000001
    00 ff 0000 05dc 1c20 00 00 00 00       | a bare CIE: the header's addresses
    8003 0000  8004 0000  8005 0000
    8007 0009 00000001 434953434f          | CISCO
    80000000
""")
REGISTRATION_V6 = packed("""
    0002 86dd 0000000000 01 0068 0000 0000 | IPv6 over IPv6
    01 03 10 00  10 10 8000 00000009
    20010db8000000000000000000000001
    fd000000000000000000000000000002
    fd000000000000000000000000000001
    00 40 0000 0000 003c 00 00 10 00
    fd000000000000010000000000000000
""")
REGISTRATION_V6_OVER_V4 = packed("""
    0001 86dd 0000000000 01 005c 0000 0000 | IPv6 over IPv4
    01 04 04 00  10 10 8000 00000009
    c0000202
    fd000000000000000000000000000002
    fd000000000000000000000000000001
    0e 80 0000 0000 0000 04 00 00 00       | NAK 14
    c0000263
    0000 0000 0000 0000 00 00 00 00
""")
PURGE = packed("""
    0001 0800 0000000000 ff 0058 0000 0000
    01 05 04 00  04 04 8000 0000002a       | purge request, no reply wanted
    c0000202 0a000002 0a000001
    00 18 0000 0000 0000 00 00 04 00 0a030300
    00 20 0000 0000 0000 04 00 04 09 c0000203 0a000003
    00000000 0000 0000 00 00 00 00
""")
ERROR = packed("""
    0001 0800 0000000000 ff 0041 0000 0000
    01 07 04 00  04 04 0000 0007 0010      | error indication: protocol error at octet 16
    c0000201 0a000001 0a000002
    0001 0800 0000000000 ff 0015 ffff 0000 02 01 04 00 04
    00000000
""")
SUBADDRESS = packed("""
    0001 0800 0000000000 10 003d 0000 0000
    01 01 04 03  04 04 0000 00000001       | subaddresses, of three octets and of two
    c0000202 aabbcc 0a000002 0a000009
    00 20 0000 0000 0000 04 02 00 00 c0000203 0102
""")

REAL = {
    "resolution-request": RESOLUTION_REQUEST,
    "resolution-reply": RESOLUTION_REPLY,
    "traffic-indication": TRAFFIC_INDICATION,
    "echoed-request": ECHOED_REQUEST,
    "registration-cisco": REGISTRATION_CISCO,
    "registration-v6": REGISTRATION_V6,
    "registration-reply-v6-over-v4": REGISTRATION_V6_OVER_V4,
    "purge": PURGE,
    "error": ERROR,
    "subaddress": SUBADDRESS,
}


# --- any packet -----------------------------------------------------------------------------------------------------------


def cies(nbma_size: int, protocol_size: int) -> st.SearchStrategy[Cie]:
    octet = st.integers(0, 255)
    return st.builds(
        Cie,
        code=octet,
        prefix_length=octet,
        mtu=st.integers(0, 0xFFFF),
        holding_time=st.integers(0, 0xFFFF),
        nbma=st.sampled_from([0, nbma_size]).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
        protocol=st.sampled_from([0, protocol_size]).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
        preference=octet,
        subaddress=st.binary(max_size=3),
    )


extensions = st.builds(Extension, st.integers(1, 0x3FFF), st.binary(max_size=40), st.booleans())


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    nbma_size, protocol_size = draw(st.sampled_from([4, 16])), draw(st.sampled_from([4, 16]))
    kind = draw(st.sampled_from(Kind))
    about = kind in (Kind.ERROR_INDICATION, Kind.TRAFFIC_INDICATION)
    word = st.integers(0, 0xFFFF)

    def octets(size: int) -> bytes:
        return draw(st.binary(min_size=size, max_size=size))

    return Packet(
        kind,
        octets(nbma_size),
        octets(protocol_size),
        octets(protocol_size),
        request_id=0 if about else draw(st.integers(0, 0xFFFFFFFF)),
        flags=draw(word),
        cies=() if about else tuple(draw(st.lists(cies(nbma_size, protocol_size), max_size=5))),
        extensions=tuple(draw(st.lists(extensions, max_size=6))),
        hop_count=draw(st.integers(0, 255)),
        code=draw(word) if about else 0,
        offset=draw(word) if about else 0,
        body=draw(st.binary(max_size=80)) if about else b"",
        source_subaddress=draw(st.binary(max_size=4)),
    )
