"""What an operator sees of routing."""

from __future__ import annotations

from stack.ios.command import Command

__all__ = ["COMMANDS"]

COMMANDS: tuple[Command, ...] = ()
