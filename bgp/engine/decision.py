"""The decision process (RFC 4271 9.1, RFC 4456 9), with a typed reason for every path that is not chosen.

Steps are eliminations, as RFC 4271 9.1.2.2 has them, so the result does not depend on the order of arrival, with one
exception that is meant: of external paths that are equal down to the metric, the current best or else the oldest stays
(RFC 5004 3), which spares the network needless change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from bgp.engine.paths import Path, Reason

__all__ = ["Verdict", "explain", "select", "select_closed"]

Keep = Callable[[Sequence[Path], Path | None], Sequence[Path]]


class Verdict(NamedTuple):
    """Why a path is not the best (None: it is). `detail` says more where there is more to say."""

    path: Path
    reason: Reason | None
    detail: str = ""


def _least(value: Callable[[Path], object]) -> Keep:
    def keep(paths: Sequence[Path], _current: Path | None) -> Sequence[Path]:
        values = [value(path) for path in paths]
        least = min(values)  # type: ignore[type-var]  # every step's values are of one comparable type
        return [path for path, one in zip(paths, values, strict=True) if one == least]

    return keep


def _lowest_med(paths: Sequence[Path], _current: Path | None) -> Sequence[Path]:
    """Only among paths from the same neighbouring AS. Those without one (from our own AS) are such a group too."""
    lowest: dict[int | None, int] = {}
    for path in paths:
        group, med = path.set.neighbour_as, path.set.med
        lowest[group] = min(med, lowest.get(group, med))
    return [path for path in paths if path.set.med == lowest[path.set.neighbour_as]]


def _oldest_external(paths: Sequence[Path], current: Path | None) -> Sequence[Path]:
    if not all(path.set.source.external for path in paths):
        return paths
    return [next((path for path in paths if path is current), paths[0])]


_STEPS: tuple[tuple[Reason, Keep], ...] = (
    (Reason.WEIGHT, _least(lambda path: path.set.rank.weight)),
    (Reason.LOCAL_PREF, _least(lambda path: path.set.rank.local_pref)),
    (Reason.NOT_LOCAL, _least(lambda path: path.set.rank.not_local)),
    (Reason.AS_PATH_LENGTH, _least(lambda path: path.set.rank.as_path)),
    (Reason.ORIGIN, _least(lambda path: path.set.rank.origin)),
    (Reason.MED, _lowest_med),
    (Reason.INTERNAL, _least(lambda path: not path.set.source.external)),
    (Reason.IGP_METRIC, _least(lambda path: path.set.hop.metric)),
    (Reason.NEWER, _oldest_external),
    (Reason.ROUTER_ID, _least(lambda path: path.set.router_id)),
    (Reason.CLUSTER_LENGTH, _least(lambda path: len(path.set.attributes.cluster_list))),
    (Reason.NEIGHBOUR, _least(lambda path: path.set.source.address)),
    (Reason.PATH_ID, _least(lambda path: (path.nlri.path_id, path.nlri.key))),
)
_FIRST, _AFTER_RANK = _least(lambda path: path.set.rank), _STEPS[5:]


def select(paths: Sequence[Path], current: Path | None = None) -> Path | None:
    """The best of `paths` (oldest first), or None if none can be used. `current` is the best so far."""
    return _best([path for path in paths if path.set.refused is None and path.set.hop.usable], current)


def select_closed(paths: Sequence[Path], current: Path | None = None) -> Path | None:
    """The best of those that lead into protected tunnels that cannot be sent to: for when `select` finds none."""
    return _best([path for path in paths if path.set.refused is None and path.set.hop.closed], current)


def _best(live: Sequence[Path], current: Path | None) -> Path | None:
    if not live:
        return None
    if len(live) > 1:
        live = _FIRST(live, current)  # the first five steps at once: a least tuple is least step by step
        for _, keep in _AFTER_RANK:
            if len(live) == 1:
                break
            live = keep(live, current)
    return live[0]


def explain(paths: Sequence[Path], current: Path | None = None) -> list[Verdict]:
    """A verdict for each of `paths`, in their order."""
    found: dict[int, Verdict] = {}
    live: Sequence[Path] = []
    for path in paths:
        refusal = unusable(path)
        if refusal is None:
            live = [*live, path]
        else:
            found[id(path)] = refusal
    for reason, keep in _STEPS:
        if len(live) < 2:
            break
        kept = keep(live, current)
        found |= {id(path): Verdict(path, reason) for path in _without(live, kept)}
        live = kept
    return [found.get(id(path)) or Verdict(path, None) for path in paths]


def _without(paths: Sequence[Path], kept: Sequence[Path]) -> Iterator[Path]:
    stays = set(map(id, kept))
    return (path for path in paths if id(path) not in stays)


def unusable(path: Path) -> Verdict | None:
    """Why `path` cannot even compete, or None if it can."""
    one = path.set
    if one.refused is not None:
        return Verdict(path, one.refused, one.detail)
    return None if one.hop.usable else Verdict(path, Reason.NEXT_HOP, one.hop.why)
