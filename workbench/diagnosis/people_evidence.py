"""Evidence of a model that finds all people: whole images, with a change and without; order of the maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workbench.core import Answers, Groups, NotAvailable, Outputs, PoseModel
from workbench.core.capabilities import BottomUpModel, PlacesMaps
from workbench.core.geometry import apply, inverse
from workbench.core.hooks import OnceComputed
from workbench.core.inspector import absent_capability
from workbench.core.report import counted
from workbench.core.run import evaluating
from workbench.core.wrapping import Wrapper
from workbench.diagnosis.evidence import NEEDS_FORWARD, Change, Evidence, acting
from workbench.evaluation.predict import predict_people
from workbench.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from workbench.data.pose_set import PoseSet

# Images of a bottom-up model at level forward, which is slower and finds several people in each.
WHOLE_IMAGES = 10
# Passes over whole images whose outputs are kept, some 7 MB each.
MOST_PASSES = 64
# Values of exchanged maps at the labels of their keypoints rise by so much once they are in order; labels of
# a keypoint from which something is said of its map.
HIGHER, LEAST_LABELS = 1.5, 6
FIELDS = ("heatmaps", "coarse")


class PeopleEvidence(Evidence):
    """People that a bottom-up model finds in some images.

    Args:
        pose_set: annotated.
        image_ids: images that are looked at.
        model: bottom-up.
        stepped: called before every image; what it raises ends the measurement.
    """

    def __init__(
        self,
        pose_set: PoseSet,
        image_ids: Sequence[int],
        model: Any,
        stepped: Callable[[], None] = lambda: None,
    ) -> None:
        indices = [i for n in image_ids for i in pose_set.labelled_of_image[n]]
        super().__init__(pose_set, indices, model, stepped=stepped)
        self.image_ids = tuple(image_ids)
        self._people: dict[tuple[Change, ...], Predictions] = {}

    def protocol(self) -> str:
        """By which rules everything here is measured, in one line."""
        people = counted(len(self.indices), "annotated person", "annotated people")
        images = counted(len(self.image_ids), "image")
        return f"whole images, no flip, {self.pose_set.name}, {people} on {images}"

    def poses(self, changes: Sequence[Change] = (), rows: Sequence[int] | None = None) -> Predictions:
        """Everybody that is found, with some changes.

        Args:
            changes: in the order in which they act.
            rows: not looked at: people are found in whole images.
        """
        key = acting(changes)
        if key not in self._people:
            model: Any = self.model
            for change in key:
                model = change.of(model)
            self._people[key] = predict_people(
                model, self.pose_set, self.image_ids, progress=lambda done, total: self.stepped()
            )
        found = self._people[key]
        for change in changes:
            if change.stage not in NEEDS_FORWARD:
                found = change.of(found)
        return found


def whole_images(pose_set: PoseSet, count: int | None) -> Iterable[int] | None:
    """Ids of so many images with annotated people, spread over the set; None for all images of it."""
    annotated = list(pose_set.labelled_of_image)
    if count is None or count >= len(annotated):
        return None
    return [annotated[i * len(annotated) // count] for i in range(count)]


def require_bottom_up(model: PoseModel, otherwise: str) -> BottomUpModel:
    """The model itself, as one whose maps and rules can be exchanged.

    Args:
        model: of a case.
        otherwise: the sentence about a model that does not find people by itself.

    Raises:
        NotAvailable: it does not find people by itself, or does not state where its maps lie.
    """
    if not isinstance(model, Groups):
        raise NotAvailable(otherwise)
    if not isinstance(model, BottomUpModel):
        raise NotAvailable(absent_capability(PlacesMaps))
    return model


def remembering(model: PoseModel) -> PoseModel:
    """A bottom-up model that keeps what it gave for some images, which several causes ask for."""
    from workbench.models.bottom_up import BottomUp

    if not isinstance(model, BottomUp):
        return model
    kept = OnceComputed(model.module, MOST_PASSES)
    return dataclasses.replace(model, call=kept.remembering(model.call or model.module))


def orders_of_maps(evidence: PeopleEvidence) -> dict[str, Int[np.ndarray, " K"]]:
    """Field of the outputs -> the order in which its maps belong, where it is another than they have.

    Args:
        evidence: whose model is asked, without changes.
    """
    import torch

    model: Any = evidence.model
    values: dict[str, list[Float[np.ndarray, "n K"]]] = {field: [] for field in FIELDS}
    labelled: list[Float[np.ndarray, "n K"]] = []
    for image_id in evidence.image_ids:
        evidence.stepped()
        own = evidence.pose_set.labelled_of_image[image_id]
        with torch.no_grad(), evaluating(model.module):
            batch = model.prepare([evidence.pose_set.sample(own[0])])
            outputs = model.forward(batch)
        truth = np.array([evidence.pose_set.instances[i].truth for i in own], float)
        places = apply(inverse(batch.to_image[0]), truth[..., :2]) / batch.pixels.shape[-1]
        labelled.append(truth[..., 2])
        for field in FIELDS:
            if (maps := getattr(outputs, field)) is not None:
                values[field].append(_at(maps[0].float().cpu().numpy(), places))
    seen = np.concatenate(labelled) > 0
    orders = {field: _order(np.concatenate(of), seen) for field, of in values.items() if of}
    return {field: order for field, order in orders.items() if (order != np.arange(len(order))).any()}


def _at(
    maps: Float[np.ndarray, "K h w"], places: Float[np.ndarray, "n K 2"]
) -> Float[np.ndarray, "n K labels"]:
    """Value of every map at every label.

    Args:
        maps: of one image.
        places: (x, y) in widths of the input.
    """
    width = maps.shape[2]
    x = (places[..., 0] * width).astype(int).clip(0, width - 1)
    y = (places[..., 1] * width).astype(int).clip(0, maps.shape[1] - 1)
    return maps[:, y, x].transpose(1, 0, 2)


def _order(values: Float[np.ndarray, "n K labels"], seen: Any) -> Int[np.ndarray, " K"]:
    """For each keypoint the map that belongs to it."""
    from scipy.optimize import linear_sum_assignment

    K = values.shape[1]
    count = seen.sum(0)
    mean = np.where(seen[:, None], values, 0).sum(0) / np.maximum(count, 1)  # map, label
    mean[:, count < LEAST_LABELS] = 0
    maps, labels = linear_sum_assignment(-(mean + 1e-9 * np.eye(K)))
    order = np.arange(K)
    order[labels] = maps
    for cycle in cycles(order):
        before, after = mean[cycle, cycle].sum(), mean[order[cycle], cycle].sum()
        if after < HIGHER * max(before, 1e-6) or (count[cycle] < LEAST_LABELS).any():
            order[cycle] = cycle
    return order


def cycles(order: Int[np.ndarray, " K"]) -> list[Int[np.ndarray, " n"]]:
    """Keypoints that changed places among themselves, cycle by cycle.

    Args:
        order: of all keypoints, each in one place.
    """
    seen: set[int] = set()
    found = []
    for start in range(len(order)):
        cycle = []
        at = start
        while at not in seen:
            seen.add(at)
            cycle.append(at)
            at = int(order[at])
        if len(cycle) > 1:
            found.append(np.array(cycle))
    return found


@dataclass(frozen=True, eq=False)
class InOrder(Wrapper):
    """A bottom-up model with its maps in another order.

    Attributes:
        model: the inner model.
        orders: field of the outputs -> which map stands at each place.
    """

    model: PoseModel
    orders: Mapping[str, Any]
    withheld: ClassVar[tuple[type, ...]] = (Answers,)

    def forwarded(self, name: str) -> Any:
        """As of the inner model; the outputs of its passes are put in order."""
        inner = super().forwarded(name)
        if name != "all_passes":
            return inner
        return lambda *given, **named: self._ordered(inner(*given, **named))

    def _ordered(self, outputs: Outputs) -> Outputs:
        moved: dict[str, Tensor] = {
            field: maps[:, order.tolist()]
            for field, order in self.orders.items()
            if (maps := getattr(outputs, field)) is not None
        }
        passes = {name: self._ordered(one) for name, one in outputs.passes.items()}
        return dataclasses.replace(outputs, **moved, passes=passes)
