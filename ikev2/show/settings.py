"""What is configured, with what exists by itself: proposals, policies, profiles, transform sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ikev2.config import (
    DEFAULT,
    AuthorizationPolicy,
    IdentityKind,
    IdentityMatch,
    IkeProfile,
    IkeProposal,
    Ikev2Config,
    IpsecProfile,
    Policy,
    TransformSet,
)
from ikev2.crypto.suites import DEFAULT_GROUPS
from ikev2.engine.snapshot import SpeakerSnapshot
from ikev2.show.words import group_name, transform_text
from stack.addr import format_address, netmask
from stack.esp import Cipher, EspMode, Integrity
from stack.ios.command import CommandError, Shown

__all__ = ["authorization_policies", "ipsec_profiles", "policies", "profiles", "proposals", "transform_sets"]


def _one(shelf: Mapping[str, Any], name: str, what: str) -> list[Any]:
    """That entry, or all of them. Raises CommandError."""
    if not name:
        return list(shelf.values())
    if name not in shelf:
        raise CommandError(f"there is no {what} {name!r}; there are: {', '.join(shelf) or 'none'}")
    return [shelf[name]]


# --- proposals and policies -------------------------------------------------------------------------------------------

_SMART_PROPOSAL = IkeProposal(
    DEFAULT,
    ("aes-gcm-256", "aes-gcm-128", "aes-cbc-256", "aes-cbc-192", "aes-cbc-128"),
    ("sha512", "sha384", "sha256"),
    ("sha512", "sha384", "sha256"),
    DEFAULT_GROUPS,
)


def proposals(config: Ikev2Config, name: str = "") -> Shown:
    """`show crypto ikev2 proposal [NAME]`."""
    shelf = {DEFAULT: _SMART_PROPOSAL, **config.proposals}
    lines: list[str] = []
    value = []
    for one in _one(shelf, name, "IKEv2 proposal"):
        prf = one.prf or one.integrity
        lines += [
            f" IKEv2 proposal: {one.name}",
            f"     Encryption : {' '.join(cipher.upper() for cipher in one.encryption) or 'none'}",
            f"     Integrity  : {' '.join(hashed.upper() for hashed in one.integrity) or 'none'}",
            f"     PRF        : {' '.join(hashed.upper() for hashed in prf) or 'by the cipher'}",
            f"     DH Group   : {' '.join(map(group_name, one.groups)) or 'none'}",
        ]
        value.append(
            {
                "name": one.name,
                "encryption": list(one.encryption),
                "integrity": list(one.integrity),
                "prf": list(prf),
                "groups": list(one.groups),
            }
        )
    return Shown("\n".join(lines), value)


def policies(config: Ikev2Config, name: str = "") -> Shown:
    """`show crypto ikev2 policy [NAME]`."""
    smart = {DEFAULT: Policy(DEFAULT, (DEFAULT,))} if not config.policies else {}
    lines: list[str] = []
    value = []
    for one in _one({**smart, **config.policies}, name, "IKEv2 policy"):
        local = " ".join(map(format_address, one.local_addresses)) or "any"
        lines += [f" IKEv2 policy : {one.name}", "      Match fvrf : any", f"      Match address local : {local}"]
        lines += [f"      Proposal    : {proposal}" for proposal in one.proposals]
        value.append(
            {
                "name": one.name,
                "proposals": list(one.proposals),
                "local-addresses": [format_address(address) for address in one.local_addresses],
            }
        )
    return Shown("\n".join(lines), value)


# --- IKEv2 profiles ---------------------------------------------------------------------------------------------------


def _identity(match: IdentityMatch) -> str:
    if match.kind is IdentityKind.ADDRESS and match.prefix is not None:
        if len(match.prefix.network) == 16:
            return f"address {match.prefix}"
        return f"address {format_address(match.prefix.network)} {netmask(match.prefix.length)}"
    return " ".join(word for word in (match.kind.value, "domain" if match.domain else "", match.value) if word)


def profiles(config: Ikev2Config, snapshot: SpeakerSnapshot, name: str = "") -> Shown:
    """`show crypto ikev2 profile [NAME]`, with why a profile cannot be used."""
    reasons = {one.name: one.reason for one in snapshot.profiles}
    found = _one(config.profiles, name, "IKEv2 profile")
    lines: list[str] = []
    value = []
    for one in found:
        users = sum(ike.profile == one.name for ike in snapshot.ikes)
        lines += [*_profile(one, config, reasons.get(one.name, ""), users), ""]
        value.append(
            {
                "name": one.name,
                "reason": reasons.get(one.name, ""),
                "ike-sas": users,
                "identities": [_identity(match) for match in one.match_remote],
                "certificate-maps": list(one.match_certificate),
                "auth-local": one.methods[0].value if one.methods[0] else None,
                "auth-remote": sorted(method.value for method in one.methods[1]),
                "keyring": one.keyring,
                "trustpoints": list(one.trustpoints),
                "lifetime-seconds": one.lifetime,
                "virtual-template": one.virtual_template,
                "authorization": [{"kind": aaa.kind, "list": aaa.list_name, "policy": aaa.policy} for aaa in one.aaa],
            }
        )
    return Shown("\n".join(lines).rstrip("\n"), value)


def _profile(one: IkeProfile, config: Ikev2Config, reason: str, users: int) -> Iterator[str]:
    local = [*map(format_address, one.match_local_address), *one.match_local_interface]
    spec = one.identity_local
    yield f"IKEv2 profile: {one.name}"
    yield f" State: {f'cannot be used: {reason}' if reason else 'ready'}"
    yield " Shutdown : No"
    yield f" Ref Count: {users}"
    yield " Match criteria: "
    yield f"  Fvrf: {'any' if one.match_fvrf is None else one.match_fvrf or 'global'}"
    yield f"  Local address/interface: {' '.join(local) or 'none'}"
    yield "  Identities: " if one.match_remote else "  Identities: none"
    yield from (f"    {_identity(match)}" for match in one.match_remote)
    yield f"  Certificate maps: {' '.join(one.match_certificate) or 'none'}"
    yield f" Local identity: {f'{spec.kind.value} {spec.value}'.rstrip() if spec else 'none'}"
    yield " Remote identity: none"
    prove, believe = one.methods
    yield f" Local authentication method: {prove.value if prove else 'none'}"
    yield f" Remote authentication method(s): {' '.join(sorted(method.value for method in believe)) or 'none'}"
    yield " EAP options: none"
    yield f" Keyring: {one.keyring or 'none'}"
    yield f" Trustpoint(s): {' '.join(one.trustpoints) or 'none'}"
    yield f" Lifetime: {one.lifetime} seconds"
    dpd = one.dpd or config.dpd
    if dpd is None:
        yield " DPD: disabled"
    else:
        how = "on-demand" if dpd.on_demand else "periodic"
        yield f" DPD: interval {dpd.interval}, retry-interval {dpd.retry}, {how}"
    yield f" NAT-keepalive: {(config.nat_keepalive if one.nat_keepalive is None else one.nat_keepalive) or 'disabled'}"
    yield " Ivrf: none"
    yield f" Virtual-template: {'none' if one.virtual_template is None else one.virtual_template}"
    yield " mode auto: none"
    yield " AAA AnyConnect EAP authentication mlist: none"
    yield " AAA EAP authentication mlist: none"
    yield " AAA authentication mlist: none"
    yield " AAA Accounting: none"
    groups = " ".join(f"{aaa.kind}:{aaa.list_name}:{aaa.policy}" for aaa in one.aaa)
    yield f" AAA group authorization: {groups or 'none'}"
    yield " AAA user authorization: none"


# --- authorization policies -------------------------------------------------------------------------------------------


def authorization_policies(config: Ikev2Config, name: str = "") -> Shown:
    """`show crypto ikev2 authorization policy [NAME]`."""
    shelf = {DEFAULT: AuthorizationPolicy(DEFAULT, route_set_interface=""), **config.authorization_policies}
    lines: list[str] = []
    value = []
    for one in _one(shelf, name, "authorization policy"):
        lines += [f" IKEv2 Authorization Policy :  {one.name}", *_given(one), ""]
        accept = one.route_accept
        value.append(
            {
                "name": one.name,
                "pool": one.pool,
                "ipv6-pool": one.ipv6_pool,
                "netmask": format_address(one.netmask) if one.netmask else "",
                "banner": one.banner,
                "def-domain": one.def_domain,
                "dns": [format_address(server) for server in one.dns],
                "wins": [format_address(server) for server in one.wins],
                "backup-gateways": list(one.backup_gateways),
                "route-set-interface": one.route_set_interface,
                "route-set-access-lists": list(one.route_set_acl),
                "route-accept": {"tag": accept.tag, "distance": accept.distance} if accept.enabled else None,
            }
        )
    return Shown("\n".join(lines).rstrip("\n"), value)


def _given(one: AuthorizationPolicy) -> Iterator[str]:
    if one.pool:
        yield f"  pool {one.pool}"
    if one.ipv6_pool:
        yield f"  ipv6 pool {one.ipv6_pool}"
    if one.netmask:
        yield f"  netmask {format_address(one.netmask)}"
    for word, servers in (("dns", one.dns), ("wins", one.wins)):
        if servers:
            yield f"  {word} {' '.join(map(format_address, servers))}"
    if one.banner:
        yield f"  banner {one.banner}"
    if one.def_domain:
        yield f"  def-domain {one.def_domain}"
    yield from (f"  backup-gateway {gateway}" for gateway in one.backup_gateways)
    if one.route_set_interface is not None:
        yield f"  route set interface {one.route_set_interface}".rstrip()
    yield from (f"  route set access-list {name}" for name in one.route_set_acl)
    if one.route_accept.enabled:
        yield f"  route accept any tag : {one.route_accept.tag} distance : {one.route_accept.distance}"


# --- IPsec ------------------------------------------------------------------------------------------------------------

_SMART_SETS = (
    TransformSet(DEFAULT, Cipher.AES_GCM_256),
    TransformSet(DEFAULT, Cipher.AES_GCM_128),
    TransformSet(DEFAULT, Cipher.CHACHA20_POLY1305),
    TransformSet(DEFAULT, Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128),
)


def _sets(config: Ikev2Config, names: Iterable[str]) -> list[TransformSet]:
    return [config.transform_sets[name] for name in names if name in config.transform_sets] or list(_SMART_SETS)


def _braces(one: TransformSet) -> str:
    return f"{{ {transform_text(one.cipher, one.integrity)}  }} "


def transform_sets(config: Ikev2Config, name: str = "") -> Shown:
    """`show crypto ipsec transform-set [NAME]`. The default is what a profile without a set offers, in that order."""
    sets = list(config.transform_sets.values())
    if DEFAULT not in config.transform_sets:
        sets = [*_SMART_SETS, *sets]
    found = [one for one in sets if name in ("", one.name)]
    if not found:
        known = ", ".join(dict.fromkeys(one.name for one in sets))
        raise CommandError(f"there is no transform set {name!r}; there are: {known}")
    lines: list[str] = []
    for one in found:
        mode = "Transport" if one.mode is EspMode.TRANSPORT else "Tunnel"
        lines += [f"Transform set {one.name}: {_braces(one)}", f"   will negotiate = {{ {mode},  }}, ", ""]
    value = [
        {"name": one.name, "cipher": one.cipher.text, "integrity": one.integrity.text, "mode": one.mode.value}
        for one in found
    ]
    return Shown("\n".join(lines).rstrip("\n"), value)


def ipsec_profiles(config: Ikev2Config, name: str = "") -> Shown:
    """`show crypto ipsec profile [NAME]`."""
    shelf = {DEFAULT: IpsecProfile(DEFAULT), **config.ipsec_profiles}
    lines: list[str] = []
    value = []
    for one in _one(shelf, name, "IPsec profile"):
        sets = _sets(config, one.transform_sets)
        seconds = _either(one.lifetime_seconds, config.lifetime_seconds)
        kilobytes = _either(one.lifetime_kilobytes, config.lifetime_kilobytes)
        window = _either(one.replay_window, config.replay_window)
        lines += [f"IPSEC profile {one.name}"]
        if one.description:
            lines += [f"\tDescription: {one.description}"]
        if one.ike_profile:
            lines += [f"\tIKEv2 Profile: {one.ike_profile}"]
        lines += [
            f"\tSecurity association lifetime: {f'{kilobytes} kilobytes/' if kilobytes else ''}{seconds} seconds",
            f"\tResponder-Only (Y/N): {'Y' if one.responder_only else 'N'}",
            f"\tPFS (Y/N): {'N' if one.pfs_group is None else 'Y'}",
            *([] if one.pfs_group is None else [f"\tDH group: group{one.pfs_group}"]),
            f"\tReplay window: {window or 'disabled'}",
            f"\tExtended sequence numbers (Y/N): {'Y' if one.esn else 'N'}",
            "\tMixed-mode : Disabled",
            "\tTransform sets={ ",
            *(f"\t\t{held.name}:  {_braces(held)}, " for held in sets),
            "\t}",
            "",
        ]
        value.append(
            {
                "name": one.name,
                "ikev2-profile": one.ike_profile,
                "lifetime-seconds": seconds,
                "lifetime-kilobytes": kilobytes or None,
                "lifetime-packets": _either(one.lifetime_packets, config.lifetime_packets) or None,
                "responder-only": one.responder_only,
                "pfs-group": one.pfs_group,
                "replay-window": window,
                "esn": one.esn,
                "transform-sets": [held.name for held in sets],
            }
        )
    return Shown("\n".join(lines).rstrip("\n"), value)


def _either(own: int | None, general: int) -> int:
    return general if own is None else own
