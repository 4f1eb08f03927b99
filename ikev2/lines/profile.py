"""IKEv2 profiles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import evolve

from ikev2.config import AaaAuthorization, AuthMethod, IdentityKind, IdentitySpec, IkeProfile, Ikev2Config
from ikev2.lines.ike import DPD_WORDS, dpd_of, dpd_values
from ikev2.lines.keyring import KEY_WORDS, key_values
from ikev2.lines.shared import IDENTITY, identity_match, identity_values, listed
from stack.addr import parse_address
from stack.ios.grammar import (
    CONFIG,
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
    value,
)

__all__ = ["PROFILE_LINES"]

MODE = "config-ikev2-profile"

_PROFILE: Place[IkeProfile] = entry(
    Ikev2Config, "profiles", "ike_profile", lambda values: IkeProfile(values["ike_profile"]), mode=MODE
)

# --- who belongs to it ------------------------------------------------------------------------------------------------

_FVRF = "match fvrf ({any:=any} | {vrf:name:vrf})"


def _show_fvrf(profile: IkeProfile) -> Iterable[Values]:
    if profile.match_fvrf != "":
        yield {"any": "any"} if profile.match_fvrf is None else {"vrf": profile.match_fvrf}


_MATCHES = (
    setting(
        MODE,
        _FVRF,
        _PROFILE,
        lambda profile, values: evolve(profile, match_fvrf=values.get("vrf")),
        show=_show_fvrf,
        remove=lambda profile, _values: evolve(profile, match_fvrf=""),
        no="match fvrf [{any:=any} | {vrf:name:vrf}]",
        help="only peers whose outer addresses are in this VRF; without this line, the default VRF",
        order=2,
    ),
    listed(
        MODE,
        "match address local {local:address}",
        _PROFILE,
        "match_local_address",
        lambda values: bytes(values["local"]),
        lambda address: {"local": address},
        help="only where this is our address",
        order=2,
    ),
    listed(
        MODE,
        "match address local interface {interface:interface}",
        _PROFILE,
        "match_local_interface",
        lambda values: str(values["interface"]),
        lambda name: {"interface": name},
        help="only where our address is one of this interface's",
        order=2,
    ),
    listed(
        MODE,
        f"match identity remote ({{kind:=any}} | {IDENTITY})",
        _PROFILE,
        "match_remote",
        identity_match,
        identity_values,
        help="peers that say they are this, and can prove it; `domain`: all names in it",
        order=3,
    ),
    listed(
        MODE,
        "match certificate {map:name:certificate-map}",
        _PROFILE,
        "match_certificate",
        lambda values: str(values["map"]),
        lambda name: {"map": name},
        help="peers whose certificate a map matches",
        order=4,
    ),
)

# --- who we are, and how both prove it --------------------------------------------------------------------------------


def _identity(values: Values) -> IdentitySpec:
    kind, said = IdentityKind(values["kind"]), values.get("value", "")
    if kind is IdentityKind.ADDRESS:
        try:
            parse_address(said)
        except ValueError as error:
            raise Refusal(str(error), "value") from None
    return IdentitySpec(kind, said)


def _show_identity(profile: IkeProfile) -> Iterable[Values]:
    if profile.identity_local is not None:
        yield {"kind": profile.identity_local.kind.value, "value": profile.identity_local.value}


_SIGNED = "{method:rsa-sig|ecdsa-sig|digital-signature}"
_METHOD = f"({{method:=pre-share}} [key {KEY_WORDS}] | {_SIGNED})"


def _put_local(profile: IkeProfile, values: Values) -> IkeProfile:
    return evolve(profile, auth_local=AuthMethod(values["method"]), local_key=values.get("key", ""))


def _show_local(profile: IkeProfile) -> Iterable[Values]:
    if profile.auth_local is not None:
        key = profile.local_key if profile.auth_local is AuthMethod.PSK else ""
        yield {"method": profile.auth_local.value, **(key_values(key) if key else {})}


def _put_remote(profile: IkeProfile, values: Values) -> IkeProfile:
    method = AuthMethod(values["method"])
    held = profile.auth_remote if method in profile.auth_remote else (*profile.auth_remote, method)
    if method is AuthMethod.PSK:
        profile = evolve(profile, remote_key=values.get("key", ""))
    return evolve(profile, auth_remote=held)


def _remove_remote(profile: IkeProfile, values: Values) -> IkeProfile:
    if "method" not in values:
        return evolve(profile, auth_remote=(), remote_key="")
    method = AuthMethod(values["method"])
    key = "" if method is AuthMethod.PSK else profile.remote_key
    return evolve(profile, auth_remote=tuple(one for one in profile.auth_remote if one is not method), remote_key=key)


def _show_remote(profile: IkeProfile) -> Iterable[Values]:
    for method in profile.auth_remote:
        key = profile.remote_key if method is AuthMethod.PSK else ""
        yield {"method": method.value, **(key_values(key) if key else {})}


_TRUSTPOINT = "pki trustpoint {trustpoint:word} [{use:sign|verify}]"


def _put_trustpoint(profile: IkeProfile, values: Values) -> IkeProfile:
    name, use = values["trustpoint"], values.get("use")
    without = _remove_trustpoint(profile, values)
    names = profile.trustpoints if name in profile.trustpoints else (*profile.trustpoints, name)
    return evolve(
        without,
        trustpoints=names,
        sign_only=(*without.sign_only, name) if use == "sign" else without.sign_only,
        verify_only=(*without.verify_only, name) if use == "verify" else without.verify_only,
    )


def _remove_trustpoint(profile: IkeProfile, values: Values) -> IkeProfile:
    changed: dict[str, Any] = {
        name: tuple(one for one in getattr(profile, name) if one != values["trustpoint"])
        for name in ("trustpoints", "sign_only", "verify_only")
    }
    return evolve(profile, **changed)


def _show_trustpoints(profile: IkeProfile) -> Iterable[Values]:
    for name in profile.trustpoints:
        use = "sign" if name in profile.sign_only else "verify" if name in profile.verify_only else ""
        yield {"trustpoint": name, "use": use}


_NO_EAP = "EAP is not spoken here: pre-shared keys or signatures (RFC 7296 2.16 is optional)"
_PROOFS = (
    setting(
        MODE,
        "identity local ({kind:address|fqdn|email} {value:word} | {kind:=key-id} {value:name} | {kind:=dn})",
        _PROFILE,
        lambda profile, values: evolve(profile, identity_local=_identity(values)),
        show=_show_identity,
        remove=lambda profile, _values: evolve(profile, identity_local=None),
        no="identity local [{kind:address|fqdn|email|key-id} [{value:name}] | {kind:=dn}]",
        help="who we say we are; dn: the subject of our certificate; without this line, our address",
        order=5,
    ),
    setting(
        MODE,
        f"authentication local {_METHOD}",
        _PROFILE,
        _put_local,
        show=_show_local,
        remove=lambda profile, _values: evolve(profile, auth_local=None, local_key=""),
        no=f"authentication local [{{method:=pre-share}} [key [{KEY_WORDS}]] | {_SIGNED}]",
        help="how we prove it (digital-signature is ours: whatever key the certificate has, by RFC 7427)",
        order=6,
    ),
    setting(
        MODE,
        f"authentication remote {_METHOD}",
        _PROFILE,
        _put_remote,
        show=_show_remote,
        remove=_remove_remote,
        no=f"authentication remote [{{method:=pre-share}} [key [{KEY_WORDS}]] | {_SIGNED}]",
        help="how the peer may; each line allows one way more",
        order=7,
    ),
    refused(MODE, "authentication {end:local|remote} eap [{rest:text}]", _NO_EAP),
    refused(MODE, "aaa authentication {rest:text}", _NO_EAP),
    value(
        MODE,
        "keyring local {keys:name:ikev2-keyring}",
        _PROFILE,
        "keyring",
        "keys",
        help="where the pre-shared keys are",
        order=8,
    ),
    refused(MODE, "keyring aaa {rest:text}", "keys of an AAA server are not in this release: `keyring local`"),
    setting(
        MODE,
        _TRUSTPOINT,
        _PROFILE,
        _put_trustpoint,
        show=_show_trustpoints,
        remove=_remove_trustpoint,
        no=_TRUSTPOINT,
        help="certificates: ours and those we believe; sign: only ours, verify: only those we believe",
        order=9,
    ),
)

# --- the rest ---------------------------------------------------------------------------------------------------------

_GROUP = "aaa authorization group [{override:=override}] {kind:psk|cert}"
_POLICY = "list {list:word} {authorization:name:authorization-policy}"


def _authorization(values: Values) -> AaaAuthorization:
    return AaaAuthorization(values["kind"], values["list"], values["authorization"], "override" in values)


def _put_authorization(profile: IkeProfile, values: Values) -> IkeProfile:
    one = _authorization(values)
    held = tuple(other for other in profile.aaa if other.kind != one.kind)
    return evolve(profile, aaa=(*held, one))


def _show_authorization(profile: IkeProfile) -> Iterable[Values]:
    for one in profile.aaa:
        yield {
            "override": "override" if one.override else "",
            "kind": one.kind,
            "list": one.list_name,
            "authorization": one.policy,
        }


def _remove_authorization(profile: IkeProfile, values: Values) -> IkeProfile:
    return evolve(profile, aaa=tuple(one for one in profile.aaa if one.kind != values["kind"]))


def _switch(name: str, text: str, help_text: str) -> Line:
    return flag(MODE, text, _PROFILE, name, help=help_text, order=14)


_NO_USERS = (
    "attributes of single users come from an AAA server, which is not in this release: `aaa authorization group`"
)
_NO_NAMES = "names are not mangled here: name the authorization policy"
_REST = (
    value(MODE, "description {text:text}", _PROFILE, "description", "text", help="a remark", order=1),
    setting(
        MODE,
        DPD_WORDS,
        _PROFILE,
        lambda profile, values: evolve(profile, dpd=dpd_of(values)),
        show=lambda profile: dpd_values(profile.dpd),
        remove=lambda profile, _values: evolve(profile, dpd=None),
        no="dpd [{interval:int:1-3600} {retry:int:1-60} {how:on-demand|periodic}]",
        help="how a dead peer is noticed: seconds of silence, seconds between tries",
        order=10,
    ),
    setting(
        MODE,
        f"{_GROUP} {_POLICY}",
        _PROFILE,
        _put_authorization,
        show=_show_authorization,
        remove=_remove_authorization,
        no=f"{_GROUP} [{_POLICY}]",
        help="the authorization policy of peers that prove themselves so",
        order=11,
    ),
    refused(MODE, "aaa authorization group {rest:text}", _NO_NAMES),
    refused(MODE, "aaa authorization user {rest:text}", _NO_USERS),
    no_effect(MODE, "aaa accounting {rest:text}", "there is no accounting; the bus and the log have every session"),
    setting(
        MODE,
        "virtual-template {number:int:1-4095} [mode auto]",
        _PROFILE,
        lambda profile, values: evolve(profile, virtual_template=values["number"]),
        show=lambda profile: () if profile.virtual_template is None else ({"number": profile.virtual_template},),
        remove=lambda profile, _values: evolve(profile, virtual_template=None),
        help="peers that come by themselves get an interface of their own, a clone of this one",
        order=12,
    ),
    value(MODE, "lifetime {seconds:int:120-86400}", _PROFILE, "lifetime", "seconds", help="of IKE SAs", order=13),
    setting(
        MODE,
        "nat keepalive {seconds:int:5-3600}",
        _PROFILE,
        lambda profile, values: evolve(profile, nat_keepalive=values["seconds"]),
        show=lambda profile: () if profile.nat_keepalive is None else ({"seconds": profile.nat_keepalive},),
        remove=lambda profile, _values: evolve(profile, nat_keepalive=None),
        help="seconds between the packets that keep a NAT's mapping open",
        order=13,
    ),
    _switch("config_exchange_request", "config-exchange request", "ask for an address and routes in IKE_AUTH"),
    _switch("config_exchange_set_send", "config-exchange set send", "tell the peer our tunnel address (CFG_SET)"),
    _switch("config_exchange_set_accept", "config-exchange set accept", "take the peer's CFG_SET"),
    _switch("initial_contact_force", "initial-contact force", "say INITIAL_CONTACT in every IKE_AUTH"),
    refused(
        MODE,
        "ivrf {vrf:name:vrf}",
        "the inner VRF is that of the tunnel interface or virtual template: `vrf forwarding` there",
    ),
    refused(MODE, "redirect {rest:text}", "redirection (RFC 5685) is not in this release"),
    refused(MODE, "reconnect [{rest:text}]", "reconnection is a feature of AnyConnect, which is EAP"),
    refused(MODE, "anyconnect {rest:text}", "AnyConnect needs EAP"),
)

PROFILE_LINES: tuple[Line, ...] = (
    opening(
        CONFIG,
        "crypto ikev2 profile {ike_profile:name:ikev2-profile}",
        _PROFILE,
        MODE,
        show=lambda held: ({"ike_profile": held.name},),
        help="who a peer is, how both ends prove themselves, and what it gets",
        order=37,
    ),
    *_MATCHES,
    *_PROOFS,
    *_REST,
)
