"""In which ways are a checkpoint's outputs read? The reference, and the variants that ablations ask for.

The network is asked once for each crop or image. A top-down model's outputs are read by other decoders, flip
tests and score rules (workbench.evaluation.codecs), a bottom-up model's by other rules of grouping
(workbench.evaluation.ablation).
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from workbench.core import NotAvailable
from workbench.core.capabilities import BottomUpModel, PlacesMaps
from workbench.core.errors import nearest
from workbench.core.inspector import absent_capability
from workbench.decoding.grouping.algorithm import NothingFinite
from workbench.evaluation.ablation import fault_variants, grouping_variants, tag_variants
from workbench.evaluation.ablation.sweep import looks_of, read
from workbench.evaluation.ablation.variants import REFERENCE
from workbench.evaluation.ablation.variants import Variant as GroupingVariant
from workbench.evaluation.codecs.ways import NO_FLIP, SHIFTED, BothPasses, Readings, Way, own_way, ways_for
from workbench.evaluation.evaluate import images_of
from workbench.evaluation.oks import crop_areas, rows_after_nms
from workbench.evaluation.predict import (
    category_of,
    check_reading_options,
    finds_people,
    forward_passes,
    predict,
    predictions_of,
)
from workbench.evaluation.protocol import SCORE_RULES, check_options, nms_threshold

if TYPE_CHECKING:
    from workbench.core import Outputs, PoseModel
    from workbench.data.boxes import FoundBox
    from workbench.data.pose_set import PoseSet
    from workbench.evaluation.predictions import Predictions
    from workbench.evaluation.protocol import Protocol as Rules
    from workbench.evaluation.sweeps.rules import SweepRules
    from workbench.models.bottom_up import People

    Cancelled = Callable[[], bool] | None

ABLATIONS: dict[str, str] = {
    "decoders": "Top-down: every decoder of the model's codec.",
    "flip": "Top-down: without the flip test, with it, and with mirrored heatmaps moved by one cell.",
    "codec": "Top-down: every decoder, place of cells, flip test, keypoint score and pose score.",
    "tags": "Bottom-up: one tag map for all, means, principal components, noise.",
    "grouping": "Bottom-up: each step from maps to people changed, then several.",
    "faults": "Bottom-up: each frequent error of inference scripts undone.",
    "conditioning": "A model with text: condition, neck and refiner taken away, and the training pass.",
}
"""Groups of variants that `--ablations` names; a single variant is named by its own name."""

ELSEWHERE: dict[str, str] = {"conditioning": "workbench.inspectors.conditioning.ablation"}
"""Ablations that change the network itself: their readers stand in a room above, and are found by name."""

TOP_DOWN, BOTTOM_UP = ("decoders", "flip", "codec"), ("tags", "grouping", "faults")


@dataclass(frozen=True)
class VariantName:
    """One variant of a sweep.

    Attributes:
        name: unique in the sweep; ``reference`` for the model's own rules.
        about: what it changes, one line.
    """

    name: str
    about: str = "the model's own rules"


class Reader(Protocol):
    """Predictions of all variants, rows at a time.

    Attributes:
        rows: indices of instances for a top-down model, image ids for a bottom-up one.
    """

    @property
    def variants(self) -> tuple[VariantName, ...]:
        """The variants, the reference first."""
        ...

    @property
    def rows(self) -> tuple[int, ...]:
        """Indices of instances, or image ids."""
        ...

    def read(self, rows: Sequence[int], cancelled: Cancelled = None) -> list[Predictions]:
        """Predictions of some rows by each variant.

        Args:
            rows: indices of instances, or image ids.
            cancelled: asked between forward passes whether to stop.
        """
        ...

    def protocol(self, number: int, own: Rules) -> Rules:
        """The rules of one variant, made of those of the reference.

        Args:
            number: of the variant.
            own: rules of the reference.
        """
        ...


def reader_for(
    model: PoseModel, pose_set: PoseSet, rules: SweepRules, boxes: Sequence[FoundBox] | None = None
) -> Reader:
    """The reader of a model for the ablations that the rules name.

    Args:
        model: any family or adapter, its keypoints named as the data set's.
        pose_set: what is predicted.
        rules: of the sweep.
        boxes: that are cropped; None for the annotations' own.

    Raises:
        KeyError: no such ablation or variant; the message lists near names.
        NotAvailable: ablations for another kind of model.
        ValueError: boxes for a bottom-up model.
    """
    for name in ELSEWHERE.keys() & set(rules.ablations):
        if boxes is not None:
            raise NotAvailable(f"ablation {name}: reads the annotations' own boxes; leave --boxes out")
        return importlib.import_module(ELSEWHERE[name]).reader(model, pose_set, rules)
    check_names(rules.ablations, model)
    if finds_people(model):
        check_reading_options(boxes=boxes, options=rules.decoding, score_rule=rules.score_rule, nms=rules.nms)
        if not rules.ablations:
            return _Own(model, pose_set, rules)
        if not isinstance(model, BottomUpModel):
            raise NotAvailable(f"ablations {', '.join(rules.ablations)}: {absent_capability(PlacesMaps)}")
        return _Grouping(model, pose_set, rules)
    check_options(model, rules.decoding)
    return (_Ways if rules.ablations else _Own)(model, pose_set, rules, boxes)


def check_names(words: Sequence[str], model: PoseModel) -> None:
    """Raise NotAvailable for a group of ablations that is for the other kind of model.

    Args:
        words: names of ablations, as the user gave them.
        model: that they are for.
    """
    wrong, kind = (TOP_DOWN, "bottom-up") if finds_people(model) else (BOTTOM_UP, "top-down")
    fitting = BOTTOM_UP if finds_people(model) else TOP_DOWN
    for word in words:
        if word in wrong:
            raise NotAvailable(
                f"ablation {word}: this model is {kind}; for it there are {', '.join(fitting)} and their "
                "single variants by name"
            )


def _chosen(words: Sequence[str], groups: dict[str, list[str]]) -> list[str]:
    """Names of the variants that the words ask for, each once.

    Args:
        words: groups or single variants.
        groups: names of variants by group.

    Raises:
        KeyError: a word is neither.
    """
    singles = dict.fromkeys(name for names in groups.values() for name in names)
    chosen: dict[str, None] = {}
    for word in words:
        if word not in groups and word not in singles:
            raise KeyError(f"no ablation {word!r}; nearest: {nearest(word, [*groups, *ELSEWHERE, *singles])}")
        chosen |= dict.fromkeys(groups.get(word, [word]))
    return list(chosen)


def labelled_rows(pose_set: PoseSet, limit: int | None) -> tuple[int, ...]:
    """Indices of the labelled instances on the first `limit` images.

    Args:
        pose_set: annotations.
        limit: None for all images.
    """
    if limit is None:
        return tuple(pose_set.labelled)
    images = set(pose_set.first_images(limit))
    return tuple(i for i in pose_set.labelled if pose_set.instances[i].image_id in images)


@dataclass
class _Crops:
    """Which boxes of a top-down model are cropped: rows are labelled instances, or images with found boxes.

    An image is read whole, because NMS looks at all its poses.
    """

    model: PoseModel
    pose_set: PoseSet
    rules: SweepRules
    boxes: Sequence[FoundBox] | None = None

    def __post_init__(self) -> None:
        chosen = labelled_rows(self.pose_set, self.rules.limit)
        self._by_image: dict[int, list[int]] = {}
        for number, box in enumerate(self.boxes or ()):
            self._by_image.setdefault(box.image_id, []).append(number)
        self.rows = chosen
        if self.boxes is not None:
            self.rows = tuple(i for i in images_of(self.pose_set, chosen) if i in self._by_image)

    def indices(self, rows: Sequence[int]) -> list[int]:
        """What `predict` calls them: numbers of instances or of boxes."""
        if self.boxes is None:
            return list(rows)
        return [number for image in rows for number in self._by_image[image]]

    @property
    def threshold(self) -> float:
        """Of NMS; nan for none."""
        return nms_threshold(self.rules.nms, annotated=self.boxes is None)


@dataclass
class _Own(_Crops):
    """The reference alone, predicted as `workbench evaluate` does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if finds_people(self.model):
            self.rows = images_of(self.pose_set, self.rows)
        self.variants = (VariantName(REFERENCE),)

    def read(self, rows: Sequence[int], cancelled: Cancelled = None) -> list[Predictions]:
        rules = self.rules
        if finds_people(self.model):
            found = [
                (looked.image_id, self.model.group(looked.outputs, looked.batch)[0])
                for looked in forward_passes(
                    self.model, self.pose_set, rows, flip=rules.flip, cancelled=cancelled
                )
            ]
            return [_people(self.pose_set, found)]
        return [
            predict(
                self.model, self.pose_set, indices=self.indices(rows), boxes=self.boxes, flip=rules.flip,
                options=rules.decoding, score_rule=rules.score_rule, nms=rules.nms,
                batch_size=rules.batch_size, cancelled=cancelled,
            )
        ]  # fmt: skip

    def protocol(self, number: int, own: Rules) -> Rules:
        return own


def _people(pose_set: PoseSet, found: Sequence[tuple[int, People]]) -> Predictions:
    ids = [image_id for image_id, _ in found]
    people = [people for _, people in found]
    return predictions_of(ids, people, category_of(pose_set), len(pose_set.skeleton))


@dataclass
class _Ways(_Crops):
    """A top-down model's outputs, read in several ways."""

    def __post_init__(self) -> None:
        super().__post_init__()
        rules, model = self.rules, self.model
        own = own_way(model, rules.flip, rules.score_rule)
        own = dataclasses.replace(
            own,
            decoder=rules.decoder or own.decoder,
            keypoint_score=rules.keypoint_score or own.keypoint_score,
        )
        every = {way.name(own): way for way in ways_for(model, own)[0][1:]}
        single = {name: way.changes(own) for name, way in every.items()}
        groups = {
            "decoders": [name for name, changed in single.items() if changed == ("decoder",)],
            "flip": [name for name, changed in single.items() if changed == ("flip",)],
            "codec": list(every),
        }
        chosen = _chosen(rules.ablations, groups)
        self.ways: list[Way] = [own, *(every[name] for name in chosen)]
        abouts = [", ".join(f"{n}: {getattr(w, n)}" for n in w.changes(own)) for w in self.ways[1:]]
        self.variants = (
            VariantName(REFERENCE, own.name(own)),
            *(VariantName(name, about) for name, about in zip(chosen, abouts, strict=True)),
        )

    def read(self, rows: Sequence[int], cancelled: Cancelled = None) -> list[Predictions]:
        readings = Readings(self.model, self.ways)
        flip = any(way.flip != NO_FLIP for way in self.ways)
        given = predict(
            BothPasses(self.model), self.pose_set, indices=self.indices(rows), boxes=self.boxes, flip=flip,
            nms=1.0, score_rule="bbox", batch_size=self.rules.batch_size, keep_outputs=readings.batch,
            cancelled=cancelled,
        )  # fmt: skip
        return [self._without_doubles(readings.predictions(way, given)) for way in self.ways]

    def _without_doubles(self, found: Predictions) -> Predictions:
        if math.isnan(self.threshold):
            return found
        sigmas = np.array(self.pose_set.skeleton.sigmas)
        return found.take(rows_after_nms(found, crop_areas(self.model, found), sigmas, self.threshold))

    def protocol(self, number: int, own: Rules) -> Rules:
        way, first = self.ways[number], self.ways[0]
        if number == 0:
            return own
        return dataclasses.replace(
            own,
            decoder=way.decoder if way.cells == first.cells else f"{way.decoder}, {way.cells} cells",
            flip=way.flip != NO_FLIP,
            flip_shift=way.flip == SHIFTED,
            keypoint_score=way.keypoint_score,
            score_rule=SCORE_RULES[way.pose_score],
        )


@dataclass
class _Grouping:
    """A bottom-up model's maps, grouped by several rules."""

    model: BottomUpModel
    pose_set: PoseSet
    rules: SweepRules

    def __post_init__(self) -> None:
        self.rows = images_of(self.pose_set, labelled_rows(self.pose_set, self.rules.limit))
        # The mirrored pass is a variant of grouping even where the reference goes without it.
        self.flip = self.rules.flip or bool(self.model.skeleton.mirror)
        (first,) = forward_passes(self.model, self.pose_set, self.rows[:1], flip=self.flip)
        self.settings = self._settings(first.outputs)
        self.variants = tuple(VariantName(one.name, one.about) for one in self.settings)

    def _settings(self, outputs: Outputs) -> list[GroupingVariant]:
        model, flip = self.model, self.rules.flip
        made = {
            "tags": tag_variants(model, (), flip) if model.tags > 1 else [],
            "grouping": grouping_variants(model, outputs, flip),
            "faults": fault_variants(model, outputs, flip),
        }
        if "tags" in self.rules.ablations and not made["tags"]:
            tag_variants(model, (), flip)  # raises: one tag map for all keypoints
        every = {one.name: one for variants in made.values() for one in variants}
        groups = {group: [one.name for one in variants[1:]] for group, variants in made.items()}
        return [every[name] for name in dict.fromkeys([REFERENCE, *_chosen(self.rules.ablations, groups)])]

    def read(self, rows: Sequence[int], cancelled: Cancelled = None) -> list[Predictions]:
        found: list[list[tuple[int, People]]] = [[] for _ in self.settings]
        for looked in forward_passes(self.model, self.pose_set, rows, flip=self.flip, cancelled=cancelled):
            for seen, places in looks_of(self.model, looked, self.settings, self.flip):
                people = read(self.model, seen, [self.settings[n] for n in places])
                for n, one in zip(places, people, strict=True):
                    if isinstance(one, NothingFinite):  # a column of a sweep has all images or none
                        raise ValueError(f"variant {self.settings[n].name}: {one}; leave it out") from one
                    found[n].append((looked.image_id, one))
        return [_people(self.pose_set, one) for one in found]

    def protocol(self, number: int, own: Rules) -> Rules:
        name = self.settings[number].name
        return own if number == 0 else dataclasses.replace(own, grouping=f"{own.grouping}; variant {name}")
