"""MFI's state, without I/O."""

from mfi.engine.lib import Binding, Engine, Publish, Use, fec_text, nhlfe_of
from mfi.engine.pool import Pool

__all__ = ["Binding", "Engine", "Pool", "Publish", "Use", "fec_text", "nhlfe_of"]
