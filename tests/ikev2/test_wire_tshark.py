"""Our messages as tshark reads them: nothing malformed, and the numbers that we meant."""

from __future__ import annotations

import asyncio
import subprocess

import pytest

from ikev2.wire import (
    Attribute,
    AttributeKind,
    Auth,
    Certificate,
    CertificateRequest,
    Configuration,
    Delete,
    Encrypted,
    EncryptedFragment,
    Identity,
    IdentityPayload,
    KeyExchange,
    Message,
    Nonce,
    Notify,
    NotifyKind,
    Payload,
    Proposal,
    SecurityAssociation,
    TrafficSelectors,
    Transform,
    Unknown,
    VendorId,
    encode,
)
from stack.esp import Selector
from stack.testing import run
from tests.conftest import require_tool
from tests.ikev2.wire_values import ISPI, RSPI
from tests.stack.testing.worlds import pair

pytestmark = pytest.mark.interop

GCM = (Transform(1, 20, 256), Transform(2, 6), Transform(4, 31))
ESP = (Transform(1, 20, 256), Transform(5, 0), Transform(5, 1))
V4 = Selector(bytes(4), b"\xff" * 4, 47)
V6 = Selector(bytes(16), b"\xff" * 16)

PAYLOADS: list[tuple[Payload, ...]] = [
    (
        SecurityAssociation((Proposal(1, 1, b"", GCM), Proposal(2, 1, b"", GCM))),
        KeyExchange(31, bytes(32)),
        Nonce(bytes(32)),
        Notify(NotifyKind.NAT_DETECTION_SOURCE_IP, bytes(20)),
        Notify(NotifyKind.IKEV2_FRAGMENTATION_SUPPORTED),
        Notify(NotifyKind.SIGNATURE_HASH_ALGORITHMS, bytes.fromhex("000200030004")),
        VendorId(b"FLEXVPN-SUPPORTED"),
        CertificateRequest(4, bytes(40)),
    ),
    (Notify(NotifyKind.COOKIE, bytes(24)),),
    (Notify(NotifyKind.INVALID_KE_PAYLOAD, b"\0\x13"),),
    # what stands inside Encrypted, here in the clear so that it is seen
    (
        IdentityPayload(Identity(2, b"spoke.example"), True),
        IdentityPayload(Identity(1, bytes(4)), False),
        Certificate(4, bytes.fromhex("3000")),
        Auth(2, bytes(32)),
        Configuration(1, (Attribute(AttributeKind.INTERNAL_IP4_ADDRESS), Attribute(AttributeKind.UNITY_BANNER))),
        Configuration(2, (Attribute(13, bytes(8)), Attribute(15, bytes(17)), Attribute(25, b"example.net"))),
        SecurityAssociation((Proposal(1, 3, b"\0\0\1\1", ESP),)),
        TrafficSelectors(True, (V4, V6)),
        TrafficSelectors(False, (V4,)),
        Notify(NotifyKind.USE_TRANSPORT_MODE),
    ),
    (Notify(NotifyKind.REKEY_SA, b"", 3, b"\0\0\1\1"), Delete(3, (b"\0\0\1\1", b"\0\0\1\2")), Delete(1)),
    (Unknown(200, False, b"future"), Nonce(bytes(16))),
    (Encrypted(35, bytes(64)),),
    (EncryptedFragment(35, 1, 2, bytes(64)),),
    (),
]


def dissected(octets: list[bytes], file, *fields: str) -> list[list[str]]:
    """The fields of each message, sent from port 500 to port 500 and read by tshark."""

    async def body() -> None:
        world, a, b = pair()
        with world.pcap(file):
            port, far = a.datagrams(500), b.datagrams(500)
            for each in octets:
                port.send(each, b"", bytes((192, 0, 2, 2)), 500)
                await asyncio.sleep(0.01)
            assert far.receive().octets == octets[0]

    run(body())
    command = [require_tool("tshark"), "-r", str(file), "-Y", "udp", "-T", "fields"]
    for name in fields:
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_our_messages_are_read_without_a_malformed_mark(tmp_path):
    messages = [
        Message(ISPI, RSPI, 34 + at % 4, at, at % 2 == 0, at % 3 == 0, payloads) for at, payloads in enumerate(PAYLOADS)
    ]
    rows = dissected(
        [encode(message) for message in messages],
        tmp_path / "ike.pcapng",
        "_ws.malformed",
        "_ws.expert.severity",
        "isakmp.messageid",
        "isakmp.exchangetype",
        "isakmp.typepayload",
        "frame.protocols",
    )
    assert len(rows) == len(messages)
    for message, (malformed, severity, number, exchange, kinds, protocols) in zip(messages, rows, strict=True):
        assert malformed == ""
        assert "8388608" not in severity.split(",")  # an error, by tshark's own opinion
        assert (int(number, 0), int(exchange)) == (message.message_id, message.exchange)
        assert protocols.endswith("isakmp")
        assert len([kind for kind in kinds.split(",") if kind]) >= len(message.payloads)


def test_the_numbers_are_those_that_we_meant(tmp_path):
    (row,) = dissected(
        [encode(Message(ISPI, RSPI, 34, 0, True, False, PAYLOADS[0]))],
        tmp_path / "init.pcapng",
        "isakmp.ispi",
        "isakmp.rspi",
        "isakmp.prop.number",
        "isakmp.tf.type",
        "isakmp.tf.id.encr",
        "isakmp.ike2.attr.key_length",
        "isakmp.key_exchange.dh_group",
        "isakmp.notify.msgtype",
        "isakmp.vid_bytes",
    )
    assert row == [
        ISPI.hex(),
        RSPI.hex(),
        "1,2",
        "1,2,4,1,2,4",
        "20,20",
        "256,256",
        "31",
        "16388,16430,16431",
        b"FLEXVPN-SUPPORTED".hex(),
    ]
