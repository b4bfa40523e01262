"""A cause of another package: a checkpoint whose training was never named an epoch."""

from __future__ import annotations

from workbench.diagnosis import Cause, RuledOut


class NoEpoch(Cause):
    """The checkpoint states no epoch."""

    name, group, level, needs = "no epoch is stated", "file", "files", ("checkpoint",)
    refuted_by = "a file that states its epoch"

    def test(self, case):
        epoch = case.checkpoint().epoch
        if epoch is not None:
            return RuledOut(f"the file is of epoch {epoch}")
        return self.found(
            "the file states no epoch", fix="save it together with its epoch", severity="warning"
        )


CAUSES = (NoEpoch(),)
