"""The configuration as IOS text, printed from the rows that read it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from stack.config import Config, NodeConfig
from stack.ios.editor import PATH
from stack.ios.grammar import CONFIG, NO, RANK, Line, Sections, Values
from stack.ios.table import Table
from stack.policy.routemap import RouteMap

__all__ = ["route_map_text", "running_config"]


class Block(NamedTuple):
    """A printed line, the lines under it, and the line that closes them ('' if none)."""

    text: str
    path: str
    under: list[Block]
    closing: str = ""
    order: int = 0
    rank: int = 0


def running_config(config: Config, *, table: Table | None = None) -> str:
    """IOS text with IOS's indentation. Reading it again gives the same configuration.

    Secrets stand in it, as they do on a router.
    """
    table = table or Table.installed()
    blocks = list(_blocks(table, config, CONFIG, {}, ""))
    plain = _place_no_effect(blocks, config[NodeConfig].no_effect)
    if plain:
        blocks[1:1] = plain
    lines: list[str] = ["!"]
    before: Block | None = None
    for block in blocks:
        if before is not None and (before.under or before.closing or block.under or block.order != before.order):
            lines.append("!")
        lines += _lines(block, 0)
        before = block
    return "\n".join([*lines, "!", "end", ""])


def route_map_text(route_map: RouteMap) -> tuple[list[str], list[dict[str, Any]]]:
    """A route map as `show route-map` prints it, and the same as plain values."""
    from stack.ios.policy_lines import match_lines, set_lines

    lines: list[str] = []
    plain: list[dict[str, Any]] = []
    for sequence in route_map.sequences:
        action = "permit" if sequence.permit else "deny"
        matches = [text.removeprefix("match ") for text in match_lines(sequence)]
        sets = [text.removeprefix("set ") for text in set_lines(sequence)]
        lines.append(f"route-map {route_map.name}, {action}, sequence {sequence.number}")
        lines += ["  Match clauses:", *(f"    {text}" for text in matches)]
        lines += ["  Set clauses:", *(f"    {text}" for text in sets)]
        plain.append(
            {
                "name": route_map.name,
                "sequence": sequence.number,
                "action": action,
                "match": matches,
                "set": sets,
                "description": sequence.description,
            }
        )
    return lines, plain


def _blocks(table: Table, sections: Sections, mode: str, values: Values, path: str) -> Iterator[Block]:
    """What a mode prints: rows in order; neighbouring rows of one place, object by object."""
    for _, group in groupby(table.rows.get(mode, ()), key=lambda row: id(row.place) if row.place else id(row)):
        rows = [row for row in group if row.show is not None]
        if not rows:
            continue
        place = rows[0].place
        for key in place.keys(sections, values) if place else ({},):
            found = [block for row in rows for block in _row(table, sections, row, {**values, **key}, path)]
            yield from sorted(found, key=lambda block: (block.order, block.rank))


def _row(table: Table, sections: Sections, row: Line, values: Values, path: str) -> Iterator[Block]:
    assert row.show is not None
    for shown in row.show(sections, values):
        said = {**values, **shown}
        text = row.written(said)
        inside = f"{path}{PATH}{text}" if path else text
        under: list[Block] = []
        closing = ""
        if row.enters and not shown.get(NO):
            under = list(_blocks(table, sections, row.enters, said, inside))
            closing = table.closing(row.enters)
        yield Block(text, inside, under, closing, row.order, shown.get(RANK, 0))


def _place_no_effect(blocks: Iterable[Block], kept: Iterable[str]) -> list[Block]:
    """Put lines without effect back where they stood; those of the top are returned."""
    homes = {block.path: block for block in _all(blocks)}
    plain: list[Block] = []
    for text in kept:
        home, line = "", text
        at = text.find(PATH)
        while at >= 0:
            if text[:at] in homes:
                home, line = text[:at], text[at + len(PATH) :]
            at = text.find(PATH, at + 1)
        if home:
            under = homes[home].under
            simple = next((i for i, b in enumerate(under) if b.under or b.closing), len(under))
            under.insert(simple, Block(line, text, []))
        elif PATH not in text:
            plain.append(Block(line, text, [], "", -1))
    return plain


def _all(blocks: Iterable[Block]) -> Iterator[Block]:
    for block in blocks:
        yield block
        yield from _all(block.under)


def _lines(block: Block, depth: int) -> Iterator[str]:
    yield " " * depth + block.text
    for index, under in enumerate(block.under):
        if (under.under or under.closing) and index:
            yield " " * (depth + 1) + "!"
        yield from _lines(under, depth + 1)
    if block.closing:
        yield " " * depth + block.closing
