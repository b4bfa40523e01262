"""Causes that stood in one system or at one strength, planted in a second one or at the other strength."""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

import json

import numpy as np

from tests.diagnosis.cases_labs import CELLS, SHIFTED, deleted, maps, shut, text
from tests.diagnosis.cases_scripts import ROWS, WEAK
from tests.diagnosis.planted_code import known_people
from tests.diagnosis.planted_labels import labelled
from tests.diagnosis.planted_logs import as_events, ended_at, logged
from tests.diagnosis.planted_results import good_poses, good_results
from tests.diagnosis.planted_trainers import (
    MODULE,
    MODULE_TWINS,
    OF_MODULE,
    OF_TRAINER,
    TRAINER,
    TRAINER_TWINS,
)
from tests.diagnosis.planted_trainings import code
from tests.diagnosis.systems import HIGHERHRNET, RTMPOSE, Case

OTHER_PICTURES = ("annotations stand under other images",)
SHORT = ("the schedule ends before the run",)


def good_claimed(figure, system, **more):
    """Poses near the truth, beside the figure that another rule gives for them."""

    def make(folder):
        from workbench.evaluation.evaluate import truth_of
        from workbench.evaluation.keypoint_ap import keypoint_ap
        from workbench.evaluation.predictions import Predictions

        pose_set = system.pose_set()
        found = good_poses(pose_set, **more)
        (folder / "results.json").write_text(json.dumps(found))
        detections = Predictions.from_coco(found).detections()
        claim = figure(truth_of(pose_set), detections, pose_set.skeleton.sigmas, keypoint_ap)
        return [folder / "results.json"], {**system.options(), "claim": {"AP": float(claim)}}

    return make


def pck_of_shares(truth, detections, sigmas, ap):
    """PCK of x and y as shares of the image's width and height, nearer than .05."""
    sizes = {one.id: (one.width, one.height) for one in RTMPOSE.pose_set().images.values()}
    kept = np.flatnonzero(~truth.ignored)
    size = np.array([sizes[number] for number in truth.image_ids[truth.image[kept]].tolist()], float)
    away = (detections.keypoints - truth.keypoints[kept, :, :2]) / size[:, None]
    return (np.linalg.norm(away, axis=-1) < 0.05)[truth.keypoints[kept, :, 2] > 0].mean()


def axes_in_part(share):
    """y before x in the poses of part of the images, as after a merge of two files."""

    def change(found):
        ids = sorted({entry["image_id"] for entry in found})
        chosen = set(ids[: round(share * len(ids))])
        for entry in found:
            if entry["image_id"] in chosen:
                entry["keypoints"] = np.reshape(entry["keypoints"], (-1, 3))[:, [1, 0, 2]].ravel().tolist()

    return change


def files_moved_on(share):
    """The file names of part of the images stand one place further on."""

    def change(raw):
        part = raw["images"][: round(share * len(raw["images"]))]
        names = [image["file_name"] for image in part]
        for image, name in zip(part, names[1:] + names[:1], strict=True):
            image["file_name"] = name

    return change


def _code(system, text, name, cause, edits):
    is_weak = cause in (*WEAK, "optimizer is made anew in the loop") or "twenty" in name
    strength = "weak" if is_weak else "strong"
    row = ROWS.get(cause, "")
    return Case(f"{system}: {name}", system, code(text, *edits), (cause,), strength, "files", plants=row)


SCRIPTS: tuple[Case, ...] = (
    *(
        _code("own trainer class", TRAINER, name, cause, edits)
        for name, (cause, *edits) in OF_TRAINER.items()
    ),
    *(_code("lightning module", MODULE, name, cause, edits) for name, (cause, *edits) in OF_MODULE.items()),
)
BY_HEART = "own bottom-up network"
FILES: tuple[Case, ...] = (
    Case("people, results: one detection per image claimed", "results", good_claimed(lambda t, d, s, ap: ap(t, d, s, max_dets=1).figures["AP"], HIGHERHRNET), ("figure comes from other rules",), "strong", plants="maxDets", says=("with one detection per image",)),
    Case("results: PCK of coordinates as shares of the image claimed", "results", good_claimed(pck_of_shares, RTMPOSE, low=0.05, high=0.2), ("figure comes from other rules",), "weak", plants="PCK with another normaliser"),
    Case("results: y before x in half of the images", "results", good_results(lambda raw: None, axes_in_part(0.5)), ("output axes exchanged",), "weak"),
    Case("file names exchanged in a third of the images", "rtmpose", labelled(files_moved_on(0.34)), OTHER_PICTURES, "weak"),
    Case("events: cosine over a third of the run", "tensorboard", as_events(ended_at(2000), (r"T_max=5780", "T_max=1900"), (r"end=5880", "end=2000")), SHORT, "strong", "files"),
    Case("log: cosine over half of the run", "logs", logged(ended_at(3000), (r"T_max=5780", "T_max=2900"), (r"end=5880", "end=3000")), SHORT, "weak", "files"),
)  # fmt: skip
LABS: tuple[Case, ...] = (
    Case("known people: tags a thirtieth", BY_HEART, known_people(maps="tags=found.tags / 30"), ("tags of the wrong scale",), "strong"),
    Case("known people: tags a twelfth", BY_HEART, known_people(maps="tags=found.tags / 12"), ("tags of the wrong scale",), "weak"),
    Case("known people: scores of filled keypoints", BY_HEART, known_people("grouping=dataclasses.replace(model.grouping, person_score='filled', fill_weight=0.0)"), ("person scores taken after refine",), "strong"),
    Case("known people: two cells right and down", BY_HEART, known_people(maps=maps(SHIFTED.replace("{1}", "2"), "heatmaps", "tags")), CELLS, "strong", plants="offset and placing"),
    Case("text: half of the channels deleted", "text", text(deleted(0.5)), ("features destroyed", "units with all weights zero"), "weak", both=("one vector for all",)),
    Case("text: gate nearly at 0", "text", text(shut(0.00005)), ("gate stuck at 0",), "weak"),
)  # fmt: skip
FAULTS: tuple[Case, ...] = (*SCRIPTS, *FILES, *LABS)
CONTROLS: tuple[Case, ...] = (
    *(
        Case(f"own trainer class: {name}", "own trainer class", code(TRAINER, *edits), level="files")
        for name, edits in TRAINER_TWINS.items()
    ),
    *(
        Case(f"lightning module: {name}", "lightning module", code(MODULE, *edits), level="files")
        for name, edits in MODULE_TWINS.items()
    ),
)
