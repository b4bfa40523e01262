"""A condition that is derived from named taps, for networks whose adapter does not declare it.

    model = ByTaps(TopDown(net, skeleton, codec), film="block.film", condition=("block.embedding",))

On the command line ``--film-tap block.film`` does the same for any checkpoint or adapter.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import Protocol, runtime_checkable

from workbench.core import Batch, Conditioned, Passed, nearest
from workbench.core.conditioning import Conditioning
from workbench.core.hooks import replacing
from workbench.core.wrapping import Wrapper

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.core import PoseModel

LIBRARIES = ("torch", "torchvision", "timm", "transformers", "mmcv", "mmengine", "mmpose", "mmdet",
             "mmpretrain", "workbench")  # fmt: skip
"""Packages whose layers are not the user's own code."""

_EDIT = "condition edit"


@dataclass(frozen=True, eq=False)
class ByTaps(Wrapper):
    """A model with the capability Conditioned, derived from the names of its taps.

    The training pass is `forward` with the user's own modules in training mode, the predict pass is `forward`
    in evaluation mode. The condition is edited where its vectors pass; where no such tap is named, γ and β
    themselves are edited. Taking the condition away sets γ to 1 and β to 0.

    Attributes:
        model: any PoseModel.
        film: tap of the layer that outputs γ and β side by side, [N, 2C].
        condition: taps where the condition's vectors pass, [N, D].
        part: tap of the part that applies γ and β; by default the parent of `film`.
        before: tap of the features that enter that part, [N, C, h, w]; "" where none is named.
        after: tap of the features that leave it.
        gate: a number, or the name of the network's parameter that is the gate.
        baseline: added to the scales; 1 where the layer outputs the departure from the identity.
        refiner: of workbench.core.conditioning; None without one.

    Raises:
        KeyError: a name is not a tap; the message lists near ones.
    """

    model: Any
    film: str
    condition: tuple[str, ...] = ()
    part: str = ""
    before: str = ""
    after: str = ""
    gate: float | str = float("nan")
    baseline: float = 0.0
    refiner: Any = None

    def __post_init__(self) -> None:
        for tap in self.conditioning.taps:
            if tap not in self.model.taps:
                raise KeyError(f"film tap: no tap {tap!r}; nearest: {nearest(tap, self.model.taps)}")

    @property
    def conditioning(self) -> Conditioning:
        """The declared names as a record."""
        parent = self.film.rpartition(".")[0]
        return Conditioning(
            noun="condition" if self.condition else "γ and β",
            part=self.part or (parent if parent in self.model.taps else self.film),
            condition=self.condition,
            film=self.film,
            before=self.before,
            after=self.after,
            gate=self.gate,
            baseline=self.baseline,
            refiner=self.refiner,
            edited_at_taps=True,
        )

    def training_pass(self, batch: Batch) -> Passed:
        """`forward`, in the mode that the module is in."""
        return self._pass(batch)

    def predict_pass(self, batch: Batch) -> Passed:
        """`forward`, in the mode that the module is in."""
        return self._pass(batch)

    def with_condition(self, batch: Batch, edit: Callable[[Tensor], Tensor] | None) -> Batch:
        """The batch with an edit (of the same shape) that both passes apply at the taps; None: without."""
        return dataclasses.replace(batch, extra={**batch.extra, _EDIT: edit})

    def _pass(self, batch: Batch) -> Passed:
        if _EDIT not in batch.extra:
            return Passed(self.model.forward(batch))
        edit = batch.extra[_EDIT]
        edits: dict[str, Any] = dict.fromkeys(self.condition or (self.film,), edit)
        if edit is None:
            edits = {self.film: self._identity}
        with replacing(self.model.module, self.model.taps, edits):
            return Passed(self.model.forward(batch))

    def _identity(self, film: Tensor) -> Tensor:
        scale, shift = film.chunk(2, 1)
        return _cat(scale * 0 + (1 - self.baseline), shift * 0)


def _cat(scale: Tensor, shift: Tensor) -> Tensor:
    import torch

    return torch.cat([scale, shift], 1)


@runtime_checkable
class NamesFilm(Protocol):
    """A conditioned model whose layer of γ and β can be named afterwards."""

    def with_film(self, tap: str) -> Any:
        """The same model with this tap as its layer of γ and β."""
        ...


def with_film_tap(model: PoseModel, tap: str) -> Any:
    """The model with the layer that outputs γ and β named.

    Args:
        model: of any family.
        tap: a name in its taps.

    Raises:
        ValueError: the model declares its layer itself.
        KeyError: no such tap.
    """
    if tap not in model.taps:
        raise KeyError(f"--film-tap: no tap {tap!r}; nearest: {nearest(tap, model.taps)}")
    if not isinstance(model, Conditioned):
        return ByTaps(model, tap)
    if isinstance(model, NamesFilm):
        return model.with_film(tap)
    raise ValueError(
        f"--film-tap names a layer of your own code; this model declares its layer of γ and β itself: "
        f"{model.conditioning.film or 'none'}"
    )


@runtime_checkable
class _TextTaps(Protocol):
    """The members of the capability Conditioned before version 0.2, which spoke of text."""

    @property
    def text_taps(self) -> Mapping[str, str]: ...

    def training_pass(self, batch: Batch) -> Passed: ...

    def predict_pass(self, batch: Batch) -> Passed: ...

    def with_text(self, batch: Batch, edit: Callable[[Tensor], Tensor] | None) -> Batch: ...


@dataclass(frozen=True, eq=False)
class FromTextTaps(Wrapper):
    """A model that declares `text_taps` and `with_text`, with the members of today's Conditioned."""

    model: Any

    @property
    def conditioning(self) -> Conditioning:
        """``neck`` and ``film`` of text_taps."""
        taps = self.model.text_taps
        return Conditioning(noun="text", part=taps.get("neck", ""), film=taps.get("film", ""))

    def training_pass(self, batch: Batch) -> Passed:
        """As the model does."""
        return self.model.training_pass(batch)

    def predict_pass(self, batch: Batch) -> Passed:
        """As the model does."""
        return self.model.predict_pass(batch)

    def with_condition(self, batch: Batch, edit: Callable[[Tensor], Tensor] | None) -> Batch:
        """`with_text` of the model; the edit returns a tensor of the same shape."""
        return self.model.with_text(batch, edit)


def with_current_names(model: Any) -> Any:
    """The model; if it declares the old members `text_taps` and `with_text`, with the new ones.

    Raises:
        ValueError: text_taps is no dict, or names a role or a tap that there is not.
    """
    if isinstance(model, Conditioned) or not isinstance(model, _TextTaps):
        return model
    taps = model.text_taps
    if not isinstance(taps, Mapping):
        raise ValueError(f"text_taps is {type(taps).__name__}, expected a dict, role -> tap")
    for role, tap in taps.items():
        known: Mapping[str, str] = model.taps  # type: ignore[attr-defined] - a PoseModel
        if role not in ("neck", "film") or tap not in known:
            raise ValueError(
                f"text_taps: expected neck and film, each with the name of a tap, got {role!r}: {tap!r}; "
                f"nearest: {nearest(str(tap), known)}"
            )
    warnings.warn(
        "text_taps and with_text are called conditioning and with_condition (workbench.core.Conditioned); "
        "the old names still work",
        FutureWarning,
        stacklevel=2,
    )
    return FromTextTaps(model)


def checked_conditioning(model: Any) -> None:
    """Raise if the record of a conditioned model is none, or names taps that there are not.

    Raises:
        ValueError: with what was expected.
    """
    record = model.conditioning
    if not isinstance(record, Conditioning):
        raise ValueError(
            f"conditioning is {type(record).__name__}, expected workbench.core.conditioning.Conditioning"
        )
    refined = () if record.refiner is None else (*record.refiner.raw, *record.refiner.refined)
    for tap in (*record.taps, *refined):
        if tap not in model.taps:
            raise ValueError(f"conditioning: no tap {tap!r}; nearest: {nearest(tap, model.taps)}")
    try:
        record.gate_of(model.module)
    except KeyError as error:
        raise ValueError(f"conditioning: {error.args[0]}") from error
