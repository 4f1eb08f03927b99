"""Profiles: which peer belongs to which, how both prove themselves, what is proposed; certificates end to end."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from ikev2.config import (
    AaaAuthorization,
    AuthMethod,
    AuthorizationPolicy,
    CertificateMap,
    Condition,
    IdentityKind,
    IdentityMatch,
    IdentitySpec,
    IkeProfile,
    IkeProposal,
    Ikev2Config,
    IpsecProfile,
    Keyring,
    KeyringPeer,
    MatchRule,
    Policy,
    TransformSet,
    Trustpoint,
)
from ikev2.engine.contract import Ends, Refusal
from ikev2.engine.identities import holder_of, identity_matches, identity_of, identity_text
from ikev2.engine.profiles import Profiles
from ikev2.events import PeerRefused
from ikev2.pki.certificate import parse_certificate, parse_crl
from ikev2.pki.chain import Anchor
from ikev2.pki.errors import TrustpointError
from ikev2.pki.names import dn_der, parse_dn
from ikev2.pki.trustpoint import Material
from ikev2.wire.payloads import Identity
from stack.addr import Prefix, parse_address
from stack.esp import Cipher, EspMode, Integrity
from stack.events import SaKey
from tests.ikev2 import pki
from tests.ikev2.nodes import World, anybody, psk, psk_config, together, two_ends

A, B = parse_address("192.0.2.1"), parse_address("192.0.2.2")
ENDS = Ends(A, B)
FQDN, EMAIL, DN, KEY_ID = 2, 3, 9, 11
V6 = parse_address("2001:db8::1")


def name(text: str, kind: int = FQDN) -> Identity:
    return Identity(kind, text.encode())


# --- identities ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "identity", "yes"),
    [
        (IdentityMatch(IdentityKind.ANY), name("x"), True),
        (IdentityMatch(IdentityKind.FQDN, "hub.Example"), name("HUB.example"), True),
        (IdentityMatch(IdentityKind.FQDN, "hub.example"), name("xhub.example"), False),
        (IdentityMatch(IdentityKind.FQDN, "hub.example"), name("hub.example", EMAIL), False),
        (IdentityMatch(IdentityKind.FQDN, "cisco.com", domain=True), name("R3-spoke.Cisco.com"), True),
        (IdentityMatch(IdentityKind.FQDN, "cisco.com", domain=True), name("a.b.cisco.com"), True),
        (IdentityMatch(IdentityKind.FQDN, "cisco.com", domain=True), name("evilcisco.com"), False),
        (IdentityMatch(IdentityKind.FQDN, "cisco.com", domain=True), name("a.evilcisco.com"), False),
        (IdentityMatch(IdentityKind.FQDN, "cisco.com", domain=True), name("a.cisco.com.evil"), False),
        (IdentityMatch(IdentityKind.FQDN, "", domain=True), name("a."), False),
        (IdentityMatch(IdentityKind.EMAIL, "x@y.z"), name("X@Y.Z", EMAIL), True),
        (IdentityMatch(IdentityKind.EMAIL, "y.z", domain=True), name("x@y.z", EMAIL), True),
        (IdentityMatch(IdentityKind.EMAIL, "y.z", domain=True), name("x@a.y.z", EMAIL), True),
        (IdentityMatch(IdentityKind.EMAIL, "y.z", domain=True), name("y.z@evil", EMAIL), False),
        (IdentityMatch(IdentityKind.KEY_ID, "k1"), name("k1", KEY_ID), True),
        (IdentityMatch(IdentityKind.KEY_ID, "k1"), name("K1", KEY_ID), False),
        (IdentityMatch(IdentityKind.ADDRESS, prefix=Prefix.parse("192.0.2.0/24")), Identity(1, B), True),
        (IdentityMatch(IdentityKind.ADDRESS, prefix=Prefix.parse("192.0.3.0/24")), Identity(1, B), False),
        (IdentityMatch(IdentityKind.ADDRESS, prefix=Prefix.parse("0.0.0.0/0")), name("192.0.2.2"), False),
        (IdentityMatch(IdentityKind.ADDRESS, prefix=Prefix.parse("2001:db8::/32")), Identity(5, V6), True),
        (IdentityMatch(IdentityKind.ADDRESS), Identity(1, B), False),
        (IdentityMatch(IdentityKind.FQDN, "a"), Identity(FQDN, b""), False),
        (IdentityMatch(IdentityKind.FQDN, "\ufffd"), Identity(FQDN, b"\xff"), True),
    ],
)  # fmt: skip
def test_identity_matches(match: IdentityMatch, identity: Identity, yes: bool) -> None:
    assert identity_matches(match, identity) is yes


def test_identities_as_text() -> None:
    assert identity_text(Identity(1, B)) == "192.0.2.2"
    assert identity_text(Identity(5, parse_address("2001:db8::1"))) == "2001:db8::1"
    assert identity_text(Identity(1, b"abc")) == "abc"
    assert identity_text(name("a\x1b[31m\nb")) == "a\\x1b[31m\\nb"
    assert identity_text(Identity(FQDN, b"\xff\xfe")) == "\\xff\\xfe"
    assert identity_text(Identity(FQDN, b"")) == "kind 2, empty"
    assert identity_text(Identity(DN, dn_der(parse_dn("cn=a,o=b")))) == "cn=a,o=b"
    assert identity_text(Identity(DN, b"nonsense")) == "dn:" + b"nonsense".hex()
    assert len(identity_text(name("x" * 5000))) == 256
    assert identity_text(None) == ""


def test_our_own_identity() -> None:
    subject = dn_der(parse_dn("cn=a"))
    assert identity_of(None, A) == Identity(1, A)
    assert identity_of(None, A, subject) == Identity(DN, subject)
    assert identity_of(IdentitySpec(IdentityKind.ADDRESS), A, subject) == Identity(1, A)
    assert identity_of(IdentitySpec(IdentityKind.ADDRESS, "10.0.0.1"), A) == Identity(1, parse_address("10.0.0.1"))
    assert identity_of(IdentitySpec(IdentityKind.FQDN, "a.b"), A) == name("a.b")
    assert identity_of(IdentitySpec(IdentityKind.EMAIL, "a@b"), A) == name("a@b", EMAIL)
    assert identity_of(IdentitySpec(IdentityKind.KEY_ID, "k"), A) == name("k", KEY_ID)
    assert identity_of(IdentitySpec(IdentityKind.DN), A) is None


def test_holders_ignore_case_where_names_do() -> None:
    assert holder_of("p", name("A.b")) == holder_of("p", name("a.B"))
    assert holder_of("p", name("K", KEY_ID)) != holder_of("p", name("k", KEY_ID))
    assert holder_of("p", name("a")) != holder_of("q", name("a"))
    assert holder_of("p", name("a")) != holder_of("p", name("a", EMAIL))


# --- selection ----------------------------------------------------------------------------------------------------------


def chosen(config: Ikev2Config, identity: Identity, ends: Ends = ENDS, certificates: tuple[bytes, ...] = ()) -> str:
    found = Profiles(config).select(ends, identity, certificates)
    return found.reason if isinstance(found, Refusal) else found[0].name


def test_the_first_profile_that_matches() -> None:
    config = psk_config(
        psk("hub", match_remote=(IdentityMatch(IdentityKind.FQDN, "hub.example"),)),
        psk("here", match_local_address=(parse_address("198.51.100.1"),)),
        psk("rest"),
    )
    assert chosen(config, name("hub.example")) == "hub"
    assert chosen(config, name("spoke.example")) == "rest"
    assert chosen(config, name("spoke.example"), evolve(ENDS, local=parse_address("198.51.100.1"))) == "here"
    assert chosen(psk_config(psk("x", match_remote=())), name("a.b")) == "no profile matches a.b"


def test_a_local_interface() -> None:
    config = psk_config(psk("here", match_local_interface=("Ethernet0/0",)))
    profiles = Profiles(config, addresses=lambda interface: (A,) if interface == "Ethernet0/0" else ())
    assert not isinstance(profiles.select(ENDS, name("x"), ()), Refusal)
    assert isinstance(profiles.select(evolve(ENDS, local=B), name("x"), ()), Refusal)


def test_an_unusable_profile_says_so() -> None:
    config = psk_config(evolve(psk("x"), keyring="gone"))
    assert chosen(config, name("a")) == "profile x cannot be used: keyring gone is not defined"


@pytest.mark.parametrize(
    ("address", "identity", "key"),
    [
        ("192.0.2.2", None, "host"),
        ("192.0.2.9", None, "net"),
        ("198.51.100.1", name("R1.example"), "named"),
        ("198.51.100.1", name("other"), "any"),
        ("198.51.100.1", None, "any"),
        # who is named proves it by the key of that name, wherever it is
        ("192.0.2.9", name("R1.example"), "named"),
        ("192.0.2.2", name("R1.example"), "named"),
    ],
)
def test_keyring_order(address: str, identity: Identity | None, key: str) -> None:
    def peer(key: str, prefix: str = "", fqdn: str = "") -> KeyringPeer:
        return KeyringPeer(
            key,
            prefix=Prefix.parse(prefix) if prefix else None,
            identity=IdentityMatch(IdentityKind.FQDN, fqdn) if fqdn else None,
            local_key=key,
            remote_key=key,
        )

    peers = (
        peer("any", "0.0.0.0/0"),
        peer("net", "192.0.2.0/24"),
        peer("host", "192.0.2.2/32"),
        peer("named", fqdn="r1.example"),
    )
    config = psk_config(evolve(psk(key=""), keyring="K"), keyrings={"K": Keyring("K", {p.name: p for p in peers})})
    found = Profiles(config).keyring_peer(config.profiles["default"], parse_address(address), identity)
    assert found is not None
    assert found.name == key


def test_ike_proposals_by_policy() -> None:
    proposals = {
        "one": IkeProposal("one", ("aes-gcm-256",), prf=("sha384",), groups=(19,)),
        "two": IkeProposal("two", ("aes-cbc-128",), ("sha256",), groups=(31,)),
        "bad": IkeProposal("bad", ("des",)),
    }
    policies = {
        "all": Policy("all", ("two",)),
        "here": Policy("here", ("bad", "one", "two"), (A,)),
    }
    profiles = Profiles(psk_config(proposals=proposals, policies=policies))
    assert [p.number for p in profiles.ike_proposals(ENDS)] == [1, 2]
    assert len(profiles.ike_proposals(evolve(ENDS, local=B))) == 1
    assert any("bad" in fault for fault in profiles.faults())
    assert len(Profiles(psk_config()).ike_proposals(ENDS)) >= 2
    # what is configured and cannot be used is not replaced by something else
    assert Profiles(psk_config(proposals=proposals, policies={"x": Policy("x", ("bad",))})).ike_proposals(ENDS) == ()


def test_the_smart_default_of_esp() -> None:
    found = Profiles(psk_config()).esp("P")
    assert not isinstance(found, Refusal)
    _, proposals, mode = found
    assert mode is EspMode.TRANSPORT
    first = [proposal.transforms[0] for proposal in proposals]
    assert [(t.number, t.key_length) for t in first] == [(20, 256), (20, 128), (28, 0), (12, 256)]
    assert all({t.number for t in p.transforms if t.kind == 5} == {0, 1} for p in proposals)


def test_child_terms() -> None:
    sets = {"T": TransformSet("T", Cipher.AES_CBC_256, Integrity.HMAC_SHA2_512_256, EspMode.TUNNEL)}
    ipsec = IpsecProfile(
        "P",
        transform_sets=("T",),
        pfs_group=19,
        lifetime_seconds=900,
        lifetime_kilobytes=1000,
        replay_window=1024,
        esn=False,
    )
    terms = Profiles(psk_config(transform_sets=sets, ipsec_profiles={"P": ipsec})).child_terms("P", SaKey("T"), A, B)
    assert not isinstance(terms, Refusal)
    assert (terms.mode, terms.lifetime, terms.octets, terms.window) == (EspMode.TUNNEL, 900.0, 1_024_000, 1024)
    assert terms.own[0].covers(A, 47)
    assert not terms.own[0].covers(A, 50)
    assert not terms.far[0].covers(A, 47)
    assert [t.number for t in terms.proposals[0].transforms if t.kind == 4] == [19]


def test_authorization_policy() -> None:
    mine = AuthorizationPolicy("mine")
    profile = psk(aaa=(AaaAuthorization("cert", "L", "mine"), AaaAuthorization("psk", "L", "default")))
    profiles = Profiles(psk_config(profile, aaa_lists={"L": "local"}, authorization_policies={"mine": mine}))
    assert profiles.policy(profile, certificate=True) is mine
    by_default = profiles.policy(profile, certificate=False)
    assert isinstance(by_default, AuthorizationPolicy)
    assert by_default.route_set_interface == ""
    assert profiles.policy(psk(), certificate=False) is None
    override = psk(aaa=(AaaAuthorization("psk", "L", "default"), AaaAuthorization("override", "L", "mine")))
    assert profiles.policy(override, certificate=False) is mine


# --- certificates, end to end -------------------------------------------------------------------------------------------


def material(leaf: pki.Leaf, *, revocation: tuple[str, ...] = ("none",)) -> Material:
    root = parse_certificate(pki._WORLD.root.chain[-1])
    return Material(
        "CA",
        anchors=(Anchor(root, "CA", revocation),),
        own=tuple(parse_certificate(one) for one in leaf.chain),
        key=leaf.key,
        crls=tuple(parse_crl(one) for one in pki.crl),
    )


def cert_profile(**more: Any) -> IkeProfile:
    more.setdefault("match_remote", anybody())
    return IkeProfile(
        "default",
        auth_local=AuthMethod.SIGNATURE,
        auth_remote=(AuthMethod.SIGNATURE, AuthMethod.RSA_SIG, AuthMethod.ECDSA_SIG),
        trustpoints=("CA",),
        **more,
    )


def cert_config(**more: Any) -> Ikev2Config:
    maps = more.pop("certificate_maps", {})
    return psk_config(cert_profile(**more), trustpoints={"CA": Trustpoint("CA")}, certificate_maps=maps)


def pair(left: pki.Leaf, right: pki.Leaf, config_a: Ikev2Config, config_b: Ikev2Config, **more: Any) -> Any:
    world = World()
    a = world.node("a", "192.0.2.1", config_a, materials={"CA": material(left, **more)})
    b = world.node("b", "192.0.2.2", config_b, materials={"CA": material(right, **more)})
    a.protect("Tunnel0", "192.0.2.1", "192.0.2.2")
    b.protect("Tunnel0", "192.0.2.2", "192.0.2.1")
    a.want("Tunnel0", "192.0.2.1", "192.0.2.2")
    return world, a, b


@pytest.mark.parametrize("kind", pki.KINDS)
def test_certificates_of_every_kind(kind: str) -> None:
    world, a, b = pair(pki.LEAVES[kind], pki.HUB[kind], cert_config(), cert_config())
    world.until(lambda: together(a, b))
    ike = b.snapshot().ikes[0]
    assert ike.remote_identity == "cn=R3-spoke.cisco.com,ou=FLEX,o=Cisco"
    assert ike.auth_remote == {"rsa2048": "RSA", "ec256": "ECDSA", "ec384": "ECDSA", "ed25519": "Ed25519"}[kind]
    assert ike.certificate.subject == ike.remote_identity
    assert a.snapshot().trustpoints[0].reason == ""


@pytest.mark.parametrize(("value", "yes"), [("ou = flex", True), ("ou = other", False)])
def test_a_certificate_map_picks_the_profile_whatever_the_identity(value: str, yes: bool) -> None:
    """As the FlexVPN document has it: the identity is an FQDN that the certificate does not have."""
    maps = {"M": CertificateMap("M", {10: (Condition("subject-name", MatchRule.CO, value),)})}
    hub = cert_config(match_remote=(), match_certificate=("M",), certificate_maps=maps)
    spoke = cert_config(identity_local=IdentitySpec(IdentityKind.FQDN, "elsewhere.example"))
    world, a, b = pair(pki.LEAVES["ec256"], pki.HUB["ec256"], spoke, hub)
    world.run(5)
    assert a.up("Tunnel0") is yes
    if yes:
        assert b.snapshot().ikes[0].remote_identity == "elsewhere.example"
    else:
        assert [f.reason for f in b.facts if isinstance(f, PeerRefused)]


def test_I09_an_identity_that_is_not_in_the_certificate() -> None:
    hub = cert_config(match_remote=(IdentityMatch(IdentityKind.FQDN, "example", domain=True),))
    spoke = cert_config(identity_local=IdentitySpec(IdentityKind.FQDN, "elsewhere.example"))
    world, a, b = pair(pki.LEAVES["ec256"], pki.HUB["ec256"], spoke, hub)
    world.run(5)
    assert not a.up("Tunnel0")
    assert not b.sad.inbound
    (reason, *_) = [f.reason for f in b.facts if isinstance(f, PeerRefused)]
    assert "identity" in reason
    assert "identity" not in a.state("Tunnel0").reason


def test_I09_a_responder_that_lies_about_itself_where_a_map_and_a_name_are_configured() -> None:
    """The initiator takes any identity that a map vouches for; a name that no certificate bears out is not vouched for."""
    maps = {"M": CertificateMap("M", {10: (Condition("subject-name", MatchRule.CO, "ou = nobody"),)})}
    spoke = cert_config(
        match_remote=(IdentityMatch(IdentityKind.FQDN, "hub.example"),), match_certificate=("M",), certificate_maps=maps
    )
    hub = cert_config(identity_local=IdentitySpec(IdentityKind.FQDN, "hub.example"))
    world, a, _ = pair(pki.LEAVES["ec256"], pki.HUB["ec256"], spoke, hub)
    world.run(5)
    assert not a.up("Tunnel0")
    assert "identity does not stand in its certificate" in a.state("Tunnel0").reason


@pytest.mark.parametrize("case", ["revoked", "expired"])
def test_I09_revoked_and_expired(case: str) -> None:
    leaf = {"revoked": pki.revoked, "expired": pki.expired}[case]
    world, a, b = pair(leaf, pki.HUB["ec256"], cert_config(), cert_config(), revocation=("crl", "none"))
    world.run(5)
    assert not a.up("Tunnel0")
    assert not b.sad.inbound
    refused = [f.reason for f in b.facts if isinstance(f, PeerRefused)]
    assert refused
    assert case in refused[0] or "valid" in refused[0]
    assert case not in a.state("Tunnel0").reason


def test_a_trust_point_that_cannot_be_loaded_spoils_its_profile_alone() -> None:
    broken = TrustpointError("BAD", "/x/ca.pem", "No such file or directory", "name a file that can be read")
    config = psk_config(
        evolve(cert_profile(), name="certs", trustpoints=("BAD",)),
        psk("keys"),
        trustpoints={"BAD": Trustpoint("BAD")},
        ipsec_profiles={"P": IpsecProfile("P", ike_profile="keys"), "Q": IpsecProfile("Q", ike_profile="certs")},
    )
    world = World()
    a = world.node("a", "192.0.2.1", config, materials={"BAD": broken})
    b = world.node("b", "192.0.2.2", psk_config())
    for number, ipsec in ((0, "P"), (1, "Q")):
        a.protect(f"Tunnel{number}", "192.0.2.1", "192.0.2.2", profile=ipsec)
        a.want(f"Tunnel{number}", "192.0.2.1", "192.0.2.2", profile=ipsec)
    b.protect("Tunnel0", "192.0.2.2", "192.0.2.1")
    world.run(3)
    assert a.up("Tunnel0")
    reason = f"profile certs cannot be used: {broken}"
    assert a.state("Tunnel1").reason == reason  # type: ignore[union-attr]
    assert [(p.name, bool(p.reason)) for p in a.snapshot().profiles] == [("certs", True), ("keys", False)]
    assert a.snapshot().trustpoints[0].reason == str(broken)


def test_verify_only_and_sign_only() -> None:
    mine, theirs = material(pki.LEAVES["ec256"]), material(pki.HUB["ec256"])
    both = {"CA": evolve(mine, anchors=()), "OTHER": evolve(theirs, own=(), key=None)}
    profile = cert_profile()
    for trustpoints, reason in (
        ({"trustpoints": ("CA", "OTHER"), "sign_only": ("CA",), "verify_only": ("OTHER",)}, ""),
        ({"trustpoints": ("CA",), "sign_only": ("CA",)}, "no trustpoint to believe a peer's certificate by"),
        ({"trustpoints": ("OTHER",), "verify_only": ("OTHER",)}, "no trustpoint with a certificate and key of ours"),
    ):
        found = evolve(profile, **trustpoints)
        assert Profiles(psk_config(found), both).reason(found) == reason


def test_S03_no_secret_is_said() -> None:
    """I16, S03: reprs, snapshots, facts, rows and logs of both ends, while it works and while it fails."""
    canary = "cAnArY-5e7"
    for left, right in ((canary, canary), (canary, canary + "x")):
        world = World()
        ring = Keyring("K", {"p": KeyringPeer("p", prefix=Prefix.parse("0.0.0.0/0"), local_key=left, remote_key=left)})
        config = psk_config(evolve(psk(key=""), keyring="K"), keyrings={"K": ring})
        a, b = two_ends(world, config, psk_config(psk(key=right)))
        a.want("Tunnel0", "192.0.2.1", "192.0.2.2")
        world.run(5)
        a.reconfigure(psk_config(psk(key=canary + "y")))
        world.run(5)
        for node in (a, b):
            core = node.speaker.node
            said = [
                node.config,
                node.logs,
                node.facts,
                dict(node.rows),
                node.snapshot(),
                core.profiles,
                list(core.peers.values()),
                core.wants,
                list(core.wants),
                core.ike_spis,
                node.kept,
                [peer.sas for peer in core.peers.values()],
            ]
            text = repr(said)
            assert canary not in text
            for sa in (*node.sad.inbound.values(), *(bundle.outbound for bundle in node.sad)):
                assert sa is not None
                assert repr(sa.encryption)[2:-1] not in text
                assert sa.encryption.hex() not in text
