"""What tests of an IKE SA say and look for, beside the pair itself."""

from __future__ import annotations

from ikev2.engine import contract as c
from ikev2.wire import Message, encode, encode_payloads, encode_sealed
from tests.ikev2.pair import A, B

INIT = (
    "SA KE No N(NAT_DETECTION_SOURCE_IP) N(NAT_DETECTION_DESTINATION_IP) N(IKEV2_FRAGMENTATION_SUPPORTED) "
    "N(SIGNATURE_HASH_ALGORITHMS) V"
)
AUTH = "IDi N(INITIAL_CONTACT) AUTH N(USE_TRANSPORT_MODE) SA TSi TSr"


def begin(pair, **more):
    pair.a.initiate(more.get("child", pair.a.directory.children))


def up(pair):
    begin(pair)
    pair.run()
    return pair


def reasons(side):
    return [(o.reason, o.retry, o.established, o.peer) for o in side.closed]


def answer_init(request: Message, *payloads, spi=b"\0" * 8) -> bytes:
    return encode(Message(request.initiator_spi, spi, 34, 0, False, True, payloads))


def to_a(pair, octets):
    """Somebody says this to A, in B's name."""
    pair.a.take(octets, c.Ends(A, B))


def sealed(side, exchange, message_id, payloads, *, response=False, clear=None):
    """What `side` would send, without its window knowing."""
    sa = side.current
    first, octets = encode_payloads(payloads) if clear is None else clear
    message = Message(sa.spi_i, sa.spi_r, exchange, message_id, sa.initiator, response)
    return encode_sealed(message, first, octets, sa.seal_out)


def to_b(pair, octets, ends=None):
    pair.b.take(octets, ends or c.Ends(B, A))
