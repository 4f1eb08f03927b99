"""The IOS lines of package ikev2: rows of the one grammar table."""

from __future__ import annotations

from ikev2.lines.aaa import AAA_LINES
from ikev2.lines.ike import IKE_LINES
from ikev2.lines.ipsec import IPSEC_LINES
from ikev2.lines.keyring import KEYRING_LINES
from ikev2.lines.pki import PKI_LINES
from ikev2.lines.policy import POLICY_LINES
from ikev2.lines.profile import PROFILE_LINES
from stack.ios.grammar import Line

__all__ = ["LINES"]

LINES: tuple[Line, ...] = (
    *AAA_LINES,
    *PKI_LINES,
    *POLICY_LINES,
    *IKE_LINES,
    *KEYRING_LINES,
    *PROFILE_LINES,
    *IPSEC_LINES,
)
"""The rows of package ikev2."""
