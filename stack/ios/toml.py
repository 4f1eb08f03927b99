"""TOML in, the typed configuration out, by the same grammar as IOS-style text: keys are lines, tables are modes.

```toml
hostname = "PE1"

["vrf definition Customer A"]
rd = "65000:1"
"route-target both" = "65000:1"
"address-family ipv4" = {}

["interface Loopback0"]
"ip address" = "192.0.2.1 255.255.255.255"

["router bgp 65000"]
"neighbor 192.0.2.2" = ["remote-as 65000", "update-source Loopback0"]
["router bgp 65000"."address-family vpnv4"]
"neighbor 192.0.2.2" = ["activate", "route-map OVER-THE-CORE in"]
```

A value completes its line; several values are several lines; `true` is the line as it stands, `false` its `no`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import evolve

from stack.ios.faults import ConfigError, Fault
from stack.ios.reader import Reading, read

__all__ = ["read_toml"]

MAX_DEPTH = 8
"""Tables inside of tables."""


def read_toml(text: str, source: str = "<text>", specs: Iterable[Any] | None = None) -> Reading:
    """Read a whole configuration; `specs` as of stack.ios.reader.read. Raises ConfigError, whose faults name the line of the
    TOML text that the key stands in."""
    try:
        tables = tomllib.loads(text)
        lines = list(_lines(tables, (), 0))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((_no_toml(text, source, str(error)),)) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError((_no_toml(text, source, str(error)),)) from None
    numbers = _numbers(text, [key for _, key in lines])
    try:
        return read("\n".join(line for line, _ in lines), source, specs).renumbered(numbers)
    except ConfigError as error:
        raise ConfigError(tuple(_moved(fault, numbers) for fault in error.faults)) from None


def _lines(table: Mapping[str, Any], path: tuple[str, ...], depth: int) -> Iterator[tuple[str, str]]:
    """The text's lines, and the key that each comes from."""
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} tables, one inside of the other: {' / '.join(path)}")
    indent = " " * depth
    for key, value in table.items():
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, Mapping):
                yield f"{indent}{key}", key
                yield from _lines(one, (*path, key), depth + 1)
                yield f"{indent} exit", key
            elif isinstance(one, bool):
                yield f"{indent}{'' if one else 'no '}{key}", key
            elif isinstance(one, str | int | float):
                if "\n" in str(one):
                    raise ValueError(f"the value of {key!r} has more than one line")
                yield f"{indent}{key} {one}".rstrip(), key
            else:
                raise TypeError(f"the value of {key!r} is neither text, a number, true, false, a list nor a table")


def _numbers(text: str, keys: list[str]) -> list[int]:
    """Where each key stands: the next line that names it, else the first one. TOML's tables keep the order of the text."""
    rows = text.split("\n")
    found, at = [], 0
    for key in keys:
        places = (*range(at, len(rows)), *range(at))
        at = next((i for i in places if key in rows[i]), at)
        found.append(at + 1)
    return found


def _moved(fault: Fault, numbers: list[int]) -> Fault:
    def place(number: int) -> int:
        return numbers[number - 1] if 0 < number <= len(numbers) else number

    return evolve(fault, number=place(fault.number), also=tuple(sorted({place(n) for n in fault.also})))


def _no_toml(text: str, source: str, why: str) -> Fault:
    """tomllib says where in its words: `... (at line 3, column 7)`."""
    words, _, where = why.rpartition(" (at line ")
    number, _, column = where.rstrip(")").partition(", column ")
    row = int(number) if number.isdigit() else 1
    at = max(0, int(column) - 1) if column.isdigit() else 0
    rows = text.split("\n")
    line = rows[row - 1] if row <= len(rows) else ""
    return Fault(source, row, "config", "", line, at, 1, words or why, ("TOML",))
