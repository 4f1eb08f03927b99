"""`show crypto ikev2 stats`, `show ip local pool`, and the figures for monitoring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ikev2.engine.snapshot import EspSnapshot, IkeStatus, PoolSnapshot, SpeakerSnapshot
from stack.addr import format_address
from stack.ios.command import CommandError, Shown
from stack.samples import Sample

__all__ = ["pools", "samples", "stats"]


def stats(snapshot: SpeakerSnapshot) -> Shown:
    """`show crypto ikev2 stats`: what IOS counts, then every counter by its name and every reason to drop."""
    admission, counters = snapshot.admission, snapshot.counters
    accepted, asked, failed = (counters.get(name, 0) for name in ("accepted", "initiated", "failed"))
    incoming = [ike for ike in snapshot.ikes if not ike.initiator]
    outgoing = [ike for ike in snapshot.ikes if ike.initiator]
    refused = sum(number for reason, number in admission.counters.items() if not reason.startswith("cookie"))
    line = "-" * 80
    most = admission.max_in_negotiation
    door = f"Half-open: {admission.half_open} from {admission.sources} addresses, cookies asked for above {admission.challenge}"
    lines = [
        line,
        "                          Crypto IKEv2 SA Statistics",
        line,
        f"System Resource Limit:   0        Max IKEv2 SAs: {admission.max_sa:<8} Max in nego(in/out): {most}/{most}",
        _three(
            "Total incoming IKEv2 SA Count:", len(incoming), "active", _up(incoming), "negotiating", _open(incoming)
        ),
        _three(
            "Total outgoing IKEv2 SA Count:", len(outgoing), "active", _up(outgoing), "negotiating", _open(outgoing)
        ),
        _three("Incoming IKEv2 Requests:", accepted + refused, "accepted", accepted, "rejected", refused),
        _three("Outgoing IKEv2 Requests:", asked, "accepted", max(0, asked - failed), "rejected", failed),
        _three(
            "Rejected IKEv2 Requests:", refused, "rsrc low", 0, "SA limit", admission.counters.get("too many SAs", 0)
        ),
        f"IKEv2 packets dropped at dispatch: {refused} ",
        "Incoming Requests dropped as LOW Q limit reached : 0",
        f"Incoming IKEV2 Cookie Challenged Requests: {admission.cookies_sent} ",
        f"    accepted: {admission.cookies_accepted:<8} rejected: {admission.cookies_refused:<8} rejected no cookie: 0 ",
        "Total Deleted sessions of Cert Revoked Peers: 0 ",
        "",
        door + (" (now)" if admission.challenging else ""),
    ]
    lines += [f"{number:>12}  {name}" for name, number in sorted(counters.items())]
    if admission.counters:
        lines += ["", f"{'Times':>12}  At the door"]
        lines += [f"{number:>12}  {name}" for name, number in sorted(admission.counters.items())]
    lines += _refused(snapshot)
    return Shown("\n".join(lines), _stats_value(snapshot))


def _refused(snapshot: SpeakerSnapshot) -> Iterator[str]:
    """Why peers were not let in, the newest first."""
    if snapshot.refusals:
        yield ""
        yield f"{'Times':>12}  {'Ago':>8}  Refused"
    for one in snapshot.refusals:
        who = f"{format_address(one.remote)} {one.identity}".strip() + (f" ({one.profile})" if one.profile else "")
        yield f"{one.count:>12}  {int(snapshot.now - one.last):>6} s  {'asked by us: ' if one.ours else ''}{who}: {one.reason}"


def _three(first: str, a: int, second: str, b: int, third: str, c: int) -> str:
    return f"{first} {a:<8} {second}: {b:<8} {third}: {c}"


def _up(ikes: list[Any]) -> int:
    return sum(ike.status is not IkeStatus.NEGOTIATING for ike in ikes)


def _open(ikes: list[Any]) -> int:
    return sum(ike.status is IkeStatus.NEGOTIATING for ike in ikes)


def _stats_value(snapshot: SpeakerSnapshot) -> dict[str, Any]:
    admission = snapshot.admission
    return {
        "ike-sas": len(snapshot.ikes),
        "ike-sas-up": _up(list(snapshot.ikes)),
        "child-sas": len(snapshot.children),
        "half-open": admission.half_open,
        "half-open-sources": admission.sources,
        "cookie-threshold": admission.challenge,
        "challenging": admission.challenging,
        "cookies-sent": admission.cookies_sent,
        "cookies-accepted": admission.cookies_accepted,
        "cookies-refused": admission.cookies_refused,
        "max-sa": admission.max_sa,
        "max-in-negotiation": admission.max_in_negotiation,
        "counters": dict(snapshot.counters),
        "refusals": dict(admission.counters),
        "refused": [
            {
                "remote-address": format_address(one.remote),
                "identity": one.identity,
                "profile": one.profile,
                "reason": one.reason,
                "initiator": one.ours,
                "count": one.count,
                "idle-seconds": round(snapshot.now - one.last, 3),
            }
            for one in snapshot.refusals
        ],
    }


# --- pools --------------------------------------------------------------------------------------------------------------


def pools(snapshot: SpeakerSnapshot, name: str = "", *, family: int = 4) -> Shown:
    """`show ip local pool [NAME]`, `show ipv6 local pool [NAME]` (family 16)."""
    found = [pool for pool in snapshot.pools if len(pool.first) == family]
    if name:
        known = ", ".join(pool.name for pool in found) or "none"
        found = [pool for pool in found if pool.name == name]
        if not found:
            raise CommandError(f"there is no pool {name!r}; there are: {known}")
    lines = [f" {'Pool':<24} {'Begin':<15} {'End':<15} {'Free':<5} {'In use':<7} Blocked"]
    for pool in found:
        first, last = format_address(pool.first), format_address(pool.last)
        lines.append(f" {pool.name:<24} {first:<15} {last:<15} {pool.free:>4} {pool.used:>7} {0:>7}")
        if name:
            lines += _leases(pool, snapshot.now)
    return Shown("\n".join(lines), [_pool(pool, snapshot.now) for pool in found])


def _leases(pool: PoolSnapshot, now: float) -> Iterator[str]:
    for title, wanted in (("Inuse addresses:", True), ("Remembered addresses:", False)):
        rows = [lease for lease in pool.leases if lease.in_use is wanted]
        if rows:
            yield title
        for lease in rows:
            yield f"   {format_address(lease.address):<15} {lease.identity}  {int(now - lease.since)} s"


def _pool(pool: PoolSnapshot, now: float) -> dict[str, Any]:
    return {
        "name": pool.name,
        "first": format_address(pool.first),
        "last": format_address(pool.last),
        "size": pool.size,
        "in-use": pool.used,
        "free": pool.free,
        "leases": [
            {
                "address": format_address(lease.address),
                "identity": lease.identity,
                "in-use": lease.in_use,
                "age-seconds": round(now - lease.since, 3),
            }
            for lease in pool.leases
        ],
    }


# --- figures for monitoring -----------------------------------------------------------------------------------------------


def samples(snapshot: SpeakerSnapshot) -> Iterator[Sample]:
    """SAs, handshakes, what was refused, leases; ESP's counters by interface. No identities: they are peers' words."""
    admission = snapshot.admission
    yield Sample("labelspan_ikev2_sas", _up(list(snapshot.ikes)), "IKE SAs that are established.")
    yield Sample("labelspan_ikev2_child_sas", len(snapshot.children), "CHILD_SAs.")
    yield Sample("labelspan_ikev2_half_open", admission.half_open, "IKE SAs of strangers under negotiation.")
    wanted = len(snapshot.wants)
    yield Sample("labelspan_ikev2_wanted", wanted, "Neighbours that must be protected.")
    protected = sum(want.up for want in snapshot.wants)
    yield Sample("labelspan_ikev2_protected", protected, "Neighbours that are.")
    yield Sample("labelspan_ikev2_virtual_access", len(snapshot.accesses), "Virtual access interfaces.")
    for name, number in snapshot.counters.items():
        labels = {"event": name.replace(" ", "_")}
        yield Sample("labelspan_ikev2_events_total", number, "What happened to IKE SAs.", labels, counter=True)
    for reason, number in admission.counters.items():
        labels = {"reason": reason.replace(" ", "_")}
        yield Sample("labelspan_ikev2_refusals_total", number, "Strangers, by what was done.", labels, counter=True)
    for pool in snapshot.pools:
        for state, number in (("used", pool.used), ("free", pool.free)):
            labels = {"pool": pool.name, "state": state}
            yield Sample("labelspan_ikev2_pool_addresses", number, "Addresses of pools.", labels)
    yield from _esp(snapshot)


_ESP = ("packets", "octets", "integrity_failures", "replays", "refused")


def _esp(snapshot: SpeakerSnapshot) -> Iterator[Sample]:
    """Of the SAs that there are now: a rekey begins anew, which Prometheus takes for a restart of the counter."""
    sums: dict[tuple[str, str], dict[str, int]] = {}
    for child in snapshot.children:
        for direction, one in (("in", child.inbound), ("out", child.outbound)):
            if one is not None:
                held = sums.setdefault((child.key.interface, direction), dict.fromkeys(_ESP, 0))
                for name in _ESP:
                    held[name] += _number(one, name)
    for (interface, direction), held in sums.items():
        for name, number in held.items():
            labels = {"interface": interface, "direction": direction}
            text = f"ESP by interface: {name.replace('_', ' ')}."
            yield Sample(f"labelspan_esp_{name}_total", number, text, labels, counter=True)


def _number(one: EspSnapshot, name: str) -> int:
    number: int = getattr(one, name)
    return number
