"""Keyrings: pre-shared keys by peer."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from ikev2.config import IdentityKind, IdentityMatch, Ikev2Config, Keyring, KeyringPeer
from ikev2.lines.shared import ADDRESS, IDENTITY, identity_match, identity_values, prefix_of, prefix_values
from stack.ios.grammar import CONFIG, Draft, Line, Place, Sections, Values, entry, opening, refused, setting, value

__all__ = ["KEYRING_LINES", "KEY_WORDS", "key_values"]

KEYRING_MODE, PEER_MODE = "config-ikev2-keyring", "config-ikev2-keyring-peer"

_KEYRING: Place[Keyring] = entry(
    Ikev2Config, "keyrings", "keyring", lambda values: Keyring(values["keyring"]), mode=KEYRING_MODE
)

KEY_WORDS = "[0] {key:text}"
"""A key as it is. Text up to the end of the line, so a key may have blanks; `0` only says that it is not encrypted."""


def key_values(key: str) -> Values:
    """Printed with `0`, so that no key reads as the word before it."""
    return {"key": key, "0": True}


def _fetch(sections: Sections, values: Values) -> KeyringPeer | None:
    keyring = _KEYRING.fetch(sections, values)
    return None if keyring is None else keyring.peers.get(values["peer"])


def _store(draft: Draft, values: Values, peer: KeyringPeer) -> None:
    keyring = _KEYRING.get(draft, values)
    _KEYRING.store(draft, values, evolve(keyring, peers={**keyring.peers, peer.name: peer}))


def _drop(draft: Draft, values: Values) -> None:
    keyring = _KEYRING.get(draft, values)
    left = {name: peer for name, peer in keyring.peers.items() if name != values["peer"]}
    _KEYRING.store(draft, values, evolve(keyring, peers=left))


def _keys(sections: Sections, values: Values) -> Iterable[Values]:
    if "peer" in values or "keyring" not in values:
        return ({},) if "peer" in values else ()
    return [{"peer": name} for name in _KEYRING.get(sections, values).peers]


_PEER: Place[KeyringPeer] = Place(
    _fetch, _store, lambda values: KeyringPeer(values["peer"]), _keys, _drop, mode=PEER_MODE
)


def _put_key(peer: KeyringPeer, values: Values) -> KeyringPeer:
    match values.get("end"):
        case "local":
            return evolve(peer, local_key=values["key"])
        case "remote":
            return evolve(peer, remote_key=values["key"])
    return evolve(peer, local_key=values["key"], remote_key=values["key"])


def _remove_key(peer: KeyringPeer, values: Values) -> KeyringPeer:
    end = values.get("end")
    return evolve(
        peer,
        local_key=peer.local_key if end == "remote" else "",
        remote_key=peer.remote_key if end == "local" else "",
    )


def _show_key(peer: KeyringPeer) -> Iterable[Values]:
    if peer.local_key and peer.local_key == peer.remote_key:
        yield key_values(peer.local_key)
        return
    for end, key in (("local", peer.local_key), ("remote", peer.remote_key)):
        if key:
            yield {"end": end, **key_values(key)}


_TYPE_6 = "encrypted keys (type 6) need the master key of the router that wrote them: give the key itself"

KEYRING_LINES: tuple[Line, ...] = (
    opening(
        CONFIG,
        "crypto ikev2 keyring {keyring:name:ikev2-keyring}",
        _KEYRING,
        KEYRING_MODE,
        show=lambda held: ({"keyring": held.name},),
        help="pre-shared keys, by peer",
        order=36,
    ),
    opening(
        KEYRING_MODE,
        "peer {peer:name:keyring-peer}",
        _PEER,
        PEER_MODE,
        show=lambda held: ({"peer": held.name},),
        help="a peer or a group of them; the name is for people",
        order=1,
    ),
    value(PEER_MODE, "description {text:text}", _PEER, "description", "text", help="a remark", order=1),
    setting(
        PEER_MODE,
        ADDRESS,
        _PEER,
        lambda peer, values: evolve(peer, prefix=prefix_of(values)),
        show=lambda peer: () if peer.prefix is None else (prefix_values(peer.prefix),),
        remove=lambda peer, _values: evolve(peer, prefix=None),
        help="its address, or a network (0.0.0.0 0.0.0.0: anywhere)",
        no="address [{address:ipv4} [{mask:mask}] | {prefix:prefix6}]",
        order=2,
    ),
    setting(
        PEER_MODE,
        f"identity ({IDENTITY})",
        _PEER,
        lambda peer, values: evolve(peer, identity=identity_match(values)),
        show=lambda peer: () if peer.identity is None else (identity_values(peer.identity),),
        remove=lambda peer, _values: evolve(peer, identity=None),
        help="who it says it is",
        no=f"identity [{IDENTITY}]",
        order=3,
    ),
    setting(
        PEER_MODE,
        "hostname {value:word}",
        _PEER,
        lambda peer, values: evolve(peer, identity=IdentityMatch(IdentityKind.FQDN, values["value"])),
        remove=lambda peer, _values: evolve(peer, identity=None),
        help="the same as `identity fqdn`: no name is ever looked up",
        printed="identity fqdn {value:word}",
        order=3,
    ),
    setting(
        PEER_MODE,
        f"pre-shared-key [{{end:local|remote}}] {KEY_WORDS}",
        _PEER,
        _put_key,
        show=_show_key,
        remove=_remove_key,
        help="the key; local: what we prove ourselves by, remote: what the peer does, without either: both",
        no=f"pre-shared-key [{{end:local|remote}}] [{KEY_WORDS}]",
        order=4,
    ),
    refused(PEER_MODE, "pre-shared-key [{end:local|remote}] 6 {rest:text}", _TYPE_6),
    refused(PEER_MODE, "pre-shared-key [{end:local|remote}] hex {rest:text}", "keys are text here, not octets in hex"),
)
