"""Proposals, policies, and what holds for IKEv2 as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import evolve

from ikev2.config import Dpd, IkeProposal, Ikev2Config, Limits, Policy
from ikev2.lines.shared import IKEV2, listed, words
from stack.ios.grammar import (
    CONFIG,
    NO,
    Line,
    Place,
    Refusal,
    Values,
    entry,
    flag,
    no_effect,
    opening,
    refused,
    setting,
)

__all__ = ["DPD_WORDS", "IKE_LINES", "dpd_of", "dpd_values"]

PROPOSAL_MODE, POLICY_MODE = "config-ikev2-proposal", "config-ikev2-policy"

_PROPOSAL: Place[IkeProposal] = entry(
    Ikev2Config, "proposals", "proposal", lambda values: IkeProposal(values["proposal"]), mode=PROPOSAL_MODE
)
_POLICY: Place[Policy] = entry(
    Ikev2Config, "policies", "policy", lambda values: Policy(values["policy"]), mode=POLICY_MODE
)

_PROPOSAL_LINES = (
    opening(
        CONFIG,
        "crypto ikev2 proposal {proposal:name:ikev2-proposal}",
        _PROPOSAL,
        PROPOSAL_MODE,
        show=lambda held: ({"proposal": held.name},),
        help="algorithms of IKE SAs; the one called `default` exists by itself",
        order=35,
    ),
    words(
        PROPOSAL_MODE,
        "encryption {encryption:ike-cipher}...",
        _PROPOSAL,
        "encryption",
        "encryption",
        help="ciphers, best first (chacha20-poly1305 is ours, not IOS's)",
        order=1,
    ),
    words(
        PROPOSAL_MODE,
        "integrity {integrity:ike-hash}...",
        _PROPOSAL,
        "integrity",
        "integrity",
        help="integrity, best first; for aes-cbc, since AEAD ciphers have their own",
        order=2,
    ),
    words(
        PROPOSAL_MODE,
        "prf {prf:ike-hash}...",
        _PROPOSAL,
        "prf",
        "prf",
        help="how keys are derived; without it, by `integrity`, or what fits an AEAD cipher's key",
        order=3,
    ),
    words(
        PROPOSAL_MODE,
        "group {groups:dh-group}...",
        _PROPOSAL,
        "groups",
        "groups",
        help="Diffie-Hellman groups, best first (31, X25519, is ours, not IOS's)",
        order=4,
    ),
)


def _named(name: str) -> Callable[[Values], str]:
    return lambda values: str(values[name])


_ALL_VRFS = "a policy is for all VRFs; profiles have `match fvrf`"
_POLICY_LINES = (
    opening(
        CONFIG,
        "crypto ikev2 policy {policy:name:ikev2-policy}",
        _POLICY,
        POLICY_MODE,
        show=lambda held: ({"policy": held.name},),
        help="which proposals are used; the one called `default` exists by itself",
        order=35,
    ),
    no_effect(POLICY_MODE, "match fvrf any", _ALL_VRFS, no=False),
    refused(POLICY_MODE, "match fvrf {vrf:name:vrf}", _ALL_VRFS),
    listed(
        POLICY_MODE,
        "match address local {address:address}",
        _POLICY,
        "local_addresses",
        lambda values: bytes(values["address"]),
        lambda address: {"address": address},
        help="only where this is our address",
        order=1,
    ),
    listed(
        POLICY_MODE,
        "proposal {offered:name:ikev2-proposal}",
        _POLICY,
        "proposals",
        _named("offered"),
        lambda name: {"offered": name},
        help="a proposal; the first one that suits both ends is taken",
        order=2,
    ),
)

# --- as a whole -------------------------------------------------------------------------------------------------------

DPD_WORDS = "dpd {interval:int:1-3600} {retry:int:1-60} {how:on-demand|periodic}"


def dpd_of(values: Values) -> Dpd:
    return Dpd(values["interval"], values["retry"], values["how"] == "on-demand")


def dpd_values(dpd: Dpd | None) -> Iterable[Values]:
    if dpd is not None:
        yield {
            "interval": dpd.interval,
            "retry": dpd.retry,
            "how": "on-demand" if dpd.on_demand else "periodic",
        }


def _put_fragmentation(ike: Ikev2Config, values: Values) -> Ikev2Config:
    return evolve(ike, fragmentation_mtu=values.get("mtu", Ikev2Config().fragmentation_mtu))


def _show_fragmentation(ike: Ikev2Config) -> Iterable[Values]:
    if ike.fragmentation_mtu is None:
        yield {NO: True}
    elif ike.fragmentation_mtu != Ikev2Config().fragmentation_mtu:
        yield {"mtu": ike.fragmentation_mtu}


def _show_keepalive(ike: Ikev2Config) -> Iterable[Values]:
    if ike.nat_keepalive == 0:
        yield {NO: True}
    elif ike.nat_keepalive != Ikev2Config().nat_keepalive:
        yield {"seconds": ike.nat_keepalive}


def _limit(name: str, *, default: bool = False) -> Callable[[Ikev2Config, Values], Ikev2Config]:
    def put(ike: Ikev2Config, values: Values) -> Ikev2Config:
        wanted: dict[str, Any] = {name: getattr(Limits(), name) if default else values["number"]}
        return evolve(ike, limits=evolve(ike.limits, **wanted))

    return put


def _show_limit(name: str) -> Callable[[Ikev2Config], Iterable[Values]]:
    def show(ike: Ikev2Config) -> Iterable[Values]:
        held = getattr(ike.limits, name)
        return () if held == getattr(Limits(), name) else ({"number": held},)

    return show


def _one_window(values: Values) -> None:
    if values["window"] != 1:
        raise Refusal("one exchange at a time is all that is here: only a window of 1 can be had", "window")


_NEGOTIATING = "crypto ikev2 limit max-in-negotation-sa {number:int:1-65535}"
_GLOBAL_LINES = (
    setting(
        CONFIG,
        "crypto ikev2 cookie-challenge {number:int:0-1000}",
        IKEV2,
        lambda ike, values: evolve(ike, cookie_challenge=values["number"]),
        show=lambda ike: () if ike.cookie_challenge is None else ({"number": ike.cookie_challenge},),
        remove=lambda ike, _values: evolve(ike, cookie_challenge=None),
        help="half-open SAs above which strangers have to return a cookie; 0: always; without this line, 100",
        order=38,
    ),
    setting(
        CONFIG,
        "crypto ikev2 fragmentation [mtu {mtu:int:68-1500}]",
        IKEV2,
        _put_fragmentation,
        show=_show_fragmentation,
        remove=lambda ike, _values: evolve(ike, fragmentation_mtu=None),
        help="send large messages in pieces of so many octets (RFC 7383); on by default",
        order=38,
    ),
    setting(
        CONFIG,
        "crypto ikev2 limit max-sa {number:int:1-65535}",
        IKEV2,
        _limit("max_sa"),
        show=_show_limit("max_sa"),
        remove=_limit("max_sa", default=True),
        help="IKE SAs at once",
        order=38,
    ),
    setting(
        CONFIG,
        _NEGOTIATING,
        IKEV2,
        _limit("max_in_negotiation"),
        show=_show_limit("max_in_negotiation"),
        remove=_limit("max_in_negotiation", default=True),
        help="IKE SAs under negotiation at once (the word is IOS's; `max-in-negotiation-sa` is taken too)",
        order=38,
    ),
    setting(
        CONFIG,
        _NEGOTIATING.replace("negotation", "negotiation"),
        IKEV2,
        _limit("max_in_negotiation"),
        remove=_limit("max_in_negotiation", default=True),
        help="the same as `max-in-negotation-sa`",
        printed=_NEGOTIATING,
        order=38,
    ),
    setting(
        CONFIG,
        f"crypto ikev2 {DPD_WORDS}",
        IKEV2,
        lambda ike, values: evolve(ike, dpd=dpd_of(values)),
        show=lambda ike: dpd_values(ike.dpd),
        remove=lambda ike, _values: evolve(ike, dpd=None),
        help="how dead peers are noticed, where a profile does not say: seconds of silence, seconds between tries",
        no="crypto ikev2 dpd [{interval:int:1-3600} {retry:int:1-60} {how:on-demand|periodic}]",
        order=38,
    ),
    setting(
        CONFIG,
        "crypto ikev2 nat keepalive {seconds:int:5-3600}",
        IKEV2,
        lambda ike, values: evolve(ike, nat_keepalive=values["seconds"]),
        show=_show_keepalive,
        remove=lambda ike, _values: evolve(ike, nat_keepalive=0),
        help="seconds between the packets that keep a NAT's mapping open (RFC 3948 4); 20 without this line",
        order=38,
    ),
    flag(
        CONFIG,
        "crypto ikev2 allow sha1",
        IKEV2,
        "sha1",
        help="SHA-1 in integrity, PRF and signatures, for old peers (ours, not IOS's): off unless this line stands",
        order=38,
    ),
    Line(
        (CONFIG,),
        "crypto ikev2 window {window:int:1-20}",
        "one exchange at a time",
        edit=lambda _draft, values: _one_window(values),
        undo=lambda _draft, _values: None,
        effect=False,
        reason="one exchange at a time is how it works here",
        order=38,
    ),
    no_effect(CONFIG, "crypto ikev2 http-url cert", "certificates are never fetched from a URL that a peer names"),
    no_effect(
        CONFIG, "crypto ikev2 certificate-cache {number:int:1-2000}", "chains are verified each time; it is quick"
    ),
    no_effect(CONFIG, "crypto ikev2 diagnose error [{number:int:1-1000}]", "`show crypto ikev2 stats` has the reasons"),
    no_effect(CONFIG, "crypto logging {rest:text}", "IKEv2's events are always logged"),
    no_effect(CONFIG, "crypto engine {rest:text}", "there is one engine, of software"),
    refused(CONFIG, "crypto ikev2 redirect {rest:text}", "redirection (RFC 5685) is not in this release"),
    refused(CONFIG, "crypto ikev2 cluster", "there is no cluster of gateways here"),
    refused(CONFIG, "crypto ikev2 name-mangler {rest:text}", "names of authorization policies are given in full here"),
    refused(
        CONFIG,
        "crypto ikev2 client {rest:text}",
        "the client is a tunnel with `tunnel destination`, `ip address negotiated` and `tunnel protection`",
    ),
)

# --- IKEv1 ------------------------------------------------------------------------------------------------------------

_OLD = "IKEv1 is not spoken here (RFC 9395 deprecates it): `crypto ikev2` has all that is needed"
_MAPS = "traffic is chosen by routing to a tunnel here, not by a crypto map: `tunnel protection ipsec profile`"
_OLD_LINES = (
    refused(CONFIG, "crypto isakmp {rest:text}", _OLD),
    refused(CONFIG, "crypto keyring {rest:text}", _OLD),
    refused(CONFIG, "crypto gdoi {rest:text}", "group keys (GDOI) are not in this release"),
    refused(CONFIG, "crypto gkm {rest:text}", "group keys (GDOI) are not in this release"),
    refused(CONFIG, "crypto map {rest:text}", _MAPS),
    refused(CONFIG, "crypto dynamic-map {rest:text}", _MAPS),
    refused("config-if", "crypto map {rest:text}", _MAPS),
)

IKE_LINES: tuple[Line, ...] = (*_GLOBAL_LINES, *_PROPOSAL_LINES, *_POLICY_LINES, *_OLD_LINES)
