"""Evidence of a model that finds all people of an image: whole images, with a change and without."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from workbench.core import Groups, NotAvailable, PoseModel
from workbench.core.capabilities import BottomUpModel, PlacesMaps
from workbench.core.hooks import OnceComputed
from workbench.core.inspector import absent_capability
from workbench.diagnosis.evidence import NEEDS_FORWARD, Change, Evidence, acting
from workbench.evaluation.predict import predict_people
from workbench.evaluation.predictions import Predictions

if TYPE_CHECKING:
    from workbench.data.pose_set import PoseSet

# Images of a bottom-up model at level forward, which is slower and finds several people in each.
WHOLE_IMAGES = 10
# Passes over whole images whose outputs are kept, some 7 MB each.
MOST_PASSES = 64


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
        people = f"{len(self.indices)} annotated people on {len(self.image_ids)} images"
        return f"whole images, no flip, {self.pose_set.name}, {people}"

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
