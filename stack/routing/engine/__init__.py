"""Routing's state, without I/O: see `engine` for the whole, `resolver` for next hops."""

from stack.routing.engine.engine import READS, TURN, Engine, Log, Output, Publish
from stack.routing.engine.resolver import MAX_RECURSION, RECURSION

__all__ = ["MAX_RECURSION", "READS", "RECURSION", "TURN", "Engine", "Log", "Output", "Publish"]
