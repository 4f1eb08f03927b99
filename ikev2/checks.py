"""What is legal but wrong in the configuration of IKEv2 and IPsec, and what other packages' checks may want to know of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ikev2.config import (
    DEFAULT,
    AuthMethod,
    AuthorizationPolicy,
    IdentityKind,
    IkeProfile,
    IkeProposal,
    Ikev2Config,
    IpPool,
    IpsecProfile,
    KeyringPeer,
    Trustpoint,
)
from stack.addr import format_address
from stack.config import InterfaceConfig, NodeConfig
from stack.esp import Cipher, Integrity
from stack.events import InterfaceKind
from stack.ios.grammar import Claim, Finding, Reference, Sections

__all__ = ["CHECKS"]

Said = Finding | Claim | Reference

SHORT_LIFETIME = 120
"""Seconds below which rekeying is most of what an SA does."""

USUAL_WINDOW = 1024
"""A replay window above it takes a reason."""

_SHA1 = "sha1"


def check_ikev2(config: Sections) -> Iterator[Said]:
    ike, node = config[Ikev2Config], config[NodeConfig]
    if ike == Ikev2Config() and not any(interface.protection for interface in node.interfaces.values()):
        yield from _defaults()
        return
    yield from _defaults()
    yield from _proposals(ike)
    for name, keyring in ike.keyrings.items():
        yield Claim("IKEv2 keyring", name)
        for peer in keyring.peers.values():
            yield from _peer(peer, f"peer {peer.name}", f"crypto ikev2 keyring {name}")
    for profile in ike.profiles.values():
        yield Claim("IKEv2 profile", profile.name)
        yield from _profile(profile, node)
        yield from _given(profile, aaa=bool(ike.aaa_lists) or ike.aaa_new_model)
    for policy in ike.authorization_policies.values():
        yield Claim("authorization policy", policy.name)
        yield from _authorization(policy)
    for trustpoint in ike.trustpoints.values():
        yield Claim("trustpoint", trustpoint.name)
        yield from _trustpoint(trustpoint, ike)
    yield from (Claim("certificate map", name) for name in ike.certificate_maps)
    yield from (
        Reference("trustpoint", name, f"crypto pki certificate chain {name}") for name in ike.certificate_chains
    )
    yield from (Claim("AAA list", name) for name in ike.aaa_lists)
    yield from _transforms(ike)
    for one in ike.ipsec_profiles.values():
        yield Claim("ipsec-profile", one.name, f"crypto ipsec profile {one.name}")
        yield from _ipsec(one)
    yield from _pools(ike, node)
    yield from _protected(ike, node)
    yield from _whole(ike)


def _defaults() -> Iterator[Said]:
    """What exists without a line (IOS's smart defaults). An IKEv2 profile is never made by itself."""
    yield Claim("ipsec-profile", DEFAULT)
    yield Claim("transform set", DEFAULT)
    yield Claim("authorization policy", DEFAULT)
    yield Claim("IKEv2 proposal", DEFAULT)


# --- proposals and policies -------------------------------------------------------------------------------------------


def _proposals(ike: Ikev2Config) -> Iterator[Said]:
    for proposal in ike.proposals.values():
        yield Claim("IKEv2 proposal", proposal.name)
        yield from _proposal(proposal, ike)
    for policy in ike.policies.values():
        line = f"crypto ikev2 policy {policy.name}"
        if not policy.proposals:
            yield Finding(
                "warning", f"IKEv2 policy {policy.name!r} names no proposal: nothing is negotiated by it", line
            )
        for name in policy.proposals:
            yield Reference("IKEv2 proposal", name, f"proposal {name}", "it is not offered", under=line)
    named = {name for policy in ike.policies.values() for name in policy.proposals}
    for name in ike.proposals:
        if name != DEFAULT and name not in named:
            text = f"no IKEv2 policy names proposal {name!r}: it is never used"
            yield Finding("warning", text, f"crypto ikev2 proposal {name}")


def _proposal(proposal: IkeProposal, ike: Ikev2Config) -> Iterator[Finding]:
    line = f"crypto ikev2 proposal {proposal.name}"
    missing = [
        word
        for word, held in (("encryption", proposal.encryption), ("group", proposal.groups))
        if not held and proposal.name != DEFAULT
    ]
    if missing:
        text = f"IKEv2 proposal {proposal.name!r} has no {' and no '.join(missing)}: it cannot be offered"
        yield Finding("warning", text, line)
    plain = [cipher for cipher in proposal.encryption if cipher.startswith("aes-cbc")]
    if plain and not proposal.integrity:
        yield Finding("error", f"{', '.join(plain)} without integrity: `integrity sha256` is wanted", line)
    if len(plain) < len(proposal.encryption) and not (proposal.prf or proposal.integrity):
        return  # the PRF that fits an AEAD's key is taken
    for word, held in (("integrity", proposal.integrity), ("prf", proposal.prf)):
        if _SHA1 in held:
            yield _sha1(ike, f"{word} {' '.join(held)}", line)


def _sha1(ike: Ikev2Config, line: str, under: str) -> Finding:
    if ike.sha1:
        return Finding("warning", "SHA-1 is on: for old peers only", line, under=under)
    text = "SHA-1 is off, so this is not negotiated: `crypto ikev2 allow sha1` switches it on"
    return Finding("warning", text, line, under=under)


# --- keyrings and profiles ----------------------------------------------------------------------------------------------


def _peer(peer: KeyringPeer, line: str, under: str) -> Iterator[Finding]:
    if not (peer.local_key and peer.remote_key):
        side = "no key" if not (peer.local_key or peer.remote_key) else "a key for one end only"
        text = f"peer {peer.name!r} has {side}: it cannot be authenticated (`pre-shared-key`)"
        yield Finding("warning", text, line, under=under)
    if peer.prefix is None and peer.identity is None:
        text = f"peer {peer.name!r} has neither address nor identity: it is nobody"
        yield Finding("warning", text, line, under=under)
    if peer.prefix is not None and peer.prefix.length == 0:
        text = f"one key for everybody (peer {peer.name!r}): whoever knows it can be anyone"
        yield Finding("note", text, line, under=under)


def _profile(profile: IkeProfile, node: NodeConfig) -> Iterator[Said]:
    line = f"crypto ikev2 profile {profile.name}"
    who = f"IKEv2 profile {profile.name!r}"
    if not (profile.match_remote or profile.match_certificate):
        yield Finding("warning", f"{who} matches nobody (`match identity remote`, `match certificate`)", line)
    if profile.methods[0] is None:
        text = f"{who} has neither `authentication local` nor a keyring or trustpoint that says it: it cannot be used"
        yield Finding("warning", text, line)
    for name in profile.match_certificate:
        yield Reference("certificate map", name, f"match certificate {name}", "it matches nothing", under=line)
        if not _signed(profile.methods[1]):
            text = f"{who} matches certificates, but peers do not prove themselves by one"
            yield Finding("warning", text, f"match certificate {name}", under=line)
    for name in profile.match_local_interface:
        yield Reference("interface", name, f"match address local interface {name}", "it matches nothing", under=line)
    yield from _keys(profile, line, who)
    yield from _certificates(profile, line, who)
    yield from _template(profile, node, line)
    if profile.lifetime <= SHORT_LIFETIME:
        text = f"IKE SAs of {who} live {profile.lifetime} seconds: most of the time they are rekeyed"
        yield Finding("warning", text, f"lifetime {profile.lifetime}", under=line)
    if any(match.kind is IdentityKind.ANY for match in profile.match_remote) and AuthMethod.PSK in profile.methods[1]:
        text = f"{who} takes any identity, with pre-shared keys: an identity there is only what a peer says"
        yield Finding("note", text, "match identity remote any", under=line)


def _signed(methods: Iterable[AuthMethod]) -> bool:
    return any(method is not AuthMethod.PSK for method in methods)


def _keys(profile: IkeProfile, line: str, who: str) -> Iterator[Said]:
    prove, believe = profile.methods
    if profile.keyring:
        told = f"keyring local {profile.keyring}"
        yield Reference("IKEv2 keyring", profile.keyring, told, "there are no keys", "error", under=line)
        if prove is not AuthMethod.PSK and AuthMethod.PSK not in believe:
            yield Finding("note", f"{who} has a keyring, but nobody uses pre-shared keys", told, under=line)
        return
    for end, wanted, key in (
        ("local", prove is AuthMethod.PSK, profile.local_key),
        ("remote", AuthMethod.PSK in believe, profile.remote_key),
    ):
        if wanted and not key:
            text = f"{who} has `authentication {end} pre-share`, but no key: `keyring local`, or `key` on that line"
            yield Finding("warning", text, f"authentication {end} pre-share", under=line)


def _certificates(profile: IkeProfile, line: str, who: str) -> Iterator[Said]:
    prove, believe = profile.methods
    for name in profile.trustpoints:
        yield Reference("trustpoint", name, f"pki trustpoint {name}", "there are no certificates", "error", under=line)
    ours = [name for name in profile.trustpoints if name not in profile.verify_only]
    if prove is not None and prove is not AuthMethod.PSK and not ours:
        text = f"{who} proves us by a certificate, but names no trustpoint (`pki trustpoint`)"
        yield Finding("warning", text, f"authentication local {prove.value}", under=line)
    believed = [name for name in profile.trustpoints if name not in profile.sign_only]
    if _signed(believe) and not believed:
        text = f"{who} wants certificates of peers, but names no trustpoint to believe (`pki trustpoint`)"
        yield Finding("warning", text, f"authentication remote {min(one.value for one in believe)}", under=line)
    wants_subject = profile.identity_local is not None and profile.identity_local.kind is IdentityKind.DN
    if wants_subject and prove is AuthMethod.PSK:
        yield Finding("warning", f"{who} has no certificate whose subject it could be", "identity local dn", under=line)


def _given(profile: IkeProfile, *, aaa: bool) -> Iterator[Said]:
    """`aaa`: something is said of AAA, so that a list that is not there is a fault."""
    line, who = f"crypto ikev2 profile {profile.name}", f"IKEv2 profile {profile.name!r}"
    for one in profile.aaa:
        override = "override " if one.override else ""
        told = f"aaa authorization group {override}{one.kind} list {one.list_name} {one.policy}"
        if aaa:
            yield Reference("AAA list", one.list_name, told, "peers are refused", under=line)
        else:
            text = f"{who}: nothing is said of AAA, so list {one.list_name!r} is the policies of this node"
            yield Finding("note", text, told, under=line)
        yield Reference("authorization policy", one.policy, told, "peers are refused", under=line)
        believe = profile.methods[1]
        methods = {"psk": AuthMethod.PSK in believe, "cert": _signed(believe)}
        if believe and not methods.get(one.kind, True):
            yield Finding("warning", f"{who}: no peer proves itself by {one.kind}", told, under=line)


def _template(profile: IkeProfile, node: NodeConfig, line: str) -> Iterator[Said]:
    if profile.virtual_template is None:
        return
    told = f"virtual-template {profile.virtual_template}"
    name = f"Virtual-Template{profile.virtual_template}"
    yield Reference("interface", name, told, "peers that come by themselves are refused", under=line)
    template = node.interfaces.get(name)
    if template is not None and not template.protection:
        text = f"{name} has no `tunnel protection`: nothing would protect its clones, so there are none"
        yield Finding("warning", text, f"interface {name}")
    if template is not None and not (template.unnumbered or template.addresses):
        text = f"{name} has no address of its own (`ip unnumbered`): its clones have none"
        yield Finding("warning", text, f"interface {name}")


# --- what peers get -----------------------------------------------------------------------------------------------------


def _authorization(policy: AuthorizationPolicy) -> Iterator[Said]:
    line = f"crypto ikev2 authorization policy {policy.name}"
    if policy.pool:
        yield Reference("pool", policy.pool, f"pool {policy.pool}", "peers get no address", under=line)
    if policy.ipv6_pool:
        told = f"ipv6 pool {policy.ipv6_pool}"
        yield Reference("IPv6 pool", policy.ipv6_pool, told, "peers get no IPv6 address", under=line)
    if policy.route_set_interface:
        told = f"route set interface {policy.route_set_interface}"
        yield Reference("interface", policy.route_set_interface, told, "nothing is announced", under=line)
    for name in policy.route_set_acl:
        told = f"route set access-list {name}"
        yield Reference("access-list", name, told, "nothing is announced by it", under=line)


def _range(pool: IpPool) -> tuple[int, int]:
    return int.from_bytes(pool.first), int.from_bytes(pool.last)


def _pools(ike: Ikev2Config, node: NodeConfig) -> Iterator[Said]:
    seen: list[IpPool] = []
    used = {name for policy in ike.authorization_policies.values() for name in (policy.pool, policy.ipv6_pool)}
    for pool in ike.pools.values():
        v4 = len(pool.first) == 4
        line = f"{'ip' if v4 else 'ipv6'} local pool {pool.name}"
        yield Claim("pool" if v4 else "IPv6 pool", pool.name)
        first, last = _range(pool)
        for other in seen:
            low, high = _range(other)
            if len(other.first) == len(pool.first) and first <= high and low <= last:
                text = f"pools {other.name!r} and {pool.name!r} overlap: two peers would get one address"
                yield Finding("error", text, line)
        seen.append(pool)
        for interface in node.interfaces.values():
            for held in interface.addresses:
                if len(held.address) == len(pool.first) and pool.first <= held.address <= pool.last:
                    text = f"pool {pool.name!r} holds {interface.name}'s own address {format_address(held.address)}"
                    yield Finding("warning", f"{text}: it is never given out", line)
        size = last - first + 1
        if ike.limits.max_sa > size and pool.name in used:
            text = f"pool {pool.name!r} has {size} addresses for up to {ike.limits.max_sa} peers: the last get none"
            yield Finding("warning", text, line)
        if pool.name not in used:
            yield Finding("note", f"no authorization policy uses pool {pool.name!r}", line)


# --- certificates ---------------------------------------------------------------------------------------------------------


def _trustpoint(point: Trustpoint, ike: Ikev2Config) -> Iterator[Finding]:
    line = f"crypto pki trustpoint {point.name}"
    who = f"trustpoint {point.name!r}"
    chain = ike.certificate_chains.get(point.name)
    pasted = {kind for (kind, _), octets in (chain.certificates.items() if chain else ()) if octets}
    users = [p for p in ike.profiles.values() if point.name in p.trustpoints]
    signs = any(point.name not in p.verify_only and p.methods[0] not in (None, AuthMethod.PSK) for p in users)
    believes = any(point.name not in p.sign_only and _signed(p.methods[1]) for p in users)
    if signs and not (point.certificate_file or pasted - {"ca"}):
        text = f"{who} has no certificate of ours: `certificate file`, or one under `crypto pki certificate chain`"
        yield Finding("warning", text, line)
    if signs and not point.key_file:
        yield Finding("warning", f"{who} has no private key (`key file`): we cannot prove who we are", line)
    if believes and not (point.ca_file or "ca" in pasted):
        text = f"{who} has no certificate of an authority: `ca file`, or one under `crypto pki certificate chain`"
        yield Finding("warning", text, line)
    if point.key_file and not (point.certificate_file or pasted - {"ca"}) and not signs:
        yield Finding("warning", f"{who} has a key, and no certificate for it", line)
    if point.enrollment.startswith("url"):
        text = f"{who}: enrolment is not in this release, so nothing is fetched from that URL"
        yield Finding("note", text, f"enrollment {point.enrollment}", under=line)
    if len(point.fingerprint) == 32:
        text = f"{who}: MD5 is no protection against a forged certificate; a SHA-256 fingerprint is"
        yield Finding("note", text, f"fingerprint {point.fingerprint}", under=line)
    if point.revocation == ("none",):
        text = f"{who} never asks for revocation: a stolen key is good until its certificate expires"
        yield Finding("note", text, "revocation-check none", under=line)
    if point.revocation == ("crl",) and not point.crl_file and believes:
        text = f"{who} wants a CRL and has none (`crl file`): every peer is refused (`revocation-check crl none`?)"
        yield Finding("warning", text, line)


# --- IPsec ------------------------------------------------------------------------------------------------------------------


def _transforms(ike: Ikev2Config) -> Iterator[Said]:
    for one in ike.transform_sets.values():
        line = f"crypto ipsec transform-set {one.name}"
        yield Claim("transform set", one.name)
        if not one.cipher.aead and one.integrity is Integrity.NONE:
            yield Finding("error", f"transform set {one.name!r} encrypts without integrity", line)
        if one.integrity is Integrity.HMAC_SHA1_96:
            yield _sha1(ike, line, "")
        elif one.cipher in (Cipher.AES_CBC_128, Cipher.AES_CBC_192, Cipher.AES_CBC_256):
            text = f"transform set {one.name!r}: esp-gcm takes a fifth of the time of esp-aes with an HMAC"
            yield Finding("note", text, line)


def _ipsec(profile: IpsecProfile) -> Iterator[Said]:
    line = f"crypto ipsec profile {profile.name}"
    who = f"IPsec profile {profile.name!r}"
    for name in profile.transform_sets:
        told = f"set transform-set {' '.join(profile.transform_sets)}"
        yield Reference("transform set", name, told, "it is not offered", under=line)
    if profile.ike_profile:
        told = f"set ikev2-profile {profile.ike_profile}"
        yield Reference("IKEv2 profile", profile.ike_profile, told, "its tunnels stay down", "error", under=line)
    yield from _window(profile.replay_window, who, "set security-association replay", line)
    if profile.lifetime_seconds is not None and 0 < profile.lifetime_seconds <= SHORT_LIFETIME:
        text = f"CHILD_SAs of {who} live {profile.lifetime_seconds} seconds: most of the time they are rekeyed"
        told = f"set security-association lifetime seconds {profile.lifetime_seconds}"
        yield Finding("warning", text, told, under=line)


def _window(window: int | None, who: str, line: str, under: str = "") -> Iterator[Finding]:
    if window == 0:
        yield Finding("warning", f"{who}: without a replay check, recorded packets are taken again", line, under=under)
    elif window is not None and window > USUAL_WINDOW:
        text = (
            f"{who}: a replay window of {window} packets is for links that reorder so much; {USUAL_WINDOW} usually do"
        )
        yield Finding("note", text, line, under=under)


def _protected(ike: Ikev2Config, node: NodeConfig) -> Iterator[Said]:
    """Tunnels that name an IPsec profile; that there must be one is package tunnel's to say."""
    for interface in node.interfaces.values():
        if not interface.protection:
            continue
        under, told = f"interface {interface.name}", f"tunnel protection ipsec profile {interface.protection}"
        profile = ike.ipsec_profiles.get(interface.protection, IpsecProfile(interface.protection))
        known = interface.protection in ike.ipsec_profiles or interface.protection == DEFAULT
        if known and not profile.ike_profile and _implied(ike) is None:
            many = "which of the IKEv2 profiles is meant is not said" if ike.profiles else "there is no IKEv2 profile"
            yield Finding("warning", f"{interface.name} stays down: {many} (`set ikev2-profile`)", told, under=under)
        if interface.negotiated:
            yield from _negotiated(interface, profile, ike)


def _implied(ike: Ikev2Config) -> IkeProfile | None:
    """The IKEv2 profile of an IPsec profile that names none."""
    if DEFAULT in ike.profiles:
        return ike.profiles[DEFAULT]
    return next(iter(ike.profiles.values())) if len(ike.profiles) == 1 else None


def _negotiated(interface: InterfaceConfig, profile: IpsecProfile, ike: Ikev2Config) -> Iterator[Finding]:
    found = ike.profiles.get(profile.ike_profile) if profile.ike_profile else _implied(ike)
    if found is not None and not found.config_exchange_request:
        text = f"{interface.name} waits for an address, but IKEv2 profile {found.name!r} never asks for one"
        yield Finding("warning", text, "ip address negotiated", under=f"interface {interface.name}")
    if profile.responder_only and interface.kind is InterfaceKind.TUNNEL:
        text = (
            f"{interface.name} waits for an address, which only an initiator gets: {profile.name!r} is responder-only"
        )
        yield Finding("warning", text, "ip address negotiated", under=f"interface {interface.name}")


def _whole(ike: Ikev2Config) -> Iterator[Finding]:
    if ike.sha1:
        text = "SHA-1 is on for every peer, in integrity, PRF and signatures: forgeries of it have been made"
        yield Finding("warning", text, "crypto ikev2 allow sha1")
    if ike.cookie_challenge == 0:
        text = "cookies are asked for always: each handshake takes a round trip more"
        yield Finding("note", text, "crypto ikev2 cookie-challenge 0")
    most = ike.limits.max_in_negotiation
    if ike.cookie_challenge is not None and ike.cookie_challenge >= most:
        text = f"cookies would be asked for above {ike.cookie_challenge} half-open SAs, and there are {most} at most"
        yield Finding("warning", text, f"crypto ikev2 cookie-challenge {ike.cookie_challenge}")
    if ike.fragmentation_mtu is None:
        text = "large messages leave as IP fragments, which many networks drop"
        yield Finding("warning", text, "no crypto ikev2 fragmentation")
    yield from _window(ike.replay_window, "all IPsec profiles", "crypto ipsec security-association replay")
    if 0 < ike.lifetime_seconds <= SHORT_LIFETIME:
        text = f"CHILD_SAs live {ike.lifetime_seconds} seconds: most of the time they are rekeyed"
        yield Finding("warning", text, f"crypto ipsec security-association lifetime seconds {ike.lifetime_seconds}")


CHECKS = (check_ikev2,)
