"""The lines of IKEv2, IPsec and PKI: what they set, what they print, what they refuse and why."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ikev2.config import (
    AaaAuthorization,
    AuthMethod,
    AuthorizationPolicy,
    CertificateChain,
    CertificateMap,
    Condition,
    Dpd,
    IdentityKind,
    IdentityMatch,
    IdentitySpec,
    IkeProfile,
    IkeProposal,
    Ikev2Config,
    IpPool,
    IpsecProfile,
    Keyring,
    KeyringPeer,
    Limits,
    MatchRule,
    Policy,
    RouteAccept,
    TransformSet,
    Trustpoint,
)
from ikev2.crypto.suites import ENCRYPTION, GROUPS, INTEGRITY, PRF, esp_proposals, ike_proposals
from ikev2.lines import LINES, shared
from ikev2.lines.ipsec import CIPHER_WORDS, INTEGRITY_WORDS
from stack.addr import Prefix
from stack.addr import parse_address as a
from stack.config import Config
from stack.esp import Cipher, EspMode, Integrity
from stack.ios.grammar import Draft
from stack.ios.node_lines import LATER
from stack.ios.node_lines import LINES as NODE_LINES
from stack.ios.printer import running_config
from stack.ios.reader import ConfigError, read
from stack.ios.table import Table

TABLE = Table.of([*NODE_LINES, *LINES], LATER)
SECRET = "hunter2hunter2"


def load(text: str) -> Ikev2Config:
    return read(text, "r.cfg", table=TABLE).config[Ikev2Config]


def fault(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, "r.cfg", table=TABLE)
    return str(caught.value)


# --- single lines -----------------------------------------------------------------------------------------------------------

KEYRING = "crypto ikev2 keyring K\n peer P\n "
PROFILE = "crypto ikev2 profile P\n "
POLICY = "crypto ikev2 authorization policy A\n "
IPSEC = "crypto ipsec profile I\n "
POINT = "crypto pki trustpoint T\n "


def peer(**said):
    return Ikev2Config(keyrings={"K": Keyring("K", {"P": KeyringPeer("P", **said)})})


def profile(**said):
    return Ikev2Config(profiles={"P": IkeProfile("P", **said)})


def policy(**said):
    return Ikev2Config(authorization_policies={"A": AuthorizationPolicy("A", **said)})


def ipsec(**said):
    return Ikev2Config(ipsec_profiles={"I": IpsecProfile("I", **said)})


def point(**said):
    return Ikev2Config(trustpoints={"T": Trustpoint("T", **said)})


def sets(**said):
    return Ikev2Config(transform_sets={"S": TransformSet("S", **said)})


FQDN = IdentityKind.FQDN
MEANINGS = [
    (
        "crypto ikev2 proposal A B\n encryption aes-gcm-256 AES-CBC-128\n integrity sha384\n prf sha512\n group 21 14 21\n",
        Ikev2Config(
            proposals={"A B": IkeProposal("A B", ("aes-gcm-256", "aes-cbc-128"), ("sha384",), ("sha512",), (21, 14))}
        ),
    ),
    (
        "crypto ikev2 policy X\n match fvrf any\n match address local 192.0.2.1\n proposal A B\n proposal C\n",
        Ikev2Config(policies={"X": Policy("X", ("A B", "C"), (a("192.0.2.1"),))}),
    ),
    (KEYRING + "address 192.0.2.0 255.255.255.0", peer(prefix=Prefix.parse("192.0.2.0/24"))),
    (KEYRING + "address 192.0.2.7", peer(prefix=Prefix.parse("192.0.2.7/32"))),
    (KEYRING + "address 0.0.0.0 0.0.0.0", peer(prefix=Prefix.parse("0.0.0.0/0"))),
    (KEYRING + "address 2001:db8::/64", peer(prefix=Prefix.parse("2001:db8::/64"))),
    (KEYRING + "hostname r1.example.net", peer(identity=IdentityMatch(FQDN, "r1.example.net"))),
    (KEYRING + "identity fqdn domain example.net", peer(identity=IdentityMatch(FQDN, "example.net", domain=True))),
    (KEYRING + "identity key-id two words", peer(identity=IdentityMatch(IdentityKind.KEY_ID, "two words"))),
    (KEYRING + "pre-shared-key one two", peer(local_key="one two", remote_key="one two")),
    (KEYRING + "pre-shared-key local 0 one\n pre-shared-key remote two", peer(local_key="one", remote_key="two")),
    (KEYRING + "pre-shared-key x\n no pre-shared-key local", peer(remote_key="x")),
    (PROFILE + "match identity remote any", profile(match_remote=(IdentityMatch(IdentityKind.ANY),))),
    (
        PROFILE
        + "match identity remote address 192.0.2.0 255.255.255.0\n match identity remote email domain example.net",
        profile(
            match_remote=(
                IdentityMatch(IdentityKind.ADDRESS, prefix=Prefix.parse("192.0.2.0/24")),
                IdentityMatch(IdentityKind.EMAIL, "example.net", domain=True),
            )
        ),
    ),
    (PROFILE + "match address local interface lo0", profile(match_local_interface=("Loopback0",))),
    (PROFILE + "match certificate two words", profile(match_certificate=("two words",))),
    (PROFILE + "identity local dn", profile(identity_local=IdentitySpec(IdentityKind.DN))),
    (
        PROFILE + "identity local address 2001:db8::1",
        profile(identity_local=IdentitySpec(IdentityKind.ADDRESS, "2001:db8::1")),
    ),
    (PROFILE + "authentication local pre-share key 0 a b", profile(auth_local=AuthMethod.PSK, local_key="a b")),
    (
        PROFILE
        + "authentication remote pre-share key k\n authentication remote rsa-sig\n no authentication remote pre-share",
        profile(auth_remote=(AuthMethod.RSA_SIG,)),
    ),
    (
        PROFILE + "pki trustpoint A sign\n pki trustpoint B verify\n pki trustpoint A\n no pki trustpoint C",
        profile(trustpoints=("A", "B"), verify_only=("B",)),
    ),
    (PROFILE + "dpd 60 2 on-demand", profile(dpd=Dpd(60, 2))),
    (
        PROFILE + "aaa authorization group cert list L A B\n aaa authorization group override psk list L C",
        profile(aaa=(AaaAuthorization("cert", "L", "A B"), AaaAuthorization("psk", "L", "C", override=True))),
    ),
    (PROFILE + "virtual-template 7 mode auto", profile(virtual_template=7)),
    (PROFILE + "no config-exchange request", profile(config_exchange_request=False)),
    (
        PROFILE + "match fvrf any\n initial-contact force\n lifetime 120",
        profile(match_fvrf=None, initial_contact_force=True, lifetime=120),
    ),
    ("vrf definition WAN\n!\n" + PROFILE + "match fvrf WAN", profile(match_fvrf="WAN")),
    (PROFILE + "match fvrf any\n no match fvrf any", profile()),
    (POLICY + "banner ^C Hello all ^C", policy(banner="Hello all")),
    (POLICY + "banner #\nHello\n  all\n#", policy(banner="Hello all")),
    (POLICY + "banner #in one#", policy(banner="in one")),
    (
        POLICY + "netmask 255.255.254.0\n dns 192.0.2.1 2001:db8::1",
        policy(netmask=a("255.255.254.0"), dns=(a("192.0.2.1"), a("2001:db8::1"))),
    ),
    (POLICY + "route set interface", policy(route_set_interface="")),
    (
        POLICY + "route set interface lo7\n route set access-list R",
        policy(route_set_interface="Loopback7", route_set_acl=("R",)),
    ),
    (POLICY + "no route accept", policy(route_accept=RouteAccept(enabled=False))),
    (POLICY + "route accept any tag 9 distance 30", policy(route_accept=RouteAccept(tag=9, distance=30))),
    (IPSEC + "set transform-set A B\n set ikev2-profile Q R", ipsec(transform_sets=("A", "B"), ike_profile="Q R")),
    (
        IPSEC + "set pfs\n responder-only\n no set security-association esn",
        ipsec(pfs_group=19, responder_only=True, esn=False),
    ),
    (
        IPSEC + "set pfs group31\n set security-association lifetime days 2",
        ipsec(pfs_group=31, lifetime_seconds=172_800),
    ),
    (IPSEC + "set security-association lifetime kilobytes disable", ipsec(lifetime_kilobytes=0)),
    (IPSEC + "set security-association replay window-size 512", ipsec(replay_window=512)),
    (IPSEC + "set security-association replay disable", ipsec(replay_window=0)),
    ("crypto ipsec transform-set S esp-gcm", sets(cipher=Cipher.AES_GCM_128)),
    ("crypto ipsec transform-set S esp-gcm 128", sets(cipher=Cipher.AES_GCM_128)),
    ("crypto ipsec transform-set S esp-chacha20-poly1305", sets(cipher=Cipher.CHACHA20_POLY1305)),
    (
        "crypto ipsec transform-set S esp-sha384-hmac esp-aes 192\n mode tunnel",
        sets(cipher=Cipher.AES_CBC_192, integrity=Integrity.HMAC_SHA2_384_192, mode=EspMode.TUNNEL),
    ),
    ("crypto ipsec transform-set S esp-gcm\nno crypto ipsec transform-set S", Ikev2Config()),
    (
        POINT + "enrollment url http://192.0.2.1:80\n password\n revocation-check crl none",
        point(enrollment="url http://192.0.2.1:80", password="", revocation=("crl", "none")),
    ),
    (POINT + f"password {SECRET}", point(password=SECRET)),
    (POINT + "fingerprint e0afefd7 f08070ba b33c8297 c97e6457", point(fingerprint="E0AFEFD7F08070BAB33C8297C97E6457")),
    (
        POINT + "rsakeypair R1 2048\n ca file /etc/a b.pem\n key file k.pem",
        point(rsakeypair="R1 2048", ca_file="/etc/a b.pem", key_file="k.pem"),
    ),
    (
        "crypto pki certificate map M 20\n subject-name co ou = flex\n issuer-name nc x\n{}".format(
            "crypto pki certificate map M 10\n name eq y"
        ),
        Ikev2Config(
            certificate_maps={
                "M": CertificateMap(
                    "M",
                    {
                        10: (Condition("name", MatchRule.EQ, "y"),),
                        20: (
                            Condition("subject-name", MatchRule.CO, "ou = flex"),
                            Condition("issuer-name", MatchRule.NC, "x"),
                        ),
                    },
                )
            }
        ),
    ),
    (
        "crypto pki certificate map M 20\n name eq y\ncrypto pki certificate map M 10\nno crypto pki certificate map M",
        Ikev2Config(),
    ),
    (
        "crypto pki certificate chain T\n certificate 03\n certificate ca 01\n 30820122 0a0B\n CC\n quit\naaa new-model",
        Ikev2Config(
            certificate_chains={
                "T": CertificateChain("T", {("", "03"): b"", ("ca", "01"): bytes.fromhex("308201220A0BCC")})
            },
            aaa_new_model=True,
        ),
    ),
    ("ip local pool P 192.0.2.1 192.0.2.9", Ikev2Config(pools={"P": IpPool("P", a("192.0.2.1"), a("192.0.2.9"))})),
    ("ip local pool P 192.0.2.1", Ikev2Config(pools={"P": IpPool("P", a("192.0.2.1"), a("192.0.2.1"))})),
    ("ipv6 local pool P 2001:db8::/120 128", Ikev2Config(pools={"P": IpPool("P", a("2001:db8::"), a("2001:db8::ff"))})),
    ("ip local pool P 192.0.2.1\nno ip local pool P", Ikev2Config()),
    (
        "aaa new-model\naaa authorization network L local\naaa session-id common",
        Ikev2Config(aaa_lists={"L": "local"}, aaa_new_model=True),
    ),
    ("crypto ikev2 cookie-challenge 0", Ikev2Config(cookie_challenge=0)),
    ("no crypto ikev2 fragmentation", Ikev2Config(fragmentation_mtu=None)),
    ("crypto ikev2 fragmentation mtu 1400", Ikev2Config(fragmentation_mtu=1400)),
    ("crypto ikev2 limit max-sa 9\ncrypto ikev2 limit max-in-negotiation-sa 8", Ikev2Config(limits=Limits(9, 8))),
    ("crypto ikev2 limit max-in-negotation-sa 8", Ikev2Config(limits=Limits(0, 8))),
    (
        "crypto ikev2 dpd 30 5 periodic\nno crypto ikev2 nat keepalive",
        Ikev2Config(dpd=Dpd(30, 5, on_demand=False), nat_keepalive=0),
    ),
    ("crypto ikev2 allow sha1\ncrypto ikev2 window 1", Ikev2Config(sha1=True)),
    ("crypto ipsec security-association replay window-size 1024", Ikev2Config(replay_window=1024)),
    ("crypto ipsec security-association lifetime packets 5000", Ikev2Config(lifetime_packets=5000)),
]


@pytest.mark.parametrize(
    ("text", "meaning"), MEANINGS, ids=[text.strip().splitlines()[-1].strip() for text, _ in MEANINGS]
)
def test_a_line_means_and_prints_back(text, meaning):
    config = read(text, "r.cfg", table=TABLE).config
    assert config[Ikev2Config] == meaning
    printed = running_config(config, table=TABLE)
    assert read(printed, "r.cfg", table=TABLE).config == config
    assert running_config(read(printed, "r.cfg", table=TABLE).config, table=TABLE) == printed


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("crypto ikev2 proposal P\n encryption 3des", "3des is refused"),
        ("crypto ikev2 proposal P\n integrity md5", "md5 is refused"),
        ("crypto ikev2 proposal P\n group 2", "1024 bits"),
        ("crypto ikev2 proposal P\n group 24", "RFC 8247"),
        ("crypto ikev2 policy P\n match fvrf green", "for all VRFs"),
        ("crypto ikev2 window 5", "only a window of 1"),
        ("crypto ikev2 redirect gateway init", "RFC 5685"),
        ("crypto ikev2 client flexvpn F", "tunnel destination"),
        (KEYRING + "address 192.0.2.1 255.255.255.0", "bits outside its mask"),
        (PROFILE + "authentication local eap", "EAP"),
        (PROFILE + "ivrf green", "`vrf forwarding` there"),
        (PROFILE + "aaa authorization user cert list L", "AAA server"),
        (PROFILE + "identity local address nowhere", "neither an IPv4 nor an IPv6 address"),
        (PROFILE + "lifetime 60", "from 120 to 86400"),
        (POLICY + "banner hello", "one and the same sign"),
        (POLICY + "route set remote ipv4 192.0.2.0 255.255.255.0", "access list"),
        ("crypto ipsec transform-set S esp-des esp-sha-hmac", "broken"),
        ("crypto ipsec transform-set S esp-3des", "broken"),
        ("crypto ipsec transform-set S esp-aes esp-md5-hmac", "MD5"),
        ("crypto ipsec transform-set S ah-sha-hmac", "AH hides nothing"),
        ("crypto ipsec transform-set S esp-null esp-sha-hmac", "in clear"),
        ("crypto ipsec transform-set S esp-aes 256", "without integrity"),
        ("crypto ipsec transform-set S esp-gcm 256 esp-sha256-hmac", "stands alone"),
        ("crypto ipsec transform-set S esp-gcm 192", "128 and with 256"),
        (IPSEC + "set pfs group5", "1536 bits"),
        (IPSEC + "set security-association dummy seconds 5", "not in this release"),
        (IPSEC + "set security-association replay window-size 100", "one of 64, 128"),
        (IPSEC + "set isakmp-profile X", "IKEv1"),
        (POINT + "fingerprint 1234", "32, 40 or 64 digits"),
        (POINT + "revocation-check none crl", "nothing after `none`"),
        (POINT + "revocation-check ocsp", "OCSP"),
        ("crypto pki certificate chain T\n certificate 01\n  308", "even number"),
        ("crypto pki enroll T", "made by `labelspan pki`"),
        ("crypto isakmp policy 10", "RFC 9395"),
        ("crypto map M 10 ipsec-isakmp", "tunnel protection"),
        ("interface Ethernet0/0\n crypto map M", "tunnel protection"),
        ("ip local pool P 192.0.2.9 192.0.2.1", "ends before it begins"),
        ("ip local pool P 10.0.0.0 10.255.255.255", "at most 1048576"),
        ("ipv6 local pool P 2001:db8::/64 128", "/108"),
        ("ip local pool P 192.0.2.1\nipv6 local pool P 2001:db8::/120 128", "other address family"),
        ("aaa authorization network L group radius", "this node"),
    ],
)
def test_what_is_refused_says_why(text, why):
    assert why in fault(text)


@pytest.mark.parametrize(
    "text",
    [
        "pre-shared-key {}",
        "pre {}",
        "pre local {}",
        "crypto ikev2 keyring K\n pre-shared-key {}",
        KEYRING + "pre-shared-key 6 {}",
        KEYRING + "pre-shared-ky {}",
        PROFILE + "authentication local pre-share {}",
        PROFILE + "authentication local pre-share ky {}",
        PROFILE + "authentication locl pre-share key {}",
        PROFILE + "authentication remote pre-shared-key {}",
        "crypto isakmp key {} address 192.0.2.1",
        "crypto isakmp key 0 {} hostname x",
        "crypto pki trustpoint T\nhostname a b\npassword {}\ninterface lo0\n password {}",
    ],
)
def test_S03_a_faulty_line_never_shows_its_key(text):
    said = fault(text.format(SECRET, SECRET))
    assert SECRET not in said
    assert "*" * len(SECRET) in said


def test_S03_no_key_is_in_any_repr():
    config = read(
        KEYRING + f"pre-shared-key {SECRET}\n" + PROFILE + f"authentication local pre-share key {SECRET}\n"
        f" authentication remote pre-share key {SECRET}\n" + POINT + f"password {SECRET}\n",
        "r.cfg",
        table=TABLE,
    )
    assert SECRET not in repr(config)
    assert SECRET not in repr(config.config[Ikev2Config])
    assert running_config(config.config, table=TABLE).count(SECRET) == 4


def test_what_says_nothing_of_secrets_is_not_masked():
    said = fault(PROFILE + "authentication local rsa-sgi")
    assert "did you mean `rsa-sig`?" in said
    assert "*" not in said


def test_names_with_blanks_find_their_way_back():
    text = (
        'crypto ikev2 profile "A B"\n aaa authorization group cert list L "C D"\ncrypto ikev2 keyring A B\n peer X Y\n'
    )
    config = load(text)
    assert set(config.profiles) == set(config.keyrings) == {"A B"}
    assert config.profiles["A B"].aaa[0].policy == "C D"


def test_every_name_of_an_algorithm_is_known_to_the_suites():
    assert set(shared.ENCRYPTION) == set(ENCRYPTION)
    assert set(shared.HASHES) == set(INTEGRITY) == set(PRF)
    assert set(shared.GROUPS) == set(GROUPS)
    proposal = IkeProposal("P", shared.ENCRYPTION, shared.HASHES, shared.HASHES, shared.GROUPS)
    assert ike_proposals(proposal, sha1=True)
    assert set(CIPHER_WORDS) == set(Cipher)
    assert set(INTEGRITY_WORDS) == set(Integrity) - {Integrity.NONE}


def test_every_transform_set_that_can_be_written_can_be_offered():
    for cipher in Cipher:
        for integrity in [Integrity.NONE] if cipher.aead else list(INTEGRITY_WORDS):
            assert esp_proposals([TransformSet("S", cipher, integrity)], sha1=True)


def test_a_large_keyring_is_read_in_time():
    """Peers of one keyring are thousands at a hub."""
    text = "crypto ikev2 keyring K\n" + "".join(
        f" peer p{n}\n  address 10.{n >> 8}.{n & 255}.1\n  pre-shared-key {n}\n" for n in range(1500)
    )
    assert len(load(text).keyrings["K"].peers) == 1500


# --- any configuration -------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["default", "Blue", "two words", 'a "q"', "any", "local", "0", "no"]) | st.text(
    st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=8
)
WORDS = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)
TEXTS = WORDS | st.just("some words here")
KEYS = TEXTS | st.sampled_from(["local", "remote key", "0 6", "hex", "6", "key", "a  b"])
V4 = st.integers(0x0B000000, 0xDFFFFFFF).map(lambda n: n.to_bytes(4))
V6 = st.integers(0x2000 << 112, (0x4000 << 112) - 1).map(lambda n: n.to_bytes(16))
P4 = st.builds(Prefix.of, V4, st.integers(0, 32))
P6 = st.builds(Prefix.of, V6, st.integers(0, 128))
INTERFACES = st.sampled_from(["Loopback0", "Ethernet0/1.10", "Tunnel9", "eth0"])
DPDS = st.none() | st.builds(Dpd, st.integers(10, 3600), st.integers(2, 60), st.booleans())


def some(things, most=3):
    return st.lists(things, unique=True, max_size=most).map(tuple)


def named(kind, **fields):
    """Mapping of objects by their own names."""
    return st.lists(st.builds(kind, **fields), max_size=3).map(lambda all_: {one.name: one for one in all_})


NAMED = [IdentityKind.FQDN, IdentityKind.EMAIL]
IDENTITIES = st.one_of(
    st.builds(IdentityMatch, st.sampled_from(NAMED), WORDS.filter(lambda w: w != "domain"), st.booleans()),
    st.builds(IdentityMatch, st.just(IdentityKind.KEY_ID), NAMES),
    st.builds(lambda prefix: IdentityMatch(IdentityKind.ADDRESS, prefix=prefix), P4 | P6),
)
LOCAL = st.one_of(
    st.builds(IdentitySpec, st.sampled_from([IdentityKind.FQDN, IdentityKind.EMAIL]), WORDS),
    st.builds(IdentitySpec, st.just(IdentityKind.KEY_ID), NAMES),
    st.just(IdentitySpec(IdentityKind.DN)),
    st.just(IdentitySpec(IdentityKind.ADDRESS, "192.0.2.1")),
)
PEERS = st.builds(
    KeyringPeer,
    name=NAMES,
    prefix=st.none() | P4 | P6,
    identity=st.none() | IDENTITIES,
    local_key=st.just("") | KEYS,
    remote_key=st.just("") | KEYS,
    description=st.just("") | TEXTS,
)
AAA = st.builds(AaaAuthorization, st.just("cert"), WORDS, NAMES, st.booleans())


@st.composite
def profiles(draw):
    local = draw(st.none() | st.sampled_from(AuthMethod))
    remote = draw(some(st.sampled_from(AuthMethod)))
    points = draw(some(WORDS))
    use = [draw(st.sampled_from(["", "sign", "verify"])) for _ in points]
    return IkeProfile(
        name=draw(NAMES),
        match_remote=draw(some(IDENTITIES | st.just(IdentityMatch(IdentityKind.ANY)))),
        match_certificate=draw(some(NAMES)),
        match_local_address=draw(some(V4 | V6)),
        match_local_interface=draw(some(INTERFACES)),
        identity_local=draw(st.none() | LOCAL),
        auth_local=local,
        auth_remote=remote,
        local_key=draw(st.just("") | KEYS) if local is AuthMethod.PSK else "",
        remote_key=draw(st.just("") | KEYS) if AuthMethod.PSK in remote else "",
        keyring=draw(st.just("") | NAMES),
        trustpoints=points,
        sign_only=tuple(p for p, u in zip(points, use, strict=True) if u == "sign"),
        verify_only=tuple(p for p, u in zip(points, use, strict=True) if u == "verify"),
        dpd=draw(DPDS),
        aaa=draw(st.just(()) | AAA.map(lambda one: (one,))),
        virtual_template=draw(st.none() | st.integers(1, 4095)),
        lifetime=draw(st.integers(120, 86400)),
        nat_keepalive=draw(st.none() | st.integers(5, 3600)),
        config_exchange_request=draw(st.booleans()),
        config_exchange_set_send=draw(st.booleans()),
        config_exchange_set_accept=draw(st.booleans()),
        initial_contact_force=draw(st.booleans()),
        description=draw(st.just("") | TEXTS),
    )


POLICIES = st.builds(
    AuthorizationPolicy,
    name=NAMES,
    pool=st.just("") | NAMES,
    ipv6_pool=st.just("") | NAMES,
    netmask=st.sampled_from([b"", a("255.255.255.0"), a("255.255.255.255"), a("0.0.0.0")]),
    banner=st.just("") | st.sampled_from(["Welcome", "a ^C b", "#1 ^C", "two words"]),
    def_domain=st.just("") | WORDS,
    dns=some(V4 | V6, 2),
    wins=some(V4, 2),
    backup_gateways=some(WORDS),
    route_set_interface=st.none() | st.just("") | INTERFACES,
    route_set_acl=some(WORDS),
    route_accept=st.builds(RouteAccept, tag=st.integers(0, 9), distance=st.integers(1, 255))
    | st.just(RouteAccept(enabled=False)),
)


@st.composite
def transform_sets(draw):
    cipher = draw(st.sampled_from(Cipher))
    integrity = Integrity.NONE if cipher.aead else draw(st.sampled_from(list(INTEGRITY_WORDS)))
    return TransformSet(draw(WORDS), cipher, integrity, draw(st.sampled_from(EspMode)))


WINDOWS = st.sampled_from([0, 64, 128, 1024, 8192])
IPSECS = {
    "name": NAMES,
    "ike_profile": st.just("") | NAMES,
    "transform_sets": some(WORDS),
    "pfs_group": st.none() | st.sampled_from(sorted(GROUPS)),
    "lifetime_seconds": st.none() | st.integers(120, 2_592_000),
    "lifetime_kilobytes": st.none() | st.just(0) | st.integers(2560, 4_294_967_295),
    "lifetime_packets": st.none() | st.just(0) | st.integers(1000, 99_999),
    "replay_window": st.none() | WINDOWS,
    "esn": st.booleans(),
    "responder_only": st.booleans(),
    "description": st.just("") | TEXTS,
}
POINTS = {
    "name": NAMES,
    "ca_file": st.just("") | NAMES,
    "certificate_file": st.just("") | NAMES,
    "key_file": st.just("") | NAMES,
    "crl_file": st.just("") | NAMES,
    "subject_name": st.just("") | st.just("cn=a b,o=c"),
    "fingerprint": st.just("") | st.sampled_from(["AB" * 16, "0F" * 20, "12" * 32]),
    "revocation": st.sampled_from([("crl",), ("none",), ("crl", "none")]),
    "rsakeypair": st.just("") | st.just("R1 2048"),
    "eckeypair": st.just("") | st.just("E1"),
    "enrollment": st.sampled_from(["", "terminal", "selfsigned", "url http://192.0.2.1:80"]),
    "password": st.none() | st.just("") | TEXTS,
}
CONDITIONS = st.builds(
    Condition,
    st.sampled_from(["subject-name", "issuer-name", "name", "serial-number"]),
    st.sampled_from(MatchRule),
    TEXTS,
)
MAPS = st.builds(
    CertificateMap,
    name=WORDS,
    sequences=st.dictionaries(st.integers(1, 65535), some(CONDITIONS), min_size=1, max_size=3).map(
        lambda held: dict(sorted(held.items()))
    ),
)
CHAINS = st.builds(
    CertificateChain,
    trustpoint=NAMES,
    certificates=st.dictionaries(
        st.tuples(st.sampled_from(["", "ca", "self-signed"]), WORDS), st.binary(max_size=90), max_size=3
    ),
)


@st.composite
def pools(draw):
    name = draw(WORDS)
    if draw(st.booleans()):
        first = int.from_bytes(draw(V4))
        return IpPool(name, first.to_bytes(4), (first + draw(st.integers(0, 5000))).to_bytes(4))
    prefix = Prefix.of(draw(V6), draw(st.integers(108, 128)))
    last = int.from_bytes(prefix.network) + (1 << (128 - prefix.length)) - 1
    return IpPool(name, prefix.network, last.to_bytes(16))


def by_name(things):
    return st.lists(things, max_size=3).map(lambda held: {one.name: one for one in held})


@st.composite
def configs(draw):
    chains = draw(st.lists(CHAINS, max_size=2))
    held = draw(by_name(pools()))
    return Ikev2Config(
        proposals=draw(
            named(
                IkeProposal,
                name=NAMES,
                encryption=some(st.sampled_from(shared.ENCRYPTION)),
                integrity=some(st.sampled_from(shared.HASHES)),
                prf=some(st.sampled_from(shared.HASHES)),
                groups=some(st.sampled_from(shared.GROUPS)),
            )
        ),
        policies=draw(named(Policy, name=NAMES, proposals=some(NAMES), local_addresses=some(V4))),
        keyrings=draw(named(Keyring, name=NAMES, peers=by_name(PEERS))),
        profiles=draw(by_name(profiles())),
        authorization_policies=draw(by_name(POLICIES)),
        transform_sets=draw(by_name(transform_sets())),
        ipsec_profiles=draw(named(IpsecProfile, **IPSECS)),
        trustpoints=draw(named(Trustpoint, **POINTS)),
        certificate_maps=draw(by_name(MAPS)),
        certificate_chains={chain.trustpoint: chain for chain in chains},
        pools=dict(sorted(held.items(), key=lambda pair: len(pair[1].first))),
        aaa_lists=draw(st.dictionaries(WORDS, st.just("local"), max_size=2)),
        aaa_new_model=draw(st.booleans()),
        cookie_challenge=draw(st.none() | st.integers(0, 1000)),
        fragmentation_mtu=draw(st.none() | st.integers(68, 1500)),
        limits=draw(st.builds(Limits, st.just(0) | st.integers(1, 65535), st.integers(1, 65535))),
        dpd=draw(DPDS),
        nat_keepalive=draw(st.just(0) | st.integers(5, 3600)),
        lifetime_seconds=draw(st.integers(120, 2_592_000)),
        lifetime_kilobytes=draw(st.just(0) | st.integers(2560, 4_294_967_295)),
        lifetime_packets=draw(st.just(0) | st.integers(1000, 9999)),
        replay_window=draw(WINDOWS),
        sha1=draw(st.booleans()),
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(configs())
def test_any_configuration_prints_and_reads_back(ike):
    config = Config({Ikev2Config: ike})
    printed = running_config(config, table=TABLE)
    found = read(printed, "printed.cfg", table=TABLE).config
    assert found[Ikev2Config] == ike
    assert running_config(found, table=TABLE) == printed
    assert running_config(Draft.of(found).config(), table=TABLE) == printed
