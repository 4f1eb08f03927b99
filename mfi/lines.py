"""The IOS lines of package mfi: rows of the one grammar table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import evolve

from mfi.config import MfiConfig
from stack.addr import FIRST_UNRESERVED_LABEL, LAST_LABEL
from stack.ios.grammar import CONFIG, Claim, Line, Place, Refusal, Sections, Values, section, setting, value

__all__ = ["CHECKS", "LINES"]

_MFI: Place[MfiConfig] = section(MfiConfig)
_LABEL = f"int:{FIRST_UNRESERVED_LABEL}-{LAST_LABEL}"


def _put_range(mfi: MfiConfig, values: Values) -> MfiConfig:
    first, last = values["first"], values["last"]
    static_first, static_last = values.get("static_first", 0), values.get("static_last", 0)
    if first > last:
        raise Refusal("the range ends before it begins", "last")
    if static_first > static_last:
        raise Refusal("the range ends before it begins", "static_last")
    if static_last and static_first <= last and first <= static_last:
        raise Refusal("static and dynamic labels must not overlap", "static_first")
    return evolve(mfi, first=first, last=last, static_first=static_first, static_last=static_last)


def _show_range(mfi: MfiConfig) -> Iterable[Values]:
    usual = MfiConfig()
    held = (mfi.first, mfi.last, mfi.static_first, mfi.static_last)
    if held != (usual.first, usual.last, usual.static_first, usual.static_last):
        yield {
            "first": mfi.first,
            "last": mfi.last,
            "static_first": mfi.static_first or None,
            "static_last": mfi.static_last or None,
        }


LINES: tuple[Line, ...] = (
    setting(
        CONFIG,
        f"mpls label range {{first:{_LABEL}}} {{last:{_LABEL}}} [static {{static_first:{_LABEL}}} {{static_last:{_LABEL}}}]",
        _MFI,
        _put_range,
        show=_show_range,
        remove=lambda mfi, _values: evolve(MfiConfig(), quarantine=mfi.quarantine),
        help="labels to give out; static: labels kept for static bindings",
        order=30,
    ),
    value(
        CONFIG,
        "mpls label quarantine {seconds:seconds}",
        _MFI,
        "quarantine",
        "seconds",
        help="how long a freed label is not given out again, in seconds",
        order=30,
    ),
)
"""The rows of package mfi."""


def check_mfi(config: Sections) -> Iterator[Claim]:
    """Which labels are kept for static bindings, for whoever makes some."""
    mfi = config[MfiConfig]
    if mfi.static_last:
        yield Claim("static-labels", "range", "", (mfi.static_first, mfi.static_last))


CHECKS = (check_mfi,)
