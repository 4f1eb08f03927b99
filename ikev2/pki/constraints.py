"""Name constraints (RFC 5280 4.2.1.10): what a CA may certify."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TypeVar

from ikev2.pki.certificate import Constraints, ParsedCertificate
from ikev2.pki.errors import CertificateError
from ikev2.pki.names import rdn_keys, values_of, within

__all__ = ["check_constraints"]

_Name = TypeVar("_Name")
_Tree = TypeVar("_Tree")


def check_constraints(path: Sequence[ParsedCertificate]) -> None:
    """`path`: the peer's own certificate first, the anchor last, which may constrain too. Raises CertificateError."""
    for place in range(1, len(path)):
        constraints = path[place].constraints
        if constraints is None:
            continue
        _known(constraints, path[place])
        for below in range(place):
            # 6.1.3 (b): a CA that issued itself a new key is exempt, the peer's own certificate never is.
            if below == 0 or not path[below].self_issued:
                _check(path[below], constraints, path[place])


def _known(constraints: Constraints, issuer: ParsedCertificate) -> None:
    strange = constraints.permitted.other | constraints.excluded.other
    if strange and constraints.critical:
        raise CertificateError(f"{issuer.subject} constrains names of a kind that is not known here: {min(strange)}")


def _check(one: ParsedCertificate, constraints: Constraints, issuer: ParsedCertificate) -> None:
    permitted, excluded = constraints.permitted, constraints.excluded
    kinds = {kind for kind, _ in one.others} & (permitted.other | excluded.other)
    if kinds:
        raise CertificateError(
            f"{issuer.subject} constrains a name of {one.subject} of a kind that is not known here: {min(kinds)}"
        )
    subject = [one.subject_keys] if one.subject_keys else []
    # Common names count as host names only where they can serve as such; the subject's e-mail addresses if there is no
    # other.
    emails = one.email or values_of(one.cert.subject, "e")
    _judge(one.host_names, permitted.dns, excluded.dns, _dns_within, one, issuer)
    _judge(emails, permitted.email, excluded.email, _email_within, one, issuer)
    _judge(one.addresses, permitted.networks, excluded.networks, _address_within, one, issuer)
    _judge([*subject, *map(rdn_keys, one.names)], permitted.names, excluded.names, within, one, issuer)


def _judge(
    names: Iterable[_Name],
    permitted: Sequence[_Tree],
    excluded: Sequence[_Tree],
    inside: Callable[[_Name, _Tree], bool],
    one: ParsedCertificate,
    issuer: ParsedCertificate,
) -> None:
    for name in names:
        allowed = not permitted or any(inside(name, tree) for tree in permitted)
        if not allowed or any(inside(name, tree) for tree in excluded):
            raise CertificateError(f"{issuer.subject} may not certify a name of {one.subject} (nameConstraints)")


def _dns_within(name: str, tree: str) -> bool:
    """`example.com` takes itself and all below it; `.example.com`, as many CAs write, only what is below."""
    name, tree = name.casefold().rstrip("."), tree.casefold().rstrip(".")
    if not tree or tree.startswith("."):
        return name.endswith(tree)
    return name == tree or name.endswith("." + tree)


def _email_within(name: str, tree: str) -> bool:
    """`user@host`: that mailbox; `host`: all of exactly that host; `.domain`: all of every host below."""
    name, tree = name.casefold(), tree.casefold()
    if "@" in tree:
        return name == tree
    host = name.rpartition("@")[2]
    return host.endswith(tree) if tree.startswith(".") else host == tree


def _address_within(octets: bytes, network: IPv4Network | IPv6Network) -> bool:
    return ip_address(octets) in network
