"""What the IKEv2 speaker is told. The IOS lines that set it are in ikev2.lines; every name that a line gives is kept as it
is written.

Defaults are IOS's smart defaults: a proposal, a policy, an authorization policy, a transform set and an IPsec profile called
`default` exist without a line, so that an IKEv2 profile of two lines works.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from attrs import field, frozen

from stack.addr import Prefix
from stack.esp import Cipher, EspMode, Integrity

__all__ = [
    "DEFAULT",
    "AaaAuthorization",
    "AuthMethod",
    "AuthorizationPolicy",
    "CertificateChain",
    "CertificateMap",
    "Condition",
    "Dpd",
    "IdentityKind",
    "IdentityMatch",
    "IdentitySpec",
    "IkeProfile",
    "IkeProposal",
    "Ikev2Config",
    "IpPool",
    "IpsecProfile",
    "Keyring",
    "KeyringPeer",
    "Limits",
    "MatchRule",
    "Policy",
    "RouteAccept",
    "TransformSet",
    "Trustpoint",
]

DEFAULT = "default"


class IdentityKind(Enum):
    """As in `identity local ...`; `ANY` only matches."""

    ADDRESS = "address"
    FQDN = "fqdn"
    EMAIL = "email"
    KEY_ID = "key-id"
    DN = "dn"
    ANY = "any"


@frozen
class IdentitySpec:
    """`identity local KIND [VALUE]`. `value`: text; of ADDRESS dotted or colon text; of DN empty (the certificate's
    subject)."""

    kind: IdentityKind
    value: str = ""


@frozen
class IdentityMatch:
    """`match identity remote KIND VALUE`. `domain`: the part after the first dot (FQDN) or the @ (e-mail) must equal `value`
    or end in `.value`. `prefix`: of ADDRESS."""

    kind: IdentityKind
    value: str = ""
    domain: bool = False
    prefix: Prefix | None = None


class AuthMethod(Enum):
    PSK = "pre-share"
    RSA_SIG = "rsa-sig"
    """RSA method 1 of RFC 7296, or RSA by RFC 7427 where the peer can do that."""
    ECDSA_SIG = "ecdsa-sig"
    SIGNATURE = "digital-signature"
    """Ours: whatever key the certificate has, by RFC 7427 (Ed25519 goes no other way)."""


@frozen
class Dpd:
    """`dpd INTERVAL RETRIES on-demand|periodic`, seconds. Dead when as many retries, `retry` seconds apart, have no answer."""

    interval: int
    retry: int = 2
    on_demand: bool = True


@frozen
class IkeProposal:
    """Transforms by IOS's names (`aes-gcm-256`, `aes-cbc-256`, `sha512`, ...; groups by number), in order of preference. `prf`
    empty: by `integrity`, or for an AEAD the strongest that fits its key."""

    name: str
    encryption: tuple[str, ...] = ()
    integrity: tuple[str, ...] = ()
    prf: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()


@frozen
class Policy:
    """`crypto ikev2 policy`: which proposals, for which local addresses (none: all)."""

    name: str
    proposals: tuple[str, ...] = ()
    local_addresses: tuple[bytes, ...] = ()


@frozen
class KeyringPeer:
    """A peer of a keyring, found by its address or its identity (which may be a whole domain). `remote_key` is what it proves
    itself by, `local_key` what we do; one `pre-shared-key KEY` sets both."""

    name: str
    prefix: Prefix | None = None
    identity: IdentityMatch | None = None
    local_key: str = field(default="", repr=False)
    remote_key: str = field(default="", repr=False)
    description: str = ""


@frozen
class Keyring:
    name: str
    peers: Mapping[str, KeyringPeer] = field(factory=dict)


@frozen
class AaaAuthorization:
    """`aaa authorization group [override] KIND list LIST POLICY`: `kind` is `psk` or `cert`. `override` changes nothing while
    there are no attributes of single users."""

    kind: str
    list_name: str
    policy: str
    override: bool = False


@frozen
class IkeProfile:
    """`crypto ikev2 profile`. A peer belongs to the first profile that matches its identity or certificate and our address."""

    name: str
    match_remote: tuple[IdentityMatch, ...] = ()
    match_certificate: tuple[str, ...] = ()
    match_local_address: tuple[bytes, ...] = ()
    match_local_interface: tuple[str, ...] = ()
    """`match address local interface IF`: as if its addresses stood in `match_local_address`."""
    match_fvrf: str | None = ""
    """The VRF that its peers' outer addresses are in; None: any."""
    identity_local: IdentitySpec | None = None
    auth_local: AuthMethod | None = None
    auth_remote: tuple[AuthMethod, ...] = ()
    local_key: str = field(default="", repr=False)
    """`authentication local pre-share key K`: without a keyring."""
    remote_key: str = field(default="", repr=False)
    keyring: str = ""
    trustpoints: tuple[str, ...] = ()
    """All that are named, in order; each proves us and is believed, but for those of `sign_only` and `verify_only`."""
    sign_only: tuple[str, ...] = ()
    verify_only: tuple[str, ...] = ()
    dpd: Dpd | None = None
    aaa: tuple[AaaAuthorization, ...] = ()
    virtual_template: int | None = None
    lifetime: int = 86400
    nat_keepalive: int | None = None
    config_exchange_request: bool = True
    config_exchange_set_send: bool = True
    config_exchange_set_accept: bool = True
    initial_contact_force: bool = False
    description: str = ""

    @property
    def methods(self) -> tuple[AuthMethod | None, frozenset[AuthMethod]]:
        """How we prove ourselves, and how the peer may. What is not configured follows from the rest, so that a profile of two
        lines works: whom it is for, and a keyring or a trust point."""
        local = self.auth_local
        if local is None:
            if self.keyring or self.local_key:
                local = AuthMethod.PSK
            elif self.trustpoints:
                local = AuthMethod.SIGNATURE
        return local, frozenset(self.auth_remote) or (frozenset({local}) if local else frozenset())


@frozen
class RouteAccept:
    """`route accept any [tag T] [distance D]`: what the peer announces is installed."""

    enabled: bool = True
    tag: int = 0
    distance: int = 1


@frozen
class AuthorizationPolicy:
    """What an authenticated peer gets. `route_set_interface`: an interface whose addresses are announced as host routes; ''
    (the bare line): the tunnel's own; None: no such line. `route_set_acl`: access lists whose permitted destinations are
    announced."""

    name: str
    pool: str = ""
    ipv6_pool: str = ""
    netmask: bytes = b""
    banner: str = ""
    def_domain: str = ""
    dns: tuple[bytes, ...] = ()
    wins: tuple[bytes, ...] = ()
    backup_gateways: tuple[str, ...] = ()
    route_set_interface: str | None = None
    route_set_acl: tuple[str, ...] = ()
    route_accept: RouteAccept = RouteAccept()


@frozen
class TransformSet:
    """`crypto ipsec transform-set NAME esp-gcm 256`."""

    name: str
    cipher: Cipher = Cipher.AES_GCM_256
    integrity: Integrity = Integrity.NONE
    mode: EspMode = EspMode.TRANSPORT


@frozen
class IpsecProfile:
    """`crypto ipsec profile`. `ike_profile` empty: `default`, or the only one there is. `esn`: extended sequence numbers are
    offered first, and taken if offered. Lifetimes in seconds, kilobytes and packets; None: the global ones; 0: no limit."""

    name: str
    ike_profile: str = ""
    transform_sets: tuple[str, ...] = ()
    pfs_group: int | None = None
    lifetime_seconds: int | None = None
    lifetime_kilobytes: int | None = None
    lifetime_packets: int | None = None
    replay_window: int | None = None
    """64 to 8192; 0: no replay check."""
    esn: bool = True
    responder_only: bool = False
    description: str = ""


@frozen
class Trustpoint:
    """`crypto pki trustpoint`. Certificates and keys come from files: `certificate_file` (our chain, ours first), `key_file`,
    `ca_file` (trusted), `crl_file`; or, for certificates, from `crypto pki certificate chain`. `revocation` in order, of
    `crl` and `none`. `fingerprint`: hex of the CA certificate's MD5, SHA-1 or SHA-256."""

    name: str
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    crl_file: str = ""
    subject_name: str = ""
    fingerprint: str = ""
    revocation: tuple[str, ...] = ("crl",)
    rsakeypair: str = ""
    """Label and size, as written: a name for people, the key itself is `key_file`."""
    eckeypair: str = ""
    enrollment: str = ""
    password: str | None = field(default=None, repr=False)
    """Of enrolment, which is later; the line may be empty. It is kept so that it prints back."""


class MatchRule(Enum):
    EQ = "eq"
    NE = "ne"
    CO = "co"
    NC = "nc"


@frozen
class Condition:
    """A line of a certificate map: `subject-name co ou = flex`. `field`: subject-name, issuer-name, alt-subject-name, ..."""

    field: str
    rule: MatchRule
    value: str


@frozen
class CertificateMap:
    """Sequences are alternatives; the conditions of one must all hold."""

    name: str
    sequences: Mapping[int, tuple[Condition, ...]] = field(factory=dict)


@frozen
class CertificateChain:
    """`crypto pki certificate chain TRUSTPOINT`: certificates pasted as hex. (kind, serial) -> DER, empty if only named; `kind`
    is '' for our own, `ca` or `self-signed`."""

    trustpoint: str
    certificates: Mapping[tuple[str, str], bytes] = field(factory=dict)


@frozen
class IpPool:
    """`ip local pool NAME FIRST [LAST]`."""

    name: str
    first: bytes
    last: bytes


@frozen
class Limits:
    """`crypto ikev2 limit max-sa N`, `max-in-negotation-sa N` (IOS's spelling is taken too)."""

    max_sa: int = 0
    max_in_negotiation: int = 1000


@frozen
class Ikev2Config:
    proposals: Mapping[str, IkeProposal] = field(factory=dict)
    policies: Mapping[str, Policy] = field(factory=dict)
    keyrings: Mapping[str, Keyring] = field(factory=dict)
    profiles: Mapping[str, IkeProfile] = field(factory=dict)
    authorization_policies: Mapping[str, AuthorizationPolicy] = field(factory=dict)
    transform_sets: Mapping[str, TransformSet] = field(factory=dict)
    ipsec_profiles: Mapping[str, IpsecProfile] = field(factory=dict)
    trustpoints: Mapping[str, Trustpoint] = field(factory=dict)
    certificate_maps: Mapping[str, CertificateMap] = field(factory=dict)
    certificate_chains: Mapping[str, CertificateChain] = field(factory=dict)
    pools: Mapping[str, IpPool] = field(factory=dict)
    aaa_lists: Mapping[str, str] = field(factory=dict)
    """`aaa authorization network LIST local`: list -> method."""
    aaa_new_model: bool = False
    cookie_challenge: int | None = None
    """Half-open SAs above which cookies are asked for. None: not configured, 100."""
    fragmentation_mtu: int | None = 576
    """Octets of the largest IKE datagram, IP header included (RFC 7383); None: no fragmentation."""
    limits: Limits = Limits()
    dpd: Dpd | None = None
    nat_keepalive: int = 20
    """Seconds; 0: none."""
    lifetime_seconds: int = 3600
    lifetime_kilobytes: int = 4_608_000
    lifetime_packets: int = 0
    replay_window: int = 64
    sha1: bool = False
    """The one switch for old peers: SHA-1 in integrity and signatures."""
