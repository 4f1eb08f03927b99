"""The configuration, resolved: which IKE profile a peer belongs to, how both ends prove themselves, what is proposed.

A profile that cannot be used says why (`reason`); nothing here raises because of what is configured or what a peer sends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import define, evolve, field, frozen

from ikev2.config import (
    DEFAULT,
    AuthMethod,
    AuthorizationPolicy,
    IkeProfile,
    IkeProposal,
    Ikev2Config,
    IpsecProfile,
    KeyringPeer,
    TransformSet,
)
from ikev2.crypto.suites import SuiteError, default_ike_proposals, esp_proposals, ike_proposals
from ikev2.engine.contract import ChildTerms, Ends, Refusal, Terms
from ikev2.engine.identities import address_identity, holder_of, identity_matches, identity_of, identity_text
from ikev2.pki import maps
from ikev2.pki.certificate import ParsedCertificate, parse_certificate
from ikev2.pki.credentials import Credential, PskCredential, SignatureCredential, Trust, TrustStore
from ikev2.pki.errors import AuthError, CertificateError, RevokedError, TrustpointError
from ikev2.pki.identity import check_identity
from ikev2.pki.names import dn_der
from ikev2.pki.store import PeerCertificate
from ikev2.pki.trustpoint import Material, trust_store
from ikev2.wire.numbers import IdKind
from ikev2.wire.payloads import Attribute, Identity, Proposal
from stack.esp import Cipher, EspMode, Integrity, Selector
from stack.events import SaKey

__all__ = ["GRE", "Profiles", "Side"]

GRE = 47

_DEFAULT_SETS = (
    TransformSet(DEFAULT, Cipher.AES_GCM_256),
    TransformSet(DEFAULT, Cipher.AES_GCM_128),
    TransformSet(DEFAULT, Cipher.CHACHA20_POLY1305),
    TransformSet(DEFAULT, Cipher.AES_CBC_256, Integrity.HMAC_SHA2_256_128),
)
"""What an IPsec profile without a transform set offers."""

_DEFAULT_POLICY = AuthorizationPolicy(DEFAULT, route_set_interface="")

Esp = tuple[IpsecProfile, tuple[Proposal, ...], EspMode]

Holder = tuple[str, bytes]
"""A profile, and who of its peers."""

_ADDRESSES = (IdKind.IPV4_ADDR, IdKind.IPV6_ADDR)

_SIGNATURES = frozenset({AuthMethod.RSA_SIG, AuthMethod.ECDSA_SIG, AuthMethod.SIGNATURE})


@frozen
class Side:
    """What certificates of a profile are for: ours, and those that are believed."""

    credential: SignatureCredential | None = None
    subject: bytes = b""
    anchors: TrustStore | None = None
    reason: str = ""


@define(eq=False)
class Profiles:
    """`addresses`: of an interface, by name (`match address local interface`)."""

    config: Ikev2Config
    trustpoints: Mapping[str, Material | TrustpointError] = field(factory=dict)
    addresses: Callable[[str], Iterable[bytes]] = lambda _name: ()
    _sides: dict[str, Side] = field(factory=dict, repr=False)
    _reasons: dict[str, str] = field(factory=dict)
    _ike: dict[bytes, tuple[Proposal, ...]] = field(factory=dict)
    _esp: dict[str, Esp | Refusal] = field(factory=dict)

    # --- IKE profiles -----------------------------------------------------------------------------------------------

    def get(self, name: str) -> IkeProfile | None:
        return self.config.profiles.get(name)

    def reason(self, profile: IkeProfile) -> str:
        """Why it cannot be used; '' if it can."""
        known = self._reasons.get(profile.name)
        if known is None:
            known = self._reasons[profile.name] = self._reason(profile)
        return known

    def _reason(self, profile: IkeProfile) -> str:
        if not profile.match_remote and not profile.match_certificate:
            return "no match identity or match certificate"
        for name in profile.match_certificate:
            if name not in self.config.certificate_maps:
                return f"certificate map {name} is not defined"
        if profile.keyring and profile.keyring not in self.config.keyrings:
            return f"keyring {profile.keyring} is not defined"
        local, remote = profile.methods
        if local is None or not remote:
            return "no authentication method"
        if local in _SIGNATURES or remote & _SIGNATURES:
            side = self.side(profile)
            if side.reason:
                return side.reason
            if local in _SIGNATURES and side.credential is None:
                return "no trustpoint with a certificate and key of ours"
            if remote & _SIGNATURES and side.anchors is None:
                return "no trustpoint to believe a peer's certificate by"
        if (local is AuthMethod.PSK or AuthMethod.PSK in remote) and not (
            profile.keyring or profile.local_key or profile.remote_key
        ):
            return "no keyring and no pre-shared key"
        return ""

    def side(self, profile: IkeProfile) -> Side:
        known = self._sides.get(profile.name)
        if known is None:
            known = self._sides[profile.name] = self._side(profile)
        return known

    def _side(self, profile: IkeProfile) -> Side:
        loaded: dict[str, Material] = {}
        for name in profile.trustpoints:
            found = self.trustpoints.get(name)
            if found is None:
                return Side(reason=f"trustpoint {name} is not defined")
            if isinstance(found, TrustpointError):
                return Side(reason=str(found))
            loaded[name] = found
        proving = next((one for name, one in loaded.items() if name not in profile.verify_only and one.own), None)
        believing = [one for name, one in loaded.items() if name not in profile.sign_only and one.anchors]
        anchors = trust_store(believing, sha1=self.config.sha1) if believing else None
        local = profile.methods[0]
        if proving is None or local not in _SIGNATURES:
            return Side(anchors=anchors)
        try:
            credential = proving.credential(local)
        except TrustpointError as error:
            return Side(anchors=anchors, reason=str(error))
        return Side(credential, dn_der(proving.own[0].cert.subject), anchors)

    def usable(self, ends: Ends) -> Iterable[IkeProfile]:
        """Profiles that may serve a stranger at these ends, in the order written."""
        for profile in self.config.profiles.values():
            if self._local(profile, ends) and not self.reason(profile):
                yield profile

    def _local(self, profile: IkeProfile, ends: Ends) -> bool:
        local = ends.local
        if profile.match_fvrf not in {None, ends.vrf}:
            return False
        if not profile.match_local_address and not profile.match_local_interface:
            return True
        return local in profile.match_local_address or any(
            local in self.addresses(name) for name in profile.match_local_interface
        )

    def select(
        self, ends: Ends, identity: Identity, certificates: tuple[bytes, ...]
    ) -> tuple[IkeProfile, bool] | Refusal:
        """The profile of a stranger, and whether a certificate map picked it."""
        parsed = _parsed(certificates)
        why = ""
        for profile in self.config.profiles.values():
            if not self._local(profile, ends):
                continue
            by_map = False
            if not any(identity_matches(match, identity) for match in profile.match_remote):
                if parsed is None or not self._mapped(profile, parsed):
                    continue
                by_map = True
            reason = self.reason(profile)
            if not reason:
                return profile, by_map
            why = why or f"profile {profile.name} cannot be used: {reason}"
        return Refusal(why or f"no profile matches {identity_text(identity)}")

    def _mapped(self, profile: IkeProfile, certificate: ParsedCertificate) -> bool:
        known = self.config.certificate_maps
        return any(name in known and maps.matches(known[name], certificate) for name in profile.match_certificate)

    def confirm(self, ends: Ends, terms: Terms, identity: Identity, certificate: Any) -> Refusal | None:
        """A peer that has proved itself: is it one of `terms`'s profile? An identity that no certificate bears out counts only
        if a certificate map lets that certificate in."""
        profile = self.get(terms.profile)
        if profile is None:
            return Refusal(f"profile {terms.profile} is gone")
        parsed = None if certificate is None else certificate.certificate
        if parsed is not None and self._mapped(profile, parsed):
            return None
        if any(identity_matches(match, identity) for match in profile.match_remote):
            if parsed is None:
                # We called by its address, and knew no identity: who is named has to prove it by the key of that name.
                named = self._keys(profile, ends, identity)[1].encode() == terms.trust.psk
                return None if named else Refusal(f"{identity_text(identity)} has another pre-shared key")
            if terms.trust.bind:
                return None
            try:
                check_identity(identity, parsed)
            except AuthError as error:
                return Refusal(str(error))
            return None
        return Refusal(f"{identity_text(identity)} is not of profile {profile.name}")

    def distrust(self, profile_name: str, certificate: PeerCertificate | None, when: float) -> str:
        """Why a peer's certificate, which held when it came, is no longer believed: a CRL of today revokes it. '' if it is."""
        profile = self.get(profile_name)
        store = self.side(profile).anchors if profile is not None and certificate is not None else None
        if store is None or certificate is None:
            return ""
        try:
            store.verify(tuple(one.octets for one in (certificate.certificate, *certificate.above)), when)
        except RevokedError as error:
            return str(error)
        except CertificateError:
            return ""  # expired, or nobody can say: that is for its next IKE_AUTH
        return ""

    def terms(
        self,
        profile: IkeProfile,
        ends: Ends,
        identity: Identity | None,
        *,
        bind: bool,
        request: tuple[Attribute, ...] = (),
        known_contact: bool = False,
    ) -> Terms | Refusal:
        """`identity`: the peer's, as far as it has said it (None: we are the initiator)."""
        if reason := self.reason(profile):
            return Refusal(f"profile {profile.name} cannot be used: {reason}")
        local, remote = profile.methods
        side = self.side(profile)
        own_key, far_key = self._keys(profile, ends, identity)
        credential: Credential
        if local is AuthMethod.PSK:
            if not own_key:
                return Refusal(f"no pre-shared key of ours for {_who(ends, identity)} in profile {profile.name}")
            credential = PskCredential(own_key.encode())
        else:
            assert side.credential is not None  # by `reason`
            credential = side.credential
        if remote == {AuthMethod.PSK} and not far_key:
            return Refusal(f"no pre-shared key of {_who(ends, identity)} in profile {profile.name}")
        own = identity_of(profile.identity_local, ends.local, side.subject if local is not AuthMethod.PSK else b"")
        if own is None:
            return Refusal(f"profile {profile.name}: identity local dn needs a certificate")
        keepalive = profile.nat_keepalive if profile.nat_keepalive is not None else self.config.nat_keepalive
        return Terms(
            profile=profile.name,
            local=own,
            credential=credential,
            trust=Trust(
                remote,
                psk=far_key.encode() if far_key and AuthMethod.PSK in remote else None,
                anchors=side.anchors if remote & _SIGNATURES else None,
                bind=bind,
            ),
            lifetime=float(profile.lifetime),
            dpd=profile.dpd or self.config.dpd,
            request=request,
            accept_set=profile.config_exchange_set_accept,
            known_contact=known_contact and not profile.initial_contact_force,
            nat_keepalive=float(keepalive),
        )

    def requests(self, ends: Ends) -> bytes:
        found: dict[bytes, None] = {}
        for profile in self.usable(ends):
            _, remote = profile.methods
            anchors = self.side(profile).anchors
            if remote & _SIGNATURES and anchors is not None:
                hashes = anchors.requests()
                found.update((hashes[at : at + 20], None) for at in range(0, len(hashes), 20))
        return b"".join(found)

    def _keys(self, profile: IkeProfile, ends: Ends, identity: Identity | None) -> tuple[str, str]:
        """Our pre-shared key and the peer's."""
        peer = self.keyring_peer(profile, ends.remote, identity)
        own = (peer.local_key if peer else "") or profile.local_key
        far = (peer.remote_key if peer else "") or profile.remote_key
        return own, far

    def keyring_peer(self, profile: IkeProfile, address: bytes, identity: Identity | None) -> KeyringPeer | None:
        """By identity, if the peer has said one, so that who is named in a keyring proves it by the key of that name and by no
        other; then by address, the longest prefix first."""
        keyring = self.config.keyrings.get(profile.keyring)
        if keyring is None:
            return None
        peers = keyring.peers.values()
        if identity is not None:
            for peer in peers:
                if peer.identity is not None and identity_matches(peer.identity, identity):
                    return peer
        near = [peer for peer in peers if peer.prefix is not None and peer.prefix.covers(address)]
        return max(near, key=lambda peer: peer.prefix.length if peer.prefix else 0, default=None)

    def holder(
        self, name: str, place: tuple[str, bytes], identity: Identity, certificate: PeerCertificate | None
    ) -> Holder:
        """Whose leases and interfaces those of a peer at `place` (VRF, address) are. A pre-shared key of one entry of a keyring
        proves nothing of who has another's, whatever identity is claimed with it; and an address says who somebody is in one
        VRF alone."""
        vrf, remote = place
        profile, found = self.get(name), holder_of(name, identity, certificate)
        if vrf and found[1][0] in _ADDRESSES:
            found = (found[0], found[1] + b"\0" + vrf.encode())
        if profile is None or certificate is not None:
            return found
        entry = self.keyring_peer(profile, remote, identity)
        return (found[0], found[1] + b"\0" + entry.name.encode()) if entry is not None else found

    # --- what is proposed -------------------------------------------------------------------------------------------

    def ike_proposals(self, ends: Ends) -> tuple[Proposal, ...]:
        known = self._ike.get(ends.local)
        if known is None:
            known = self._ike[ends.local] = self._proposals(ends.local)
        return known

    def _proposals(self, local: bytes) -> tuple[Proposal, ...]:
        policies = self.config.policies.values()
        fitting = [policy for policy in policies if local in policy.local_addresses]
        fitting = fitting or [policy for policy in policies if not policy.local_addresses]
        names = [name for policy in fitting for name in policy.proposals]
        found: list[Proposal] = []
        for name in dict.fromkeys(names):
            config = self.config.proposals.get(name) or (IkeProposal(DEFAULT) if name == DEFAULT else None)
            if config is not None:
                try:
                    found += ike_proposals(config, self.config.sha1)
                except SuiteError:
                    continue  # said by `faults`
        if not found and not names:
            found = list(default_ike_proposals(self.config.sha1))
        return tuple(evolve(proposal, number=number) for number, proposal in enumerate(found, 1))

    def faults(self) -> Iterable[str]:
        """What of the proposals and transform sets is never offered, and why."""
        for name, config in self.config.proposals.items():
            try:
                ike_proposals(config, self.config.sha1)
            except SuiteError as error:
                yield f"proposal {name}: {error}"
        for name in self.config.ipsec_profiles:
            if isinstance(found := self.esp(name), Refusal):
                yield f"IPsec profile {name}: {found.reason}"

    def ipsec(self, name: str) -> IpsecProfile | None:
        """`default` exists without a line."""
        return self.config.ipsec_profiles.get(name) or (IpsecProfile(DEFAULT) if name == DEFAULT else None)

    def ike_of(self, ipsec: IpsecProfile, vrf: str) -> IkeProfile | Refusal:
        """With which IKE profile an IPsec profile initiates, in a VRF."""
        found = self._ike_of(ipsec)
        if isinstance(found, IkeProfile) and found.match_fvrf not in {None, vrf}:
            return Refusal(
                f"IKEv2 profile {found.name} is not for {f'VRF {vrf}' if vrf else 'the default VRF'} (match fvrf)"
            )
        return found

    def _ike_of(self, ipsec: IpsecProfile) -> IkeProfile | Refusal:
        profiles = self.config.profiles
        if ipsec.ike_profile:
            found = profiles.get(ipsec.ike_profile)
            return found if found is not None else Refusal(f"IKEv2 profile {ipsec.ike_profile} is not defined")
        if DEFAULT in profiles:
            return profiles[DEFAULT]
        if len(profiles) == 1:
            return next(iter(profiles.values()))
        return Refusal(f"IPsec profile {ipsec.name} names no IKEv2 profile")

    def esp(self, name: str) -> Esp | Refusal:
        """An IPsec profile with its ESP proposals and its mode."""
        known = self._esp.get(name)
        if known is None:
            known = self._offered(name)
            if self.ipsec(name) is not None:
                self._esp[name] = known
        return known

    def _offered(self, name: str) -> Esp | Refusal:
        ipsec = self.ipsec(name)
        if ipsec is None:
            return Refusal(f"IPsec profile {name} is not defined")
        sets: list[TransformSet] = []
        for each in ipsec.transform_sets or (DEFAULT,):
            found = self.config.transform_sets.get(each)
            if found is None and each != DEFAULT:
                return Refusal(f"transform set {each} is not defined")
            sets += [found] if found is not None else _DEFAULT_SETS
        try:
            proposals = esp_proposals(sets, ipsec.esn, ipsec.pfs_group, self.config.sha1)
        except SuiteError as error:
            return Refusal(f"IPsec profile {name}: {error}")
        return ipsec, proposals, sets[0].mode

    def child_terms(self, ipsec_name: str, key: SaKey, local: bytes, remote: bytes) -> ChildTerms | Refusal:
        """GRE between exactly these two addresses."""
        found = self.esp(ipsec_name)
        if isinstance(found, Refusal):
            return evolve(found, notify=14)
        ipsec, proposals, mode = found
        config = self.config
        seconds = _or(ipsec.lifetime_seconds, config.lifetime_seconds)
        kilobytes = _or(ipsec.lifetime_kilobytes, config.lifetime_kilobytes)
        return ChildTerms(
            key=key,
            proposals=proposals,
            own=(Selector(local, local, GRE),),
            far=(Selector(remote, remote, GRE),),
            mode=mode,
            lifetime=float(seconds),
            octets=kilobytes * 1024,
            packets=_or(ipsec.lifetime_packets, config.lifetime_packets),
            window=_or(ipsec.replay_window, config.replay_window),
        )

    # --- authorisation ----------------------------------------------------------------------------------------------

    def policy(self, profile: IkeProfile, *, certificate: bool) -> AuthorizationPolicy | Refusal | None:
        """What a peer of `profile` gets; None: the profile has no authorisation. `default` exists without a line. Where
        nothing is said of AAA at all (no list, no `aaa new-model`), the policies of this node are meant."""
        by_kind = {aaa.kind: aaa for aaa in profile.aaa}
        aaa = by_kind.get("override") or by_kind.get("cert" if certificate else "psk")
        if aaa is None:
            return None
        lists = self.config.aaa_lists
        if aaa.list_name not in lists and (lists or self.config.aaa_new_model):
            return Refusal(f"AAA list {aaa.list_name} is not defined")
        policy = self.config.authorization_policies.get(aaa.policy)
        if policy is None and aaa.policy == DEFAULT:
            policy = _DEFAULT_POLICY
        return policy if policy is not None else Refusal(f"authorization policy {aaa.policy} is not defined")

    def footprint(self, profile_name: str, ipsec_name: str, *, files: bool = True) -> tuple[Any, ...]:
        """All of the configuration that an SA of this profile rests on: it stays while this is the same. `files`: what trust
        points have loaded counts too."""
        config = self.config
        profile, ipsec = self.get(profile_name), self.ipsec(ipsec_name) if ipsec_name else None
        of_profile: tuple[Any, ...] = ()
        if profile is not None:
            of_profile = (
                config.keyrings.get(profile.keyring),
                *(config.trustpoints.get(name) for name in profile.trustpoints),
                *(_loaded(self.trustpoints.get(name)) for name in profile.trustpoints if files),
                *(config.certificate_maps.get(name) for name in profile.match_certificate),
                *(config.authorization_policies.get(aaa.policy) for aaa in profile.aaa),
            )
        sets = tuple(config.transform_sets.get(name) for name in ipsec.transform_sets) if ipsec is not None else ()
        return profile, ipsec, of_profile, sets


def _loaded(material: Material | TrustpointError | None) -> Any:
    """Certificates that a trust point has: files may have changed where the configuration has not."""
    if not isinstance(material, Material):
        return None
    return tuple(anchor.certificate.digest for anchor in material.anchors), tuple(one.digest for one in material.own)


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _who(ends: Ends, identity: Identity | None) -> str:
    return identity_text(identity if identity is not None else address_identity(ends.remote))


def _parsed(certificates: tuple[bytes, ...]) -> ParsedCertificate | None:
    if not certificates:
        return None
    try:
        return parse_certificate(certificates[0])
    except CertificateError:
        return None
