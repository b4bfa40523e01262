"""What an mmpose config says about training is used, or named as not used; faults in it are told."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.training.tiny import Tiny, picture
from workbench.core import Codec
from workbench.training.config_recipe import encoder_text, recipe_of, schedule_of, written_codec
from workbench.training.overfit import overfit
from workbench.training.plan import Plan
from workbench.training.settings import Settings
from workbench.training.settings import schedule_factor as factor
from workbench.training.switches import suspected
from workbench.training.trainer import new_average, new_optimizer, parameter_groups
from workbench.training.verdict import CONFIG_WRONG, Evidence, headline, judge

STEPS = 80
ENCODER = {"type": "MSRAHeatmap", "input_size": (32, 32), "heatmap_size": (16, 16), "sigma": 1}


def config(**changes):
    """Of a healthy training: 40 epochs, 4,000 steps, 100 of them warm-up."""
    steps = [
        {"type": "LoadImage"},
        {"type": "RandomFlip"},
        {"type": "TopdownAffine", "input_size": (32, 32)},
        {"type": "GenerateTarget", "encoder": changes.pop("encoder", ENCODER)},
    ]
    return {
        "train_cfg": {"max_epochs": 40, "by_epoch": True},
        "optim_wrapper": {
            "type": "OptimWrapper",
            "optimizer": {"type": "AdamW", "lr": 4e-3, "weight_decay": 0.05, "betas": (0.9, 0.99)},
            "clip_grad": {"max_norm": 35, "norm_type": 2},
            "paramwise_cfg": {"norm_decay_mult": 0, "bias_decay_mult": 0},
        },
        "param_scheduler": [
            {"type": "LinearLR", "start_factor": 0.01, "begin": 0, "end": 100, "by_epoch": False},
            {"type": "CosineAnnealingLR", "T_max": 3900, "begin": 100, "end": 4000, "by_epoch": False},
        ],
        "custom_hooks": [{"type": "EMAHook", "ema_type": "ExpMomentumEMA", "momentum": 2e-4}],
        "train_dataloader": {"batch_size": 64, "dataset": {"pipeline": steps}},
        **changes,
    }


def with_optimizer(**changes):
    made = config()
    return {**made, "optim_wrapper": {**made["optim_wrapper"], **changes}}


def recipe(of, model=None):
    model = model or Tiny()
    return recipe_of(of, model.module, model.codec, Settings(steps=STEPS))


def test_a_healthy_config_is_used_whole_and_nothing_is_wrong_with_it():
    made = recipe(config())
    settings = made.settings
    assert (settings.optimizer, settings.learning_rate, settings.weight_decay) == ("adamw", 4e-3, 0.05)
    assert settings.optimizer_options["betas"] == [0.9, 0.99]
    assert (settings.clip, settings.ema, settings.ema_warm_up) == (35, pytest.approx(0.9998), 2000)
    assert made.wrong == ()
    assert "pipeline RandomFlip (the image is used unchanged)" in made.unused
    assert "batches of 64" in made.unused
    assert any(one.startswith("schedule LinearLR and CosineAnnealingLR, 4000 steps") for one in made.used)


def test_the_whole_schedule_is_gone_through_in_the_steps_there_are():
    settings = recipe(config()).settings
    rates = [factor(settings, step) for step in range(STEPS)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert rates.index(max(rates)) <= round(STEPS * 100 / 4000)
    assert rates[-1] < 0.01


def test_epochs_and_milestones_are_compressed_too():
    schedule = [{"type": "MultiStepLR", "milestones": [20, 30], "gamma": 0.1, "by_epoch": True, "end": 40}]
    settings = recipe(config(param_scheduler=schedule)).settings
    assert [round(factor(settings, s), 3) for s in (0, 39, 40, 59, 60, 79)] == [1, 1, 0.1, 0.1, 0.01, 0.01]


def test_a_schedule_that_mmengine_refuses_is_told_with_its_reason_and_what_to_do():
    # RTMO's published configs raise the rate in this way; mmengine 0.10 allows no factor above 1.
    schedule = [{"type": "ConstantLR", "by_epoch": True, "factor": 2.5, "begin": 28, "end": 29}]
    with pytest.raises(
        ValueError, match=r"ConstantLR cannot be used, mmengine 0.*between 0 and 1; correct it, or"
    ):
        recipe(config(param_scheduler=schedule))


def test_targets_of_another_codec_are_suspected_before_what_might_learn_in_spite_of_them():
    model = Tiny()
    other = Plan(
        Settings(steps=STEPS, warm_up=STEPS), codec=dataclasses.replace(model.codec, sigma=(6.0, 6.0))
    )
    assert [switch.name for switch in suspected(model, other)][:2] == ["codec", "schedule"]
    same = dataclasses.replace(other, codec=model.codec)
    assert suspected(model, same)[0].name == "schedule"


@pytest.mark.parametrize("steps", [20, 60, 100, 200, 400])
@pytest.mark.parametrize(("epochs", "warm_up", "start"), [(210, 500, 1e-3), (420, 1000, 1e-5)])
@pytest.mark.parametrize("kind", ["LinearLR", "ConstantLR"])
def test_a_warm_up_shorter_than_a_step_of_the_attempt_ends(kind, epochs, warm_up, start, steps):
    start_of = {"LinearLR": "start_factor", "ConstantLR": "factor"}[kind]
    schedule = [
        {"type": kind, "begin": 0, "end": warm_up, start_of: start, "by_epoch": False},
        {"type": "MultiStepLR", "milestones": [epochs * 0.8], "end": epochs, "by_epoch": True},
    ]
    rates = schedule_of(
        {"train_cfg": {"max_epochs": epochs}, "param_scheduler": schedule}, steps, 2e-3, [], [], []
    )["rates"]
    last = round(steps * 0.8)
    assert rates[0] == pytest.approx(start)
    assert rates[1:last] == pytest.approx([1] * (last - 1))
    assert rates[last:] == pytest.approx([0.1] * (steps - last))


def test_the_last_rate_of_a_cosine_is_a_rate_and_no_factor():
    schedule = [{"type": "CosineAnnealingLR", "T_max": 40, "eta_min": 2e-3, "by_epoch": True}]
    settings = recipe(config(param_scheduler=schedule)).settings
    assert factor(settings, STEPS - 1) == pytest.approx(0.5, abs=0.01)


def test_parameter_groups_are_mmengines():
    model = Tiny()
    paramwise = {"norm_decay_mult": 0, "bias_decay_mult": 0, "custom_keys": {"7": {"lr_mult": 0.1}}}
    settings = recipe(with_optimizer(paramwise_cfg=paramwise), model).settings
    by_name = {id(p): name for name, p in model.module.named_parameters()}
    found = {
        by_name[id(p)]: (group["lr"] / settings.learning_rate, group["weight_decay"])
        for group in parameter_groups(model.module, settings)
        for p in group["params"]
    }
    assert found["0.weight"] == (1, 0.05)
    assert found["1.weight"] == (1, 0)
    assert found["0.bias"] == (1, 0)
    assert found["7.weight"] == (pytest.approx(0.1), 0.05)


def test_without_rules_every_parameter_decays_alike():
    settings = recipe(with_optimizer(paramwise_cfg=None)).settings
    assert {g["weight_decay"] for g in parameter_groups(Tiny().module, settings)} == {0.05}


def test_averaged_weights_follow_the_others_at_first():
    settings = dataclasses.replace(Settings(), ema=0.9998, ema_warm_up=2000)
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    average = new_average(net, settings)
    average.update_parameters(net)  # the first one copies
    torch.nn.init.ones_(net.weight)
    average.update_parameters(net)
    # mmengine: momentum (1 - m) exp(-(1 + 1) / gamma) + m
    assert average.module.weight.item() == pytest.approx(0.9998 * 2.718281828 ** (-2 / 2000) + 2e-4, rel=1e-4)


def test_options_of_the_optimizer_arrive():
    net = torch.nn.Linear(2, 2)
    settings = Settings(optimizer="sgd", optimizer_options={"momentum": 0.5, "nesterov": True})
    made = new_optimizer(parameter_groups(net, settings), settings)
    assert made.param_groups[0]["momentum"] == 0.5
    assert made.param_groups[0]["nesterov"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": {"type": "Lion", "lr": 1e-4}}, "optimizer Lion (AdamW instead)"),
        ({"type": "AmpOptimWrapper"}, "mixed precision"),
        ({"accumulative_counts": 4}, "accumulated gradients"),
        ({"constructor": "LayerDecayOptimWrapperConstructor"}, "LayerDecayOptimWrapperConstructor"),
    ],
)
def test_what_cannot_be_used_is_named(changes, words):
    assert any(words in one for one in recipe(with_optimizer(**changes)).unused)


def with_test_pipeline(*steps):
    return config(val_dataloader={"dataset": {"pipeline": list(steps)}})


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (
            with_optimizer(clip_grad={"type": "value", "clip_value": 1e-10}),
            "every value of the gradient is clipped to 1e-10, far below eps of adamw (1e-08)",
        ),
        (
            with_optimizer(clip_grad={"clip_value": 1e-9}, optimizer={"type": "SGD", "lr": 0.01}),
            "at the rate 0.01 a step moves a weight by 1e-11 at most",
        ),
        (
            {**with_optimizer(accumulative_counts=900), "train_cfg": {"max_iters": 900, "by_epoch": False}},
            "accumulated over 900 steps and the run has 900",
        ),
        (
            with_optimizer(accumulative_counts=50_000),
            "accumulated over 50000 steps, more than a run of 20000",
        ),
        (
            config(model={"head": {"loss": {"type": "KeypointMSELoss", "loss_weight": 0}}}),
            "the weight of the head's loss KeypointMSELoss is 0",
        ),
        (
            config(model={"head": {"loss": {"type": "KeypointMSELoss", "loss_weight": 1e-12}}}),
            "a gradient of 1 is then far below eps of adamw (1e-08)",
        ),
        (
            with_test_pipeline({"type": "TopdownAffine", "input_size": [32, 32], "use_udp": True}),
            "use_udp of TopdownAffine is False in the training pipeline and True in the test pipeline",
        ),
        (
            with_test_pipeline({"type": "mmpose.TopdownAffine", "input_size": (48, 32)}),
            "input_size of TopdownAffine is [32, 32] in the training pipeline and [48, 32] in the test",
        ),
    ],
)
def test_what_an_attempt_cannot_show_is_told_before_it(of, words):
    (text,) = recipe(of).wrong
    assert words in text


@pytest.mark.parametrize(
    ("of", "named"),
    [
        (with_optimizer(clip_grad={"type": "value", "clip_value": 0.5}), "clip_grad (by value)"),
        (with_optimizer(accumulative_counts=4), "accumulated gradients"),
        (config(model={"head": {"loss": {"type": "KLDiscretLoss", "loss_weight": 500}}}), "loss_weight 500"),
        (config(model={"head": {"loss": {"type": "KLDiscretLoss", "loss_weight": 1.0}}}), ""),
        (config(model={"head": {"loss": {"type": "KeypointMSELoss", "use_target_weight": True}}}), ""),
        (config(model={"head": {"loss": {"type": "KeypointMSELoss"}}}), "use_target_weight False"),
        (
            config(model={"head": {"loss": {"type": "KeypointOHKMMSELoss", "use_target_weight": True}}}),
            "loss KeypointOHKMMSELoss (mean squared error instead)",
        ),
        (config(auto_scale_lr={"enable": True, "base_batch_size": 512}), "base batch size 512"),
        (config(auto_scale_lr={"base_batch_size": 512}), ""),
        (with_test_pipeline({"type": "TopdownAffine", "input_size": [32, 32]}), ""),
    ],
)
def test_healthy_twins_are_not_accused(of, named):
    made = recipe(of)
    assert made.wrong == ()
    more = {*made.unused} - {*recipe(config()).unused}
    assert len(more) == bool(named)
    assert all(named in one for one in more)


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "subprocess.Popen", "args": ["touch", "/tmp/never"]},
        {"type": "os.system", "command": "touch /tmp/never"},
        {"type": "mmengine.runner.Runner"},
    ],
)
def test_nothing_that_a_config_names_is_built_but_what_is_listed(entry):
    made = recipe(config(param_scheduler=[entry], custom_hooks=[entry]))
    assert made.settings.rates == ()
    assert any(entry["type"].rpartition(".")[2] in one for one in made.unused)
    made = recipe(with_optimizer(optimizer=entry, constructor=entry["type"]))
    assert made.settings.optimizer == "adamw"


@pytest.mark.parametrize("value", ["fast", True, float("nan"), None])
def test_a_rate_that_is_no_number_is_one_sentence(value):
    with pytest.raises(ValueError, match=r"optimizer\.lr: expected a number"):
        recipe(with_optimizer(optimizer={"type": "AdamW", "lr": value}))


def test_a_warm_up_that_outlasts_the_run_is_told():
    schedule = config()["param_scheduler"]
    long = [{**schedule[0], "end": 1_000_000}, schedule[1]]
    (text,) = recipe(config(param_scheduler=long)).wrong
    assert "ends after 1000000 steps, the run has 4000" in text
    learned = judge([{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.1, "pck": 1.0, "pck_train": 1.0}])
    said = headline(learned, [Evidence(text, name=CONFIG_WRONG)])
    assert said == ("learned, but the training as configured has a fault: the warm-up is longer than the run")
    assert headline(learned, [Evidence("large input", remark=True)]) == "learned"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heatmap_size": (8, 8)}, "output size (8, 8) against (16, 16)"),
        ({"sigma": 3}, "sigma (3.0, 3.0) against (1.0, 1.0)"),
        ({"type": "UDPHeatmap"}, "udp True against False"),
    ],
)
def test_an_encoder_that_is_not_the_heads_decoder_is_told(changes, words):
    (text,) = recipe(config(encoder={**ENCODER, **changes})).wrong
    assert words in text


def test_a_decoder_that_only_reads_more_finely_is_no_other_codec():
    made = Codec("heatmap", (32, 32), (16, 16), sigma=(1.0, 1.0), decoder="quarter")
    assert encoder_text(dataclasses.replace(made, decoder="dark", blur_kernel=7), made) == ""
    assert encoder_text(None, made) == ""


def test_targets_are_written_with_the_pipelines_codec_where_the_head_can_answer_them():
    model = Tiny()
    other = recipe(config(encoder={**ENCODER, "input_size": (48, 48)}), model)
    assert written_codec(other, model).input_size == (48, 48)
    assert written_codec(recipe(config(), model), model) is None
    assert written_codec(recipe(config(encoder={**ENCODER, "heatmap_size": (8, 8)}), model), model) is None


def attempt(of):
    model = Tiny()
    made = recipe(of, model)
    settings = dataclasses.replace(made.settings, measure_every=STEPS)
    plan = Plan(settings, codec=written_codec(made, model))
    return overfit(model, [picture()], plan, recipe=made)


def test_a_healthy_config_learns():
    report = attempt(config())
    assert report.verdict.learned, report.summary()
    assert report.evidence == ()
    assert report.to_json()["config_used"]


@pytest.mark.parametrize(
    ("of", "culprit"),
    [
        (with_optimizer(clip_grad={"max_norm": 1e-9}), "clip"),
        (with_optimizer(paramwise_cfg={"custom_keys": {"": {"lr_mult": 0.0}}}), "parameter groups"),
        (
            config(
                param_scheduler=[
                    {"type": "LinearLR", "start_factor": 1e-9, "end": 10**9, "by_epoch": False},
                    config()["param_scheduler"][1],
                ]
            ),
            "schedule",
        ),
        (config(encoder={**ENCODER, "input_size": (48, 48)}), "codec"),
    ],
    ids=["clip 1e-9", "lr_mult 0", "warm-up of a billion steps", "another codec"],
)
def test_a_fault_of_the_config_is_named(of, culprit):
    report = attempt(of)
    assert not report.verdict.learned
    assert report.culprit == culprit, report.summary()


def test_a_learning_rate_far_too_high_is_named():
    with pytest.raises(ValueError, match=r"learning rate \(3e\+20\) is too high"):
        attempt(with_optimizer(optimizer={"type": "AdamW", "lr": 3e20}))
