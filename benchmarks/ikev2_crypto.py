"""What the cryptography of an IKEv2 responder costs for one handshake, and how much of it is ours.

A handshake here: choose the suite, make a key and the shared secret, derive the IKE SA's keys, open IKE_AUTH, verify the peer's
AUTH and make our own, seal the answer, derive the CHILD_SA's keys. No messages are coded, no certificates read.

The reference does the same by calls of `cryptography` and `hmac` alone, with constants for whatever is decided. It runs
alternately with ours in the same process, so that the ratio holds on a busy or a slow machine; the difference is what our
Python costs around the primitives.

    python benchmarks/ikev2_crypto.py [--handshakes 1500] [--rounds 7] [--json]
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ikev2.config import TransformSet
from ikev2.crypto.auth import OUR_HASHES, psk_auth, sign, signed_octets, verify, verify_psk
from ikev2.crypto.dh import new_key
from ikev2.crypto.keys import child_keys, ike_keys
from ikev2.crypto.sealing import sealers
from ikev2.crypto.suites import Mismatch, Prf, choose_esp, choose_ike, default_ike_proposals, esp_proposals

TARGET = 60.0
"""Microseconds a handshake of ours around the primitives, with a pre-shared key, on the project's own 2-core machine."""
_PSK = b"a pre-shared key"
_NI, _NR, _SPI_I, _SPI_R = bytes(32), bytes(range(32)), b"initiato", b"responde"
_REQUEST, _RESPONSE = os.urandom(480), os.urandom(260)
_ID_I, _ID_R = b"\x02\0\0\0spoke.example.com", b"\x02\0\0\0hub.example.com"
_INSIDE, _HEADER = bytes(400), bytes(32)
_PEER = X25519PrivateKey.generate()
_PEER_PUBLIC = _PEER.public_key().public_bytes_raw()
_OURS = default_ike_proposals()
_ESP = esp_proposals([TransformSet("default")])
_KEY = rsa.generate_private_key(65537, 2048)
_PUBLIC = _KEY.public_key()
_SIGNED = sign(_KEY, bytes(500), peer_hashes=OUR_HASHES)


def ours(certificates: bool) -> None:
    chosen, esp = choose_ike(_OURS, _OURS), choose_esp(_ESP, _ESP, groups=False)
    assert not isinstance(chosen, Mismatch)
    assert not isinstance(esp, Mismatch)
    suite = chosen[2]
    key = new_key(suite.group, os.urandom)
    keys = ike_keys(suite, key.shared(_PEER_PUBLIC), _NI, _NR, _SPI_I, _SPI_R)
    theirs, own = sealers(suite, keys, os.urandom)
    body = theirs.seal(_HEADER, _INSIDE)  # the peer's, which the reference does as well
    theirs.open(_HEADER, body)
    signed = signed_octets(_REQUEST, _NR, suite.prf, keys.pi, _ID_I)
    to_sign = signed_octets(_RESPONSE, _NI, suite.prf, keys.pr, _ID_R)
    if certificates:
        verify(_PUBLIC, _SIGNED, bytes(500))
        sign(_KEY, to_sign, peer_hashes=OUR_HASHES)
    else:
        auth = psk_auth(suite.prf, _PSK, signed)  # the peer's
        verify_psk(suite.prf, _PSK, auth, signed)
        psk_auth(suite.prf, _PSK, to_sign)
    own.seal(_HEADER, _INSIDE)
    child_keys(suite.prf, keys.d, esp[2], _NI, _NR)


_PKCS1, _SHA256 = padding.PKCS1v15(), hashes.SHA256()
_SIGNATURE = _SIGNED.octets[16:]


def _plus(key: bytes, seed: bytes, blocks: int) -> bytes:
    block = out = b""
    for n in range(1, blocks + 1):
        block = hmac.digest(key, block + seed + bytes([n]), "sha384")
        out += block
    return out


def _mac(key: bytes, octets: bytes) -> bytes:
    return hmac.digest(key, octets, "sha384")


def reference(certificates: bool) -> None:
    """AES-GCM-256, HMAC-SHA-384 and X25519, as `ours` comes to choose them."""
    private = X25519PrivateKey.from_private_bytes(os.urandom(32))
    private.public_key().public_bytes_raw()
    shared = private.exchange(X25519PublicKey.from_public_bytes(_PEER_PUBLIC))
    keys = _plus(_mac(_NI + _NR, shared), _NI + _NR + _SPI_I + _SPI_R, 5)
    theirs, own = AESGCM(keys[48:80]), AESGCM(keys[84:116])
    theirs.decrypt(bytes(12), theirs.encrypt(bytes(12), _INSIDE, _HEADER), _HEADER)
    signed = _REQUEST + _NR + _mac(keys[120:168], _ID_I)
    to_sign = _RESPONSE + _NI + _mac(keys[168:216], _ID_R)
    if certificates:
        _PUBLIC.verify(_SIGNATURE, bytes(500), _PKCS1, _SHA256)
        _KEY.sign(to_sign, _PKCS1, _SHA256)
    else:
        _mac(_mac(_PSK, b"Key Pad for IKEv2"), signed)
        _mac(_mac(_PSK, b"Key Pad for IKEv2"), signed)
        _mac(_mac(_PSK, b"Key Pad for IKEv2"), to_sign)
    own.encrypt(bytes(12), _INSIDE, _HEADER)
    _plus(keys[:48], _NI + _NR, 2)


def _time(run: Callable[[bool], None], certificates: bool, handshakes: int) -> float:
    """Microseconds of CPU a handshake."""
    start = time.process_time()
    for _ in range(handshakes):
        run(certificates)
    return (time.process_time() - start) / handshakes * 1e6


def measure(certificates: bool, handshakes: int, rounds: int) -> dict[str, Any]:
    pairs = []
    for turn in range(rounds + 1):
        pair = (_time(ours, certificates, handshakes), _time(reference, certificates, handshakes))
        if turn:  # the first one warms up
            pairs.append(pair)
    ratio = statistics.median(one / other for one, other in pairs)
    around = statistics.median(one - other for one, other in pairs)
    best = min(one for one, _ in pairs)
    return {"microseconds": round(best, 1), "ratio": round(ratio, 3), "around_primitives": round(around, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--handshakes", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    assert _OURS[0].transforms[2].number == Prf.HMAC_SHA2_384.number
    results = {
        "psk": measure(False, options.handshakes, options.rounds),
        "rsa2048": measure(True, max(1, options.handshakes // 4), options.rounds),
    }
    missed = results["psk"]["around_primitives"] > TARGET
    if options.json:
        print(json.dumps({"target": TARGET, **results}))
        return 0
    for name, row in results.items():
        print(
            f"{name:8} {row['microseconds']:7.1f} us a handshake, {row['ratio']:.3f} of the bare calls, "
            f"{row['around_primitives']:5.1f} us around them"
        )
    print(
        f"target: at most {TARGET:.0f} us around the primitives with a pre-shared key: {'missed' if missed else 'met'}"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
