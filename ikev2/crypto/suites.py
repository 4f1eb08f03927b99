"""Which algorithms there are, by the names of the configuration and by the numbers of the wire, and how two ends agree on them.

A proposal is a `ikev2.wire.payloads.Proposal`, ours as well as the peer's. What is not in the tables here cannot be offered,
chosen or accepted (RFC 8247, RFC 8221).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from itertools import groupby

from attrs import frozen

from ikev2.config import IkeProposal, TransformSet
from ikev2.wire.payloads import Proposal, Transform
from stack.esp import Cipher, Integrity

__all__ = [
    "DEFAULT_GROUPS",
    "ENCRYPTION",
    "ESP",
    "GROUPS",
    "IKE",
    "INTEGRITY",
    "PRF",
    "EspSuite",
    "IkeSuite",
    "Kind",
    "Mismatch",
    "Prf",
    "SuiteError",
    "accept_esp",
    "accept_ike",
    "choose_esp",
    "choose_ike",
    "default_ike_proposals",
    "esp_proposals",
    "group_names",
    "groups_of",
    "ike_proposals",
    "refused",
    "refused_name",
    "transform_name",
    "without_groups",
]

IKE, ESP = 1, 3
"""`Proposal.protocol`."""


class Kind:
    """`Transform.kind` (RFC 7296 3.3.2)."""

    ENCR, PRF, INTEG, GROUP, ESN = 1, 2, 3, 4, 5


class Prf(Enum):
    """(name, number on the wire, hash name, octets that it gives: also the length of its keys)."""

    HMAC_SHA1 = ("sha1", 2, "sha1", 20)
    HMAC_SHA2_256 = ("sha256", 5, "sha256", 32)
    HMAC_SHA2_384 = ("sha384", 6, "sha384", 48)
    HMAC_SHA2_512 = ("sha512", 7, "sha512", 64)

    def __init__(self, text: str, number: int, digest: str, size: int) -> None:
        self.text, self.number, self.digest, self.size = text, number, digest, size


_CIPHERS: Mapping[Transform, Cipher] = {
    Transform(Kind.ENCR, 20, 256): Cipher.AES_GCM_256,
    Transform(Kind.ENCR, 20, 128): Cipher.AES_GCM_128,
    Transform(Kind.ENCR, 28): Cipher.CHACHA20_POLY1305,  # RFC 7634 4: no key length attribute
    Transform(Kind.ENCR, 12, 256): Cipher.AES_CBC_256,
    Transform(Kind.ENCR, 12, 192): Cipher.AES_CBC_192,
    Transform(Kind.ENCR, 12, 128): Cipher.AES_CBC_128,
}
_INTEGRITY: Mapping[Transform, Integrity] = {
    Transform(Kind.INTEG, 2): Integrity.HMAC_SHA1_96,
    Transform(Kind.INTEG, 12): Integrity.HMAC_SHA2_256_128,
    Transform(Kind.INTEG, 13): Integrity.HMAC_SHA2_384_192,
    Transform(Kind.INTEG, 14): Integrity.HMAC_SHA2_512_256,
}
_PRFS: Mapping[Transform, Prf] = {Transform(Kind.PRF, prf.number): prf for prf in Prf}
_NO_INTEGRITY = Transform(Kind.INTEG, 0)
_NO_GROUP = Transform(Kind.GROUP, 0)
_ESN, _NO_ESN = Transform(Kind.ESN, 1), Transform(Kind.ESN, 0)

ENCRYPTION: Mapping[str, Transform] = {cipher.text: transform for transform, cipher in _CIPHERS.items()}
INTEGRITY: Mapping[str, Transform] = {
    "sha512": Transform(Kind.INTEG, 14),
    "sha384": Transform(Kind.INTEG, 13),
    "sha256": Transform(Kind.INTEG, 12),
    "sha1": Transform(Kind.INTEG, 2),
}
PRF: Mapping[str, Transform] = {prf.text: transform for transform, prf in reversed(list(_PRFS.items()))}
GROUPS: Mapping[int, str] = {
    31: "x25519",
    19: "ecp256",
    20: "ecp384",
    21: "ecp521",
    14: "modp2048",
    15: "modp3072",
    16: "modp4096",
}
"""Number -> name."""
DEFAULT_GROUPS: tuple[int, ...] = (31, 19, 20, 21, 14, 15, 16)

_INTEGRITY_TRANSFORM: Mapping[Integrity, Transform] = {integrity: number for number, integrity in _INTEGRITY.items()}
_CIPHER_TRANSFORM: Mapping[Cipher, Transform] = {cipher: number for number, cipher in _CIPHERS.items()}
_SHA1 = frozenset({PRF["sha1"], INTEGRITY["sha1"]})
_KNOWN = frozenset(
    {
        *_CIPHERS,
        *_PRFS,
        *_INTEGRITY,
        *(Transform(Kind.GROUP, group) for group in GROUPS),
        _ESN,
        _NO_ESN,
    }
)
"""Everything that can ever be agreed on, SHA-1 too."""
_DEFAULT_ENCRYPTION = ("aes-gcm-256", "aes-gcm-128", "aes-cbc-256", "aes-cbc-192", "aes-cbc-128")
_DEFAULT_INTEGRITY = ("sha512", "sha384", "sha256")

_WEAK: Mapping[tuple[int, int], str] = {
    (Kind.ENCR, 1): "DES is broken",
    (Kind.ENCR, 2): "DES is broken",
    (Kind.ENCR, 3): "3DES has blocks of 64 bits",
    (Kind.ENCR, 11): "NULL encryption hides nothing",
    (Kind.ENCR, 21): "NULL encryption hides nothing",
    (Kind.PRF, 1): "MD5 is broken",
    (Kind.INTEG, 0): "encryption without integrity",
    (Kind.INTEG, 1): "MD5 is broken",
    (Kind.GROUP, 0): "no Diffie-Hellman exchange",
    (Kind.GROUP, 1): "group 1 has 768 bits",
    (Kind.GROUP, 2): "group 2 has 1024 bits",
    (Kind.GROUP, 5): "group 5 has 1536 bits",
    (Kind.GROUP, 22): "group 22 has 1024 bits and a subgroup of 160",
}
_WEAK_NAMES: Mapping[str, str] = {
    "des": "DES is broken",
    "3des": "3DES has blocks of 64 bits",
    "null": "NULL encryption hides nothing",
    "md5": "MD5 is broken",
}
_SHA1_IS_OFF = "SHA-1 is off"


@frozen
class SuiteError(Exception):
    """A configuration that names what is not done here: which name, and why not."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@frozen
class Mismatch:
    """Two ends that do not agree. `kind`: the transform type (`Kind`) that they came no further than, 0: the form of the
    proposals."""

    reason: str
    kind: int = 0


@frozen
class IkeSuite:
    """What an IKE SA works with. `integrity` is NONE with an AEAD."""

    cipher: Cipher
    integrity: Integrity
    prf: Prf
    group: int

    @property
    def key_bits(self) -> int:
        return self.cipher.key * 8


@frozen
class EspSuite:
    """What a CHILD_SA works with. `group` 0: no exchange of its own (no PFS)."""

    cipher: Cipher
    integrity: Integrity = Integrity.NONE
    esn: bool = False
    group: int = 0

    @property
    def key_bits(self) -> int:
        return self.cipher.key * 8


# --- names ---------------------------------------------------------------------------------------------------------------


def transform_name(transform: Transform) -> str:
    """The configuration's name, or the numbers of a transform that has none."""
    kind, number, length = transform[:3]
    if cipher := _CIPHERS.get(transform):
        return cipher.text
    if prf := _PRFS.get(transform):
        return prf.text
    if integrity := _INTEGRITY.get(transform):
        return integrity.digest
    if kind == Kind.GROUP and number in GROUPS and not length:
        return f"group{number}"
    if kind == Kind.ESN and number in {0, 1}:
        return "esn" if number else "no-esn"
    what = {Kind.ENCR: "encryption", Kind.PRF: "prf", Kind.INTEG: "integrity", Kind.GROUP: "group"}.get(kind)
    return f"{what or f'type-{kind}'}-{number}" + (f"-{length}" if length else "")


def group_names(groups: Iterable[int]) -> str:
    """For people: `31 (x25519), 19 (ecp256)`."""
    return ", ".join(f"{group} ({GROUPS[group]})" if group in GROUPS else str(group) for group in groups)


def refused(transform: Transform, *, sha1: bool = False) -> str | None:
    """Why `transform` is never taken; None if it can be."""
    kind, number, length = transform[:3]
    if weak := _WEAK.get((kind, number)):
        return weak
    if transform.others:
        return "an attribute of it is unknown"
    if transform in _KNOWN:
        return _SHA1_IS_OFF if transform in _SHA1 and not sha1 else None
    if kind == Kind.ENCR and number in {12, 20, 28}:
        return f"a key of {length} bits is unknown"
    return "unknown"


def refused_name(kind: int, name: str | int, *, sha1: bool = False) -> str | None:
    """Why a name of the configuration is not taken as a transform of type `kind` (of groups the number); None if it is."""
    if kind == Kind.GROUP:
        try:
            return refused(Transform(kind, int(name)))
        except ValueError:
            return "unknown"
    known = {Kind.ENCR: ENCRYPTION, Kind.PRF: PRF, Kind.INTEG: INTEGRITY}.get(kind, {})
    transform = known.get(str(name))
    if transform is None:
        return _WEAK_NAMES.get(str(name), "unknown")
    return refused(transform, sha1=sha1)


# --- what we offer and take -----------------------------------------------------------------------------------------------


def ike_proposals(config: IkeProposal, sha1: bool = False) -> tuple[Proposal, ...]:
    """Best first, numbered from 1. Empty parts are filled by the smart defaults. Raises SuiteError.

    AEADs stand in proposals of their own, without integrity transforms: RFC 7296 3.3 has a proposal offer either kind, and
    "no integrity algorithm being the RECOMMENDED method" beside an AEAD.
    """
    encryption = config.encryption or _DEFAULT_ENCRYPTION
    integrity = config.integrity or (() if config.encryption else _DEFAULT_INTEGRITY)
    groups = config.groups or DEFAULT_GROUPS
    for kind, names in ((Kind.ENCR, encryption), (Kind.INTEG, integrity), (Kind.PRF, config.prf), (Kind.GROUP, groups)):
        for name in names:
            if why := refused_name(kind, name, sha1=sha1):
                raise SuiteError(f"group {name}" if kind == Kind.GROUP else str(name), why)
    proposals: list[Proposal] = []
    for aead, run in groupby((_CIPHERS[ENCRYPTION[name]] for name in encryption), lambda cipher: cipher.aead):
        ciphers = list(run)
        if not aead and not integrity:
            raise SuiteError(ciphers[0].text, "encryption without integrity")
        prfs = config.prf or _fitting_prfs(ciphers, aead, integrity)
        transforms = (
            *(_CIPHER_TRANSFORM[cipher] for cipher in ciphers),
            *(PRF[name] for name in prfs),
            *(() if aead else (INTEGRITY[name] for name in integrity)),
            *(Transform(Kind.GROUP, group) for group in groups),
        )
        proposals.append(Proposal(len(proposals) + 1, IKE, b"", tuple(dict.fromkeys(transforms))))
    return tuple(proposals)


def _fitting_prfs(ciphers: Iterable[Cipher], aead: bool, integrity: Sequence[str]) -> tuple[str, ...]:
    """RFC 8247 2.2: a PRF at least as strong as the keys it makes."""
    if not aead:
        return tuple(integrity)
    return tuple(dict.fromkeys("sha384" if cipher.key > 16 else "sha256" for cipher in ciphers))


def default_ike_proposals(sha1: bool = False) -> tuple[Proposal, ...]:
    """The smart default: AEADs first, then AES-CBC with HMAC-SHA2."""
    return ike_proposals(IkeProposal("default"), sha1)


def esp_proposals(
    transform_sets: Iterable[TransformSet], esn: bool = True, pfs_group: int | None = None, sha1: bool = False
) -> tuple[Proposal, ...]:
    """One proposal for each transform set, in their order, numbered from 1, without SPI. Raises SuiteError."""
    if pfs_group and (why := refused_name(Kind.GROUP, pfs_group)):
        raise SuiteError(f"group {pfs_group}", why)
    tail = (_ESN, _NO_ESN) if esn else (_NO_ESN,)
    if pfs_group:
        tail = (Transform(Kind.GROUP, pfs_group), *tail)
    proposals: dict[tuple[Transform, ...], Proposal] = {}
    for given in transform_sets:
        transforms: tuple[Transform, ...] = (_CIPHER_TRANSFORM[given.cipher],)
        if given.cipher.aead != (given.integrity is Integrity.NONE):
            aead = given.cipher.aead
            raise SuiteError(given.name, "an AEAD takes no integrity" if aead else "encryption without integrity")
        if not given.cipher.aead:
            transforms += (_INTEGRITY_TRANSFORM[given.integrity],)
            if why := refused(transforms[-1], sha1=sha1):
                raise SuiteError(given.name, why)
        proposals.setdefault(transforms, Proposal(len(proposals) + 1, ESP, b"", transforms + tail))
    return tuple(proposals.values())


def without_groups(proposals: Iterable[Proposal]) -> tuple[Proposal, ...]:
    """For IKE_AUTH, which exchanges no key for its CHILD_SA: RFC 7296 1.2 has its SA payloads hold no group but NONE, and says
    that one SHOULD leave out the transform altogether."""
    return tuple(
        Proposal(each.number, each.protocol, each.spi, tuple(t for t in each.transforms if t.kind != Kind.GROUP))
        for each in proposals
    )


def groups_of(proposals: Iterable[Proposal]) -> tuple[int, ...]:
    """The groups in `proposals`, in order, each once, without NONE."""
    found = (t.number for each in proposals for t in each.transforms if t.kind == Kind.GROUP and t.number)
    return tuple(dict.fromkeys(found))


# --- how the ends agree ---------------------------------------------------------------------------------------------------

REMEMBERED, MOST_REMEMBERED = 64, 32
"""Pairs of proposals whose outcome is remembered, and the transforms that one may have for that."""

_NEEDED = {IKE: (Kind.ENCR, Kind.PRF, Kind.INTEG, Kind.GROUP), ESP: (Kind.ENCR, Kind.INTEG, Kind.GROUP, Kind.ESN)}
_WHAT = {Kind.ENCR: "encryption", Kind.PRF: "PRF", Kind.INTEG: "integrity", Kind.GROUP: "group", Kind.ESN: "ESN"}


def choose_ike(
    configured: Sequence[Proposal], offered: Sequence[Proposal]
) -> tuple[int, Proposal, IkeSuite] | Mismatch:
    """A responder's choice for an IKE SA: (index in `offered`, what to answer, suite). The answer has the number and the SPI of
    what was offered. Our order decides, whatever the peer's is: the first of `configured` that any of `offered` meets, and of
    every type the first of ours that stands there."""
    found = _choose(configured, offered, IKE, groups=True)
    if isinstance(found, Mismatch):
        return found
    index, answer = found
    return index, answer, _ike_suite(answer.transforms)


def choose_esp(
    configured: Sequence[Proposal], offered: Sequence[Proposal], *, groups: bool = True
) -> tuple[int, Proposal, EspSuite] | Mismatch:
    """As `choose_ike`, for a CHILD_SA. `groups` False: of IKE_AUTH, groups on either side count for nothing."""
    found = _choose(configured, offered, ESP, groups=groups)
    if isinstance(found, Mismatch):
        return found
    index, answer = found
    return index, answer, _esp_suite(answer.transforms)


def accept_ike(configured: Sequence[Proposal], answered: Sequence[Proposal]) -> IkeSuite | Mismatch:
    """What a responder chose of `configured`, which we had offered with these very numbers."""
    answer = _accept(configured, answered, IKE, groups=True)
    return answer if isinstance(answer, Mismatch) else _ike_suite(answer)


def accept_esp(
    configured: Sequence[Proposal], answered: Sequence[Proposal], *, groups: bool = True
) -> EspSuite | Mismatch:
    """As `accept_ike`, for a CHILD_SA; `groups` False: we had offered them `without_groups`."""
    answer = _accept(configured, answered, ESP, groups=groups)
    return answer if isinstance(answer, Mismatch) else _esp_suite(answer)


def _choose(
    configured: Sequence[Proposal], offered: Sequence[Proposal], protocol: int, *, groups: bool
) -> tuple[int, Proposal] | Mismatch:
    best: Mismatch | None = None
    for own in configured:
        for index, theirs in enumerate(offered):
            if theirs.protocol != protocol or not theirs.transforms:
                continue
            found = _agree(own.transforms, theirs.transforms, protocol, groups)
            if not isinstance(found, Mismatch):
                return index, Proposal(theirs.number, protocol, theirs.spi, found)
            if best is None or _depth(found, protocol) > _depth(best, protocol):
                best = found
    if best is not None:
        return best
    return Mismatch("nothing is configured" if not configured else "no proposal for this protocol")


def _agree(
    own: tuple[Transform, ...], theirs: tuple[Transform, ...], protocol: int, groups: bool
) -> tuple[Transform, ...] | Mismatch:
    """Peers of one configuration offer the same, so the answer is mostly known. What is strange is not worth remembering."""
    if len(theirs) > MOST_REMEMBERED or any(each.others for each in theirs):
        return _agree_anew(own, theirs, protocol, groups)
    return _agree_again(own, theirs, protocol, groups)


def _agree_anew(
    own: tuple[Transform, ...], theirs: tuple[Transform, ...], protocol: int, groups: bool
) -> tuple[Transform, ...] | Mismatch:
    return _match(_by_kind(own, groups), _by_kind(theirs, groups), protocol)


_agree_again = lru_cache(maxsize=REMEMBERED)(_agree_anew)


def _depth(mismatch: Mismatch, protocol: int) -> int:
    needed = _NEEDED[protocol]
    return needed.index(mismatch.kind) if mismatch.kind in needed else -1


def _by_kind(transforms: Iterable[Transform], groups: bool) -> dict[int, list[Transform]]:
    kinds: dict[int, list[Transform]] = {}
    for transform in transforms:
        if groups or transform.kind != Kind.GROUP:
            kinds.setdefault(transform.kind, []).append(transform)
    return kinds


def _match(
    own: Mapping[int, list[Transform]], theirs: Mapping[int, list[Transform]], protocol: int
) -> tuple[Transform, ...] | Mismatch:
    """One transform of each type, in the order of `_NEEDED`. NONE is in the answer only if the peer has it written."""
    needed = _NEEDED[protocol]
    # RFC 7296 3.3.6: a proposal with a transform type that we do not know, or without a mandatory one, is unacceptable.
    if strange := theirs.keys() - set(needed):
        return Mismatch(f"transform type {min(strange)} in the proposal is not known here")
    last = Mismatch("no common encryption" + _only_weak(theirs, Kind.ENCR), Kind.ENCR)
    for encryption in own.get(Kind.ENCR, ()):
        cipher = _CIPHERS.get(encryption)
        if cipher is None or encryption not in theirs.get(Kind.ENCR, ()):
            continue
        answer = [encryption]
        for kind in needed[1:]:
            found = _pick(own.get(kind), theirs.get(kind), _absence(kind, protocol, cipher), kind)
            if found is None:
                last = Mismatch(f"no common {_WHAT[kind]}" + _only_weak(theirs, kind), kind)
                break
            if found in theirs.get(kind, ()):
                answer.append(found)
        else:
            return tuple(answer)
    return last


def _absence(kind: int, protocol: int, cipher: Cipher) -> Transform | None:
    """What it means if there is no transform of type `kind`; None: there must be one."""
    if kind == Kind.INTEG and cipher.aead:
        return _NO_INTEGRITY
    return _NO_GROUP if kind == Kind.GROUP and protocol == ESP else None


def _pick(
    own: list[Transform] | None, theirs: list[Transform] | None, absent: Transform | None, kind: int
) -> Transform | None:
    """The first of `own` that is in `theirs`, and that is never refused whoever configured it."""
    without = [absent] if absent else []
    if absent and kind == Kind.INTEG:
        own = without  # an AEAD goes with no integrity (RFC 5282 8), whatever stands in `own` for AES-CBC
    others = theirs or without
    return next((each for each in own or without if each in others and (each == absent or each in _KNOWN)), None)


def _only_weak(theirs: Mapping[int, list[Transform]], kind: int) -> str:
    """For the log: what the peer offers that is never taken."""
    weak = {why for each in theirs.get(kind, ()) if (why := _WEAK.get((each.kind, each.number)))}
    return f" ({'; '.join(sorted(weak))})" if weak else ""


def _accept(
    configured: Sequence[Proposal], answered: Sequence[Proposal], protocol: int, *, groups: bool
) -> tuple[Transform, ...] | Mismatch:
    if len(answered) != 1:
        return Mismatch(f"{len(answered)} proposals in the answer")
    answer = answered[0]
    own = next((each for each in configured if each.number == answer.number and each.protocol == protocol), None)
    if own is None or answer.protocol != protocol:
        return Mismatch("the answer names no proposal of ours")
    theirs = _by_kind(answer.transforms, groups=True)
    if not groups and theirs.pop(Kind.GROUP, [_NO_GROUP]) != [_NO_GROUP]:
        return Mismatch("a group in the answer where none was offered", Kind.GROUP)
    for kind, transforms in theirs.items():
        # RFC 7296 2.7: the responder chooses exactly one of each type.
        if len(transforms) != 1:
            return Mismatch(f"{len(transforms)} transforms of type {kind} in the answer", kind)
    return _match(_by_kind(own.transforms, groups), theirs, protocol)


@lru_cache(maxsize=REMEMBERED)
def _ike_suite(transforms: tuple[Transform, ...]) -> IkeSuite:
    of = {transform.kind: transform for transform in transforms}
    integrity = _INTEGRITY.get(of.get(Kind.INTEG, _NO_INTEGRITY), Integrity.NONE)
    return IkeSuite(_CIPHERS[of[Kind.ENCR]], integrity, _PRFS[of[Kind.PRF]], of[Kind.GROUP].number)


@lru_cache(maxsize=REMEMBERED)
def _esp_suite(transforms: tuple[Transform, ...]) -> EspSuite:
    of = {transform.kind: transform for transform in transforms}
    integrity = _INTEGRITY.get(of.get(Kind.INTEG, _NO_INTEGRITY), Integrity.NONE)
    group = of.get(Kind.GROUP, _NO_GROUP).number
    return EspSuite(_CIPHERS[of[Kind.ENCR]], integrity, of[Kind.ESN] == _ESN, group)
