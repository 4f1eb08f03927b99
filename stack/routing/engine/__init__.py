"""Routing's state, without I/O: see `engine` for the whole, `resolver` for next hops."""

from stack.routing.engine.engine import READS, TURN, Engine, Log, Output, Publish
from stack.routing.engine.resolver import MAX_RECURSION, RECURSION, CandidateRef

__all__ = ["MAX_RECURSION", "READS", "RECURSION", "TURN", "CandidateRef", "Engine", "Log", "Output", "Publish"]
