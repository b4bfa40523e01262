"""What does a logged name stand for? Its short name, its split, and whether higher is better."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

import numpy as np

Role = Literal["metric", "error", "loss", "rate", "other"]
"""metric: higher is better. error: a distance, lower is better. loss: of training. rate: a learning rate."""

Split = Literal["train", "val", ""]

_SPLITS: dict[str, Split] = {"train": "train", "training": "train", "tr": "train"}
_SPLITS |= dict.fromkeys(("val", "valid", "validation", "eval", "test", "dev"), "val")
_WORDS = re.compile(r"[^A-Za-z0-9]+")
_LOSS = re.compile(r"loss|(^|[_/])nll($|[_/])|(^|[_/])kl($|[_/])")
_RATE = re.compile(r"^(base_)?lr($|[^a-z])|learning.?rate|(^|[_/])lr([_/-]|$)")
_ERROR = re.compile(r"(^|[_/ -])(nme|epe|mpjpe|rmse|mae|mse|error|err)($|[_/ @.-]|\d)")
# A distance by its unit alone: val_px, dist_mm.
_UNIT = re.compile(r"(^|[_/ -])(px|pixels?|mm|dist|distance)$")
_METRIC = re.compile(
    r"(^|[_/ -])m?(ap|ar)(\d|$|[_/ @.:(-])|pck|(^|[_/ -])(auc|acc|accuracy|oks|iou|f1|precision|recall|perf)"
    r"($|[_/ @(.-])|accuracy"
)
_OTHER = re.compile(r"time|memory|grad.?norm|^eta$|throughput|momentum|_step$|^epoch$|^iter|^step$")
# COCO's figures as the trainers write them: AP .5, AP@0.75, AP50, AP (M), mAP50-95(P).
_COCO = re.compile(r"^m?(ap|ar)($|\d|[ _@.:(-])", re.IGNORECASE)
_HEADLINE = re.compile(r"^(m?AP|mAP50-95\(P\)|mAP50-95\(B\)|mAP50-95)$|^AP$", re.IGNORECASE)


@lru_cache(maxsize=10_000)
def short(name: str) -> str:
    """The name without evaluator and split: ``coco/AP`` and ``val/AP`` are both ``AP``.

    Parts of a loss keep their first word: ``loss/coordinates``.
    """
    parts = name.strip().split("/")
    while len(parts) > 1 and not _LOSS.search(parts[0].lower()) and not _RATE.search(parts[0].lower()):
        parts = parts[1:]
    while len(parts) > 1 and parts[-1].lower() in _SPLITS:
        parts = parts[:-1]
    last = "/".join(parts)
    words = last.split("_")
    if len(words) > 1 and words[0].lower() in _SPLITS:
        last = "_".join(words[1:])
    elif len(words) > 1 and words[-1].lower() in _SPLITS:
        last = "_".join(words[:-1])
    # Lightning logs a figure of both: train_loss_step and train_loss_epoch.
    return last.removesuffix("_epoch").removesuffix("_step") or name.strip()


@lru_cache(maxsize=10_000)
def split_in(name: str) -> Split:
    """The split that a name states: ``val_loss``, ``train/loss``; "" where it states none."""
    for word in _WORDS.split(name.strip()):
        if word.lower() in _SPLITS:
            return _SPLITS[word.lower()]
    return "val" if name.startswith("metrics/") else ""  # ultralytics measures on the validation set


@lru_cache(maxsize=10_000)
def role_of(name: str) -> Role:
    """What the name stands for, by the words in it."""
    lowered = short(name).lower()
    if _RATE.search(lowered):
        return "rate"
    if _OTHER.search(lowered):
        return "other"
    if _LOSS.search(lowered):
        return "loss"
    if _METRIC.search(lowered):
        return "metric"
    return "error" if _ERROR.search(lowered) or _UNIT.search(lowered) else "other"


def is_coco(name: str) -> bool:
    """Whether it is one of COCO's figures, of which -1 stands for "no such annotations"."""
    return _COCO.match(short(name)) is not None


def rank(name: str) -> int:
    """Order in which a run is judged: AP before PCK, that before other metrics, distances and the rest."""
    word, role = short(name).lower(), role_of(name)
    if _HEADLINE.match(short(name)):
        return 0 if "50-95" not in word else {"(p)": 1, "(b)": 3}.get(word[-3:], 2)
    if role == "metric":
        order = ("pck", "mpck", "pckh", "auc", "acc")
        return 10 + next((i for i, start in enumerate(order) if word.startswith(start)), 8)
    return 30 if role == "error" else 100


def scale_of(values: np.ndarray) -> float:
    """1 for figures between 0 and 1, 100 for percentages."""
    return 100.0 if len(values) and float(np.max(np.abs(values))) > 1.5 else 1.0
