"""What a scenario wants done before its first node starts: words of the console command, and what their output gives."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from stack.lab.scenario import Scenario, ScenarioError

__all__ = ["filled", "prepare"]


def filled(text: str, prepared: Mapping[str, str]) -> str:
    """`text` with every `{name}` that was prepared filled in."""
    for name, value in prepared.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def prepare(scenario: Scenario, folder: Path, *, again: bool = True) -> dict[str, str]:
    """Do it, with `folder` for `{folder}`: name -> what stands for it in configurations. Without `again`, steps that nothing is
    taken from are left out: what they make is there already. Raises ScenarioError."""
    prepared = {"folder": str(folder)}
    for step in scenario.prepare:
        if not again and not step.take:
            continue
        words = [filled(word, prepared) for word in step.words]
        said = StringIO()
        with redirect_stdout(said):
            code = _do(words)
        if code:
            raise ScenarioError(f"`labelspan {' '.join(words)}` came to {code}: {said.getvalue().strip()}")
        for name, expression in step.take.items():
            found = re.search(expression, said.getvalue())
            if found is None:
                raise ScenarioError(f"`labelspan {' '.join(words)}` says nothing like {expression!r}")
            prepared[name] = found.group(1)
    return prepared


def _do(words: Sequence[str]) -> int:
    """One of the words that packages bring to the console command (`pki`, ...), as if it had been typed. Its exit code."""
    from stack.registry import load_specs

    brought = {word.name: word for spec in load_specs() for word in spec.words}
    name, *rest = words
    if name not in brought:
        raise ScenarioError(f"`labelspan {name}`: no package brings it; there are: {', '.join(sorted(brought))}")
    parser = ArgumentParser(prog=f"labelspan {name}")
    brought[name].add(parser)
    return brought[name].run(parser.parse_args(rest))
