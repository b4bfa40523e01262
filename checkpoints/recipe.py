"""How are the demo networks trained? One mmpose config per run, as plain data.

Everything but `DrawnAppearance` is stock mmpose 1.3.2, so the config that lands in each checkpoint
builds the same network in any mmpose.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from network import SQUARE, UPRIGHT, Size, codec, model, warm_up_codec, warm_up_model

SEED = 20261121


@dataclass(frozen=True)
class DemoRun:
    """One run of the demo.

    Attributes:
        name: its folder below checkpoints/.
        dataset: mmpose's data set class, which brings names, mirror pairs and sigmas.
        train: built-in set to train on.
        val: built-in set to validate on.
        epochs: length of the run.
        keep: epochs whose checkpoints go into the repository.
        size: (width, height) of the input, pixels.
        rotation: degrees either way; the scenes stand upright.
        photometric: mmpose's change of brightness, contrast and colour.
        truncated: share of training crops that are cut off at a line through the body.
        appearance: strength of the change of appearance, 0 to 1.
        ema: keep an exponential moving average, as the published recipe does; doubles the file.
        learning_rate: peak, for batches of `batch`.
        batch: instances per step.
        warm_up: epochs with a heatmap head before the run; see network.warm_up_model.
    """

    name: str
    dataset: str
    train: str
    val: str
    epochs: int
    keep: tuple[int, ...]
    size: Size = SQUARE
    rotation: float = 15.0
    photometric: bool = False
    truncated: float = 0.0
    appearance: float = 0.3
    ema: bool = False
    learning_rate: float = 3e-3
    batch: int = 16
    warm_up: int = 8


RUNS: dict[str, DemoRun] = {
    run.name: run
    for run in (
        DemoRun(
            name="rtmpose-demo",
            dataset="AP10KDataset",
            train="scenes-train",
            val="scenes-val",
            epochs=40,
            keep=(1, 2, 5, 10, 20, 40),
        ),
        DemoRun(
            name="rtmpose-person-demo",
            dataset="CocoDataset",
            train="scenes-people-train",
            val="scenes-people-val",
            epochs=80,
            keep=(5, 20, 80),
            size=UPRIGHT,
            photometric=True,
            truncated=0.25,
            appearance=0.6,
            ema=True,
        ),
    )
}


def config(run: DemoRun, steps: int) -> dict[str, Any]:
    """The whole mmengine config of a run.

    Args:
        run: what to train.
        steps: iterations per epoch; the schedule is given in iterations.
    """
    total = run.epochs * steps
    warm_up = min(100, total // 10)
    return {
        "default_scope": "mmpose",
        "work_dir": f"work_dirs/{run.name}",
        "experiment_name": run.name,
        "load_from": f"work_dirs/{run.name}-warm-up/epoch_{run.warm_up}.pth",
        "randomness": {"seed": SEED},
        "model": model(run.size),
        # Every epoch while much happens, every fifth later: a tenth of the time is validation otherwise.
        "train_cfg": {
            "by_epoch": True,
            "max_epochs": run.epochs,
            "val_interval": 1,
            "dynamic_intervals": [(11, 5)],
        },
        "val_cfg": {},
        "train_dataloader": _loader(run, training=True),
        "val_dataloader": _loader(run, training=False),
        "val_evaluator": {"type": "CocoMetric", "ann_file": f"data/{run.val}/annotations.json"},
        "optim_wrapper": {
            "type": "OptimWrapper",
            "optimizer": {"type": "AdamW", "lr": run.learning_rate, "weight_decay": 0.05},
            "clip_grad": {"max_norm": 35},
            "paramwise_cfg": {"norm_decay_mult": 0, "bias_decay_mult": 0, "bypass_duplicate": True},
        },
        "param_scheduler": [
            {"type": "LinearLR", "start_factor": 1e-2, "by_epoch": False, "begin": 0, "end": warm_up},
            {
                "type": "CosineAnnealingLR",
                "eta_min": run.learning_rate * 0.02,
                "by_epoch": False,
                "begin": warm_up,
                "end": total,
                "T_max": total - warm_up,
            },
        ],
        "default_hooks": {
            "timer": {"type": "IterTimerHook"},
            "logger": {"type": "LoggerHook", "interval": 20},
            "param_scheduler": {"type": "ParamSchedulerHook"},
            # Without optimizer state: it is twice the weights, and nobody resumes the demo.
            "checkpoint": {
                "type": "CheckpointHook",
                "interval": 1,
                "save_optimizer": False,
                "save_param_scheduler": False,
            },
        },
        "custom_hooks": _ema() if run.ema else [],
        "env_cfg": {
            "cudnn_benchmark": False,
            "mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0},
            "dist_cfg": {"backend": "gloo"},
        },
        "visualizer": {
            "type": "PoseLocalVisualizer",
            "vis_backends": [{"type": "LocalVisBackend"}],
            "name": run.name,
        },
        "log_level": "INFO",
    }


def warm_up_config(run: DemoRun, steps: int) -> dict[str, Any]:
    """The config of the short run before: same data, a heatmap head instead of RTMPose's."""
    whole = dataclasses.replace(run, epochs=run.warm_up, ema=False)
    settings = config(whole, steps)
    for key in ("load_from", "val_cfg", "val_dataloader", "val_evaluator"):
        del settings[key]
    # A constant rate: the network leaves the mean pose after some 500 steps, when a cosine is spent.
    settings["param_scheduler"] = settings["param_scheduler"][:1]
    for transform in settings["train_dataloader"]["dataset"]["pipeline"]:
        if transform["type"] == "GenerateTarget":
            transform["encoder"] = warm_up_codec(run.size)
    return {
        **settings,
        "work_dir": f"work_dirs/{run.name}-warm-up",
        "experiment_name": f"{run.name}-warm-up",
        "model": warm_up_model(run.size),
        # mmengine gives a second Runner the visualizer, and with it the log file, of the first of that name.
        "visualizer": {**settings["visualizer"], "name": f"{run.name}-warm-up"},
        "train_cfg": {"by_epoch": True, "max_epochs": run.warm_up},
    }


def _loader(run: DemoRun, training: bool) -> dict[str, Any]:
    name = run.train if training else run.val
    return {
        "batch_size": run.batch,
        "num_workers": 1,
        "persistent_workers": True,
        "drop_last": training,
        "sampler": {"type": "DefaultSampler", "shuffle": training, "round_up": training},
        "dataset": {
            "type": run.dataset,
            "data_root": f"data/{name}",
            "data_mode": "topdown",
            "ann_file": "annotations.json",
            "data_prefix": {"img": "images/"},
            "test_mode": not training,
            "pipeline": _training_pipeline(run) if training else _pipeline(run),
        },
    }


def _pipeline(run: DemoRun) -> list[dict[str, Any]]:
    return [
        {"type": "LoadImage"},
        {"type": "GetBBoxCenterScale", "padding": 1.25},
        {"type": "TopdownAffine", "input_size": run.size},
        {"type": "PackPoseInputs"},
    ]


def _training_pipeline(run: DemoRun) -> list[dict[str, Any]]:
    load, centre, affine, pack = _pipeline(run)
    light = [{"type": "PhotometricDistortion"}] if run.photometric else []
    return [
        load,
        centre,
        {"type": "RandomFlip", "direction": "horizontal"},
        {
            "type": "RandomBBoxTransform",
            "shift_factor": 0.08,
            "scale_factor": [0.8, 1.25],
            "rotate_factor": run.rotation,
        },
        affine,
        *light,
        {"type": "DrawnAppearance", "strength": run.appearance},
        {"type": "GenerateTarget", "encoder": codec(run.size)},
        pack,
    ]


def _ema() -> list[dict[str, Any]]:
    return [
        {
            "type": "EMAHook",
            "ema_type": "ExpMomentumEMA",
            "momentum": 0.002,  # the published 0.0002 is for 100 times as many steps
            "gamma": 200,
            "update_buffers": True,
            "priority": 49,
        }
    ]
