"""Needs: what an inspector, a page or a verb reads of a model, and the sentence that says what is missing.

    needs = Needs(capability=RollsOut, truth=True)
    sentence = needs.unmet(model, truth=False)   # "" if all is there

One declaration serves the command line, the app and the contract tests.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.core.capabilities import (
    Conditioned,
    Groups,
    HasAttention,
    PlacesMaps,
    RollsOut,
    TakesSupport,
)
from workbench.core.errors import NotAvailable

if TYPE_CHECKING:
    from workbench.core.model import PoseModel
    from workbench.core.outputs import Outputs
    from workbench.core.run import Run

OUTPUT_NAMES: Mapping[str, str] = {"simcc": "SimCC vectors", "fields": "vector fields"}
"""Field of Outputs -> its name in sentences, where that is another word."""

ABSENT: Mapping[type, str] = {
    Groups: "tags: this model gives no tags and no grouping: it sees one box at a time; expected a bottom-up "
    "model, which finds all people of an image",
    PlacesMaps: "maps: this model groups people, but does not state where its maps lie in the image (scales, "
    "main_scale, tag_size, place, pass_named); expected a workbench.models.bottom_up.BottomUp",
    RollsOut: "rollout: this model finds all keypoints at once; expected a sequence model",
    TakesSupport: "support: this model takes no support example; expected a category-agnostic model, "
    "which finds the keypoints of an annotated example image",
    HasAttention: "attention: this model has no self-attention over patches whose weights can be read; "
    "expected a vision transformer such as ViTPose",
    Conditioned: "conditioning: no condition (text, class) is declared for this model; expected "
    "the workbench's text fusion modules, a --config with code of your own (custom_imports), an --adapter "
    "whose model has the capability Conditioned, or --film-tap with the name of the layer that outputs γ and "
    "β (see README)",
}
"""Capability -> what is said of a model without it."""


@dataclass(frozen=True)
class Needs:
    """What is read of a model; the default reads only what every model has.

    Attributes:
        outputs: fields of Outputs of which one is enough: ``("heatmaps", "simcc")``; () for any.
        capability: what the model must be able to do, a Protocol of workbench.core.capabilities, or several
            of which one is enough; None for nothing beyond PoseModel.
        codec: the model must state how coordinates are encoded in its output.
        truth: the samples must be annotated.
    """

    outputs: tuple[str, ...] = ()
    capability: type | tuple[type, ...] | None = None
    codec: bool = False
    truth: bool = False

    @property
    def capabilities(self) -> tuple[type, ...]:
        """The capabilities of which one is enough."""
        if self.capability is None:
            return ()
        return self.capability if isinstance(self.capability, tuple) else (self.capability,)

    def unmet(self, model: PoseModel, outputs: Outputs | None = None, truth: bool = True) -> str:
        """The sentence that says why a model cannot be asked; "" where it can.

        Args:
            model: any.
            outputs: of a forward pass; without them the model's codec decides between heatmaps and SimCC
                vectors, and all others count as present.
            truth: whether the samples are annotated.
        """
        given = _stated_outputs(model, self.outputs) if outputs is None else outputs.given()
        if self.outputs and not set(self.outputs) & set(given):
            return absent_output(self.outputs, given)
        if self.capabilities and not isinstance(model, self.capabilities):
            return absent_capability(self.capabilities[0])
        if self.codec and model.codec is None:
            return "codec: this family declares none, so no target can be drawn"
        if self.truth and not truth:
            return "truth: no annotation for these samples; give a data set with annotations"
        return ""

    def unmet_in(self, run: Run) -> str:
        """The same of a finished run: its model, its outputs, its samples."""
        return self.unmet(run.model, run.outputs, all(s.truth is not None for s in run.samples))

    def met_by_names(self, capabilities: Collection[str]) -> bool:
        """Whether a file whose models have the named capabilities can be asked, before one is built.

        Args:
            capabilities: names such as ``Groups``, as workbench.checkpoints.identity.Identity holds them.
        """
        return not self.capabilities or any(kind.__name__ in capabilities for kind in self.capabilities)

    def check(self, model: PoseModel, truth: bool = True) -> None:
        """Raise if a model cannot be asked.

        Raises:
            NotAvailable: with the sentence of `unmet`.
        """
        if sentence := self.unmet(model, truth=truth):
            raise NotAvailable(sentence)


ANY_MODEL = Needs()
"""Of an inspector that can be asked about every model."""


def absent_capability(kind: type) -> str:
    """What is said of a model without a capability."""
    return ABSENT.get(kind, f"{kind.__name__}: this model does not have this capability")


def absent_output(wanted: tuple[str, ...], given: Collection[str]) -> str:
    """What is said of a model that gives none of the wanted outputs.

    Args:
        wanted: fields of Outputs, at least one.
        given: fields of Outputs that it gives.
    """
    names = [OUTPUT_NAMES.get(name, name) for name in wanted]
    if len(names) > 1:
        return f"output: this model gives neither {' nor '.join(names)}"
    present = ", ".join(OUTPUT_NAMES.get(name, name) for name in given) or "nothing"
    return f"{names[0]}: this model gives {present}, no {names[0]}"


def _stated_outputs(model: PoseModel, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The outputs that a model may give, as far as it declares any: a codec decides between two of them."""
    if model.codec is None:
        return wanted
    stated = "heatmaps" if model.codec.kind == "heatmap" else "simcc"
    other = {"heatmaps", "simcc"} - {stated}
    return (stated, *(name for name in wanted if name not in other))
