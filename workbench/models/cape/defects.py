"""Which known defects of published CAPE code are switched on, so that each can be seen in the rollout lab?

Source: the history of nkkrnkl/category-agnostic-pose-estimation, where each stood for a while.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Defects:
    """All off by default.

    Attributes:
        support_mask_inverted: the support encoder ignores what it should read: an all-visible support
            leaves features of exactly 0, whatever its pose.
        support_discarded: the support is encoded and the result thrown away.
        pck_in_input_pixels: the logged PCK measures distances in pixels of the resized input, the
            threshold in pixels of the original box.
        logged_loss_scaled: the logged coordinate loss still carries the factor 5 it is weighted with.
    """

    support_mask_inverted: bool = False
    support_discarded: bool = False
    pck_in_input_pixels: bool = False
    logged_loss_scaled: bool = False

    def names(self) -> tuple[str, ...]:
        """Those that are on."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name))
