"""The kernel's IPsec in User-mode Linux, as `ip xfrm` sets it: what a `Pair` of ours is on its side."""

from __future__ import annotations

import re

from stack.esp import Cipher, Integrity
from tests.interop.keyed import Pair
from tests.interop.uml import UserModeLinux

__all__ = ["counters", "errors", "flush", "key_for", "put"]

AEAD = {
    Cipher.AES_GCM_128: "rfc4106(gcm(aes))",
    Cipher.AES_GCM_256: "rfc4106(gcm(aes))",
    Cipher.CHACHA20_POLY1305: "rfc7539esp(chacha20,poly1305)",
}


def key_for(pair: Pair, fill: int) -> str:
    """Hex of as many octets as the pair's algorithms take."""
    form = pair.form
    size = form.cipher.key + form.cipher.salt + form.integrity.key
    return bytes((fill + 7 * n) & 0xFF for n in range(size)).hex()


def _algorithms(pair: Pair, key: str) -> str:
    form = pair.form
    if form.cipher in AEAD:
        return f"aead '{AEAD[form.cipher]}' 0x{key} 128"
    cut = 2 * form.cipher.key
    assert form.integrity is not Integrity.NONE
    name, bits = form.integrity.digest, form.integrity.icv * 8
    return f"enc 'cbc(aes)' 0x{key[:cut]} auth-trunc 'hmac({name})' 0x{key[cut:]} {bits}"


def flush(uml: UserModeLinux) -> None:
    uml.run("ip xfrm state flush && ip xfrm policy flush")


def put(uml: UserModeLinux, pair: Pair, local: str) -> None:
    """Between `pair.remote`, which is the kernel's own address, and `local`, ours: both SAs, and policies that let GRE pass
    by them and not otherwise. What is `in` for us is `out` for it."""
    for source, destination, spi, key, last, way in (
        (pair.remote, local, pair.spi_in, pair.key_in, pair.taken, "o"),
        (local, pair.remote, pair.spi_out, pair.key_out, pair.sent, ""),
    ):
        ends = f"src {source} dst {destination} proto esp"
        flags = f"replay-window {pair.window} flag {'esn' if pair.esn else ''} af-unspec"
        low = f" replay-{way}seq {last & 0xFFFFFFFF}" if last else ""
        high = f" replay-{way}seq-hi {last >> 32}" if last >> 32 else ""
        encap = f" encap espinudp 4500 4500 {source}" if pair.udp else ""
        mode = pair.form.mode.value
        uml.run(
            f"ip xfrm state add {ends} spi {spi} reqid {pair.spi_in} mode {mode} {flags}{low}{high} "
            f"{_algorithms(pair, key)}{encap}"
        )
        direction = "out" if way else "in"
        uml.run(
            f"ip xfrm policy add src {source} dst {destination} proto gre dir {direction} "
            f"tmpl {ends} reqid {pair.spi_in} mode {mode}"
        )


def counters(uml: UserModeLinux) -> dict[str, int]:
    """Of /proc/net/xfrm_stat: what the kernel's IPsec has refused, by reason."""
    said = uml.run("cat /proc/net/xfrm_stat")
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)", said, re.MULTILINE)}


def errors(uml: UserModeLinux, before: dict[str, int]) -> dict[str, int]:
    """What was refused since."""
    return {name: count - before[name] for name, count in counters(uml).items() if count != before[name]}
