"""The rate that a schedule asks for, by hand and as mmengine has it."""

from __future__ import annotations

import math

import pytest

from workbench.core import NotAvailable
from workbench.diagnosis.schedule import group_factors, parts_of, rate_at


def config(*schedulers, lr=0.004):
    return {"optim_wrapper": {"optimizer": {"type": "AdamW", "lr": lr}}, "param_scheduler": list(schedulers)}


WARM = {"type": "LinearLR", "by_epoch": False, "begin": 0, "end": 100, "start_factor": 0.01}
STEPS = {"type": "MultiStepLR", "by_epoch": True, "milestones": [3, 5], "gamma": 0.1}
COSINE = {"type": "CosineAnnealingLR", "by_epoch": False, "begin": 100, "end": 1100, "T_max": 1000,
          "eta_min": 0.0004}  # fmt: skip


def test_values_by_hand():
    base, parts = parts_of(config(WARM, STEPS))
    assert rate_at(base, parts, 0, 50) == pytest.approx(0.00004)
    assert rate_at(base, parts, 99, 50) == pytest.approx(0.004)
    assert rate_at(base, parts, 149, 50) == pytest.approx(0.004)
    assert rate_at(base, parts, 150, 50) == pytest.approx(0.0004)
    assert rate_at(base, parts, 250, 50) == pytest.approx(0.00004)
    base, parts = parts_of(config(WARM, COSINE))
    middle = 0.0004 + (0.004 - 0.0004) * (1 + math.cos(math.pi / 2)) / 2
    assert rate_at(base, parts, 600, 50) == pytest.approx(middle)
    assert rate_at(base, parts, 1100, 50) == pytest.approx(0.0004)


def test_a_warm_up_that_is_stepped_once_an_epoch_has_hardly_begun_after_four_epochs():
    base, parts = parts_of(config(WARM))
    assert rate_at(base, parts, 200, 50, steps_epochs=True) == pytest.approx(0.004 * (0.01 + 0.99 * 4 / 99))


def test_the_rates_of_mmengine_are_repeated():
    import torch
    from mmengine.optim.scheduler import CosineAnnealingLR, LinearLR

    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.004)
    running = [
        LinearLR(optimizer, start_factor=0.01, begin=0, end=100, by_epoch=False),
        CosineAnnealingLR(optimizer, T_max=1000, eta_min=0.0004, begin=100, end=1100, by_epoch=False),
    ]
    base, parts = parts_of(config(WARM, COSINE))
    for iteration in range(300):
        assert rate_at(base, parts, iteration, 50) == pytest.approx(optimizer.param_groups[0]["lr"], rel=5e-3)
        optimizer.step()
        for scheduler in running:
            scheduler.step()


def test_an_unknown_schedule_is_no_guess():
    with pytest.raises(NotAvailable, match="OneCycleLR is not known"):
        parts_of(config({"type": "OneCycleLR"}))
    with pytest.raises(NotAvailable, match="no learning rate"):
        parts_of({"param_scheduler": [WARM]})


def test_the_schedule_of_mmcv_is_read_with_its_warm_up():
    given = {"policy": "step", "warmup": "linear", "warmup_iters": 500, "warmup_ratio": 0.001, "step": [3, 5]}
    base, parts = parts_of({"optimizer": {"lr": 5e-4}, "lr_config": given, "total_epochs": 6})
    assert rate_at(base, parts, 0, 400) == pytest.approx(5e-7)
    assert rate_at(base, parts, 250, 400) == pytest.approx(5e-4 * (0.001 + 0.999 / 2))
    assert rate_at(base, parts, 1199, 400) == pytest.approx(5e-4)
    assert rate_at(base, parts, 1200, 400) == pytest.approx(5e-5)
    assert rate_at(base, parts, 2000, 400) == pytest.approx(5e-6)
    given = {"policy": "poly", "power": 2.0, "min_lr": 1e-5, "by_epoch": True}
    base, parts = parts_of({"optimizer": {"lr": 1e-3}, "lr_config": given, "total_epochs": 10})
    assert rate_at(base, parts, 2000, 400) == pytest.approx((1e-3 - 1e-5) * 0.25 + 1e-5)


def test_every_group_of_parameters_has_its_part_of_the_rate():
    cfg = {"layer_decay_rate": 0.75, "num_layers": 12}
    factors = group_factors({"optim_wrapper": {"constructor": "LayerDecayOptimWrapperConstructor",
                                               "paramwise_cfg": cfg}})  # fmt: skip
    assert factors["layer 0 of layer decay"] == pytest.approx(0.75**13)
    assert factors["layer 13 of layer decay"] == 1
    own = {"paramwise_cfg": {"custom_keys": {"backbone": {"lr_mult": 0.0}}, "bias_lr_mult": 2}}
    assert group_factors({"optimizer": own}) == {"backbone": 0, "bias": 2}
