"""What a scenario wants done before its first node starts: words of the console command, and what their output gives."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    from stack.cli import main

    prepared = {"folder": str(folder)}
    for step in scenario.prepare:
        if not again and not step.take:
            continue
        words = [filled(word, prepared) for word in step.words]
        said = StringIO()
        with redirect_stdout(said):
            code = main(words)
        if code:
            raise ScenarioError(f"`labelspan {' '.join(words)}` came to {code}: {said.getvalue().strip()}")
        for name, expression in step.take.items():
            found = re.search(expression, said.getvalue())
            if found is None:
                raise ScenarioError(f"`labelspan {' '.join(words)}` says nothing like {expression!r}")
            prepared[name] = found.group(1)
    return prepared
