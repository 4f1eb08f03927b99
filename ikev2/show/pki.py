"""`show crypto pki certificates`, `show crypto pki trustpoints`: what was loaded, and why something was not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from ikev2.engine.snapshot import SpeakerSnapshot, TrustpointSnapshot
from ikev2.show.words import date
from stack.addr import format_address
from stack.ios.command import CommandError, Shown

__all__ = ["certificates", "trustpoints"]

_PART = re.compile(r"(?<!\\),")


def _found(snapshot: SpeakerSnapshot, name: str) -> list[TrustpointSnapshot]:
    found = [one for one in snapshot.trustpoints if name in ("", one.name)]
    if name and not found:
        known = ", ".join(one.name for one in snapshot.trustpoints) or "none"
        raise CommandError(f"there is no trustpoint {name!r}; there are: {known}")
    return found


def _name(text: str, indent: str) -> Iterator[str]:
    """A distinguished name, one part a line, as IOS has it."""
    yield from (f"{indent}{part}" for part in _PART.split(text) if part)


def certificates(snapshot: SpeakerSnapshot, name: str = "") -> Shown:
    """`show crypto pki certificates [TRUSTPOINT]`: our own first, its chain, then those that are believed."""
    lines: list[str] = []
    value = []
    for point in _found(snapshot, name):
        if point.reason:
            lines += [f"% Trustpoint {point.name} could not be loaded: {point.reason}", ""]
        for own, one in [*((True, one) for one in point.own[:1]), *((False, one) for one in _others(point))]:
            lines += [*_certificate(point.name, one, snapshot.wall, own=own), ""]
            value.append({"trustpoint": point.name, "own": own, **certificate_value(one, snapshot.wall)})
    return Shown("\n".join(lines).rstrip("\n"), value)


def _others(point: TrustpointSnapshot) -> Iterable[Any]:
    return (*point.own[1:], *point.trusted)


def _status(one: Any, wall: float) -> str:
    if wall < one.not_before:
        return "NotYetValid"
    return "Expired" if wall > one.not_after else "Available"


def _certificate(point: str, one: Any, wall: float, *, own: bool) -> Iterator[str]:
    yield "Certificate" if own else "CA Certificate"
    yield f"  Status: {_status(one, wall)}"
    serial = f"{one.serial:X}"
    yield f"  Certificate Serial Number (hex): {serial.rjust(len(serial) + len(serial) % 2, '0')}"
    yield f"  Certificate Usage: {'Signature' if one.ca else 'General Purpose'}"
    yield "  Issuer: "
    yield from _name(one.issuer, "    ")
    yield "  Subject:"
    if own and one.dns:
        yield f"    Name: {one.dns[0]}"
    yield from _name(one.subject, "    ")
    yield "  Validity Date: "
    yield f"    start date: {date(one.not_before)}"
    yield f"    end   date: {date(one.not_after)}"
    yield f"  Associated Trustpoints: {point} "


def certificate_value(one: Any, wall: float) -> dict[str, Any]:
    return {
        "subject": one.subject,
        "issuer": one.issuer,
        "serial-number": f"{one.serial:X}",
        "ca": one.ca,
        "not-before": date(one.not_before),
        "not-after": date(one.not_after),
        "remaining-seconds": round(one.not_after - wall),
        "status": _status(one, wall),
        "sha256": one.digest.hex(),
        "alternative-names": [*one.dns, *one.email, *map(format_address, one.addresses)],
    }


def trustpoints(snapshot: SpeakerSnapshot, name: str = "") -> Shown:
    """`show crypto pki trustpoints [NAME]`."""
    lines: list[str] = []
    value = []
    for point in _found(snapshot, name):
        lines.append(f"Trustpoint {point.name}:")
        for one in point.trusted[:1]:
            serial = f"{one.serial:X}"
            lines += ["    Subject Name: ", *_name(one.subject, "    ")]
            lines.append(f"          Serial Number (hex): {serial.rjust(len(serial) + len(serial) % 2, '0')}")
        lines.append(f"    {_condition(point)}")
        lines.append(f"    Revocation check: {' '.join(point.revocation)}")
        lines.append("")
        value.append(
            {
                "name": point.name,
                "reason": point.reason,
                "revocation": list(point.revocation),
                "own": [certificate_value(one, snapshot.wall) for one in point.own],
                "trusted": [certificate_value(one, snapshot.wall) for one in point.trusted],
            }
        )
    return Shown("\n".join(lines).rstrip("\n"), value)


def _condition(point: TrustpointSnapshot) -> str:
    if point.reason:
        return f"Not configured: {point.reason}"
    return "Certificate configured." if point.own else "No certificate of ours."
