"""Plantings of trainings: logs in two formats, configs, scripts, runs really trained so, and level train."""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

from tests.diagnosis.planted_code import HRNET_W32, published, vitpose_config
from tests.diagnosis.planted_logs import (
    as_events,
    begun_anew_at,
    csv_logged,
    ended_at,
    flat_at,
    logged,
    loss_times,
    mmcv_logged,
    nan_from,
    opposed,
    overfitted,
    overflows,
    own_yaml,
    per_epoch_steps,
    rate_of,
    rate_times,
    repeating,
    rising,
    standing_still,
    steady_scale,
    stepped,
    warm_up_of,
    warmed_again,
    with_data,
    without_gradient,
)
from tests.diagnosis.planted_trainings import (
    DATA_SET,
    EVALUATING,
    LIGHTNING,
    MIRRORED,
    SIMCC,
    UNCLEARED,
    code,
    own_training,
    really_trained,
    script,
)
from tests.diagnosis.systems import HIGHERHRNET, VITPOSE, Case
from workbench.checkpoints.demo import demo_checkpoints, demo_log

RATE = ("learning rate is not the config's",)
ANEW = (*RATE, "resume restarted the schedule", "training began anew")
WARM = (
    "warm-up longer than the run",
    "warm-up is long for this run",
    "warm-up or schedule keeps the learning rate too small",
)
DECAY, CLIP = ("weight decay on norms and biases",), ("gradient clipping too small",)
FLAT, NAN = ("training loss does not fall",), ("not finite",)
SCALED, HALF = ("loss in the log is scaled",), ("half precision overflows in training",)
ORDERED, KEPT = ("training data not shuffled",), ("gradients are not cleared",)
EVAL = ("network is trained in evaluation mode", "batch-norm statistics not updated")
MISSING = (
    "optimizer misses parameters",
    "layers that never learned",
    "weights that are not trained",
    "parts of the network get a learning rate near 0",
)
OVERFITS = ("loss falls while the metric does not", "validation loss far above training loss")
OPPOSED, OTHER_LOG = ("AP and AR go opposite ways",), ("log of another run",)
OWN_DATA, WRONG_RATE = ("validated on the training data",), ("learning rate too high or too low",)
NO_DECAY_RULE = (r"paramwise_cfg=dict\([^)]*\),", "")
APART = ("augmentation changes image and keypoints differently",)
AMP = (r"optim_wrapper = dict\(", "optim_wrapper = dict(dtype='float16', ")
STILL, SHORT = ("every evaluation gives the same figures",), ("the schedule ends before the run",)
AGAINST_ITSELF = "config against itself"
COSINE = "dict(type='CosineAnnealingLR', T_max=210, begin=0, end=210, by_epoch=False)"
SCHEDULER = "    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)\n"
VALIDATE = "def validate(model, images):\n    model.eval()\n    return model(images)\n\ndef train(model"
FROZEN = "self.requires_grad_(False); self.head.bias.requires_grad_(True)"

FAULTS: tuple[Case, ...] = (
    # Logs as Lightning writes them.
    Case("csv: a tenth of the rate", "csv logs", csv_logged(rate_times(0.1)), RATE, "strong", "files", plants="learning rate 10 times off", says=(r"base rate 0\.1 times",)),
    Case("csv: schedulers once an epoch", "csv logs", csv_logged(rate_of(per_epoch_steps)), RATE, "strong", "files", plants="schedule per epoch instead of iteration", says=("schedulers stepped once an epoch",)),
    Case("csv: schedule begun anew", "csv logs", csv_logged(begun_anew_at(0.5)), ANEW, "strong", "files", plants="resume restarted the schedule", says=("the schedule begun anew",)),
    Case("csv: warm-up of 1.3 times the run", "csv logs", csv_logged(warm_up_of(1.3)), WARM, "weak", "files", both=RATE, plants="warm-up longer than the run"),
    Case("csv: decay on norms and biases", "csv logs", csv_logged(None, NO_DECAY_RULE), DECAY, "weak", "files", says=("norm and bias",)),
    Case("csv: clipping at .003", "csv logs", csv_logged(None, (r"max_norm=35", "max_norm=0.003")), CLIP, "weak", "files", says=(r"clipped at 0\.003:",)),
    Case("csv: loss times 5", "csv logs", csv_logged(loss_times(5.0)), SCALED, "strong", "files", says=("is 5 times the sum",)),
    Case("csv: half precision overflows often", "csv logs", csv_logged(overflows(0.2, 2), AMP), HALF, "strong", "files", both=NAN),
    Case("csv: loss stays", "csv logs", csv_logged(flat_at(0.39)), FLAT, "strong", "files"),
    Case("csv: loss nan from the middle on", "csv logs", csv_logged(nan_from(0.5)), NAN, "strong", "files", both=FLAT, says=("140 times, first at epoch 20",)),
    Case("log: loss nan in a twentieth of the rows", "logs", logged(nan_from(0.4, 0.45)), NAN, "weak", "files", says=("14 times",)),
    Case("csv: overfits", "csv logs", csv_logged(overfitted(0.5, 0.6)), OVERFITS, "strong", "files", both=OVERFITS, plants="overfitting"),
    Case("log: overfits a little", "logs", logged(overfitted(0.2, 0.3)), OVERFITS, "weak", "files", both=OVERFITS, plants="overfitting"),
    Case("log: AP falls while AR rises", "logs", logged(opposed), OPPOSED, "strong", "files", both=OVERFITS),
    Case("csv log of another run", "csv logs", lambda folder: ([demo_checkpoints("rtmpose-demo")[-1], *csv_logged(None, log_run="rtmpose-text-base")(folder)[0][:1]], {}), OTHER_LOG, "weak", "files", says=("ends at epoch 5, and",)),
    Case("people: log of another run", "higherhrnet", lambda folder: ([HIGHERHRNET.last(), demo_log("rtmpose-demo")], {}), OTHER_LOG, "strong", "files", says=("ends at epoch 40, and",)),
    # Configs.
    Case("vitpose config: warm-up of 400 epochs", "vitpose config", vitpose_config((r"type='LinearLR', begin=0, end=500, start_factor=0.001,\s+by_epoch=False", "type='LinearLR', begin=0, end=400, start_factor=0.001, by_epoch=True")), WARM, "strong", "files", both=("warm-up differs from the recipe",), plants="warm-up longer than the run", says=("400 epochs, the run has 210",)),
    Case("vitpose config: not shuffled", "vitpose config", vitpose_config((r"shuffle=True", "shuffle=False")), ORDERED, "strong", "files"),
    Case("vitpose config: validated on the training data", "vitpose config", vitpose_config((r"person_keypoints_val2017\.json", "person_keypoints_train2017.json"), (r"img='val2017/'", "img='train2017/'")), OWN_DATA, "strong", "files", both=("tested on the training data",)),
    Case("vitpose config: rate 10 times", "vitpose config", vitpose_config((r"lr=5e-4", "lr=5e-3")), ("learning rate is ten times off its recipe's",), "strong", "files", plants="learning rate 10 times off", says=("10 times as much",)),
    Case("mmcv log and its config: 10 times the rate", "mmcv logs", mmcv_logged(10.0), RATE, "strong", "files", says=("base rate 10 times",)),
    Case("events: stepped twice for each step", "tensorboard", as_events(stepped(2)), RATE, "strong", "files", says=("stepped 2 times for each step",)),
    Case("events: a tenth of the rate", "tensorboard", as_events(rate_times(0.1)), RATE, "strong", "files", says=(r"base rate 0\.1 times",)),
    Case("log: warm-up made again after a resume", "logs", logged(warmed_again), RATE, "weak", "files", says=("a warm-up that was made again",)),
    Case("log: AP never moves", "logs", logged(standing_still(0.0)), STILL, "strong", "files"),
    Case("csv: AP stands still from a third on", "csv logs", csv_logged(standing_still(0.33)), STILL, "weak", "files"),
    Case("log: loss repeats itself in every epoch", "logs", logged(repeating), ORDERED, "strong", "files"),
    Case("csv log and config: cosine over a third of the run", "csv logs", csv_logged(ended_at(2000), (r"T_max=5780", "T_max=1900"), (r"end=5880", "end=2000")), SHORT, "strong", "files", says=("from epoch 13 on",)),
    Case("config: no rate for the head", "logs", logged(None, (r"bias_decay_mult=0,", "bias_decay_mult=0, custom_keys={'head': dict(lr_mult=0)},")), MISSING, "strong", "files", plants="optimizer misses parameters", says=("^head: 0",)),
    Case("vitpose config: layer decay of .1", "vitpose config", vitpose_config((r"layer_decay_rate=0\.8\d*", "layer_decay_rate=0.1")), MISSING, "strong", "files", plants="optimizer misses parameters"),
    Case("hrnet config: cosine of 210 iterations", "hrnet config", published(HRNET_W32, (r"(?s)dict\(\s*type='MultiStepLR'.*?by_epoch=True\)", COSINE)), SHORT, "strong", "files", plants=AGAINST_ITSELF),
    Case("hrnet config: loss weight 0", "hrnet config", published(HRNET_W32, (r"KeypointMSELoss',", "KeypointMSELoss', loss_weight=0.0,")), ("a loss without weight",), "strong", "files", plants=AGAINST_ITSELF, says=("weight 0",)),
    Case("yaml: backbone frozen, at a rate of 0", "yaml", own_yaml(FREEZE="true", RATE="0.0"), MISSING, "strong", "files", plants="optimizer misses parameters", says=("freeze is True", r"lr_backbone is 0\.0",)),
    Case("yaml: validated on the training data", "yaml", own_yaml(SPLIT="train"), OWN_DATA, "strong", "files"),
    # Loops.
    Case("script: outputs detached", "own network", script(("(model(batch) -", "(model(batch).detach() -")), ("no gradient reaches the network",), "strong", "files", says=(r"model\(batch\)\.detach\(\)",)),
    Case("script: scheduler of epochs stepped every batch", "own network", script(("    for epoch in range(10):", SCHEDULER + "    for epoch in range(10):"), ("            optimizer.step()\n", "            optimizer.step()\n            scheduler.step()\n")), ("scheduler counts epochs and is stepped every batch",), "strong", "files", plants="schedule per epoch instead of iteration", says=("length of 10",)),
    Case("script: optimizer made in every epoch", "own network", script(("        for batch in loader:", "        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)\n        for batch in loader:")), ("optimizer is made anew in the loop",), "weak", "files"),
    Case("script: a function leaves evaluation mode behind", "own network", script(("            optimizer.step()\n", "            optimizer.step()\n        validate(model, images)\n"), ("def train(model", VALIDATE)), EVAL, "strong", "files", plants="batch norm in evaluation mode while training", says=(r"by validate\(\)",)),
    Case("script: stem frozen by hand", "own network", script(("    optimizer = torch", "    for p in model.stem.parameters():\n        p.requires_grad = False\n    optimizer = torch")), MISSING, "weak", "files", plants="optimizer misses parameters", says=(r"model\.stem is frozen",)),
    Case("script: gradients never cleared", "own network", script(UNCLEARED), KEPT, "strong", "files", says=("line 11",)),
    Case("script: evaluation mode", "own network", script(EVALUATING), EVAL, "strong", "files", plants="batch norm in evaluation mode while training"),
    Case("script: optimizer of the head", "own network", script(("AdamW(model.parameters()", "AdamW(model.head.parameters()")), MISSING, "strong", "files", plants="optimizer misses parameters", says=(r"model\.head\.parameters",)),
    Case("script: clipped to .0001", "own network", script(("model.parameters(), 1.0", "model.parameters(), 1e-4")), CLIP, "strong", "files", says=(r"norm of 0\.0001",)),
    Case("script: not shuffled", "own network", script(("shuffle=True", "shuffle=False")), ORDERED, "weak", "files", says=("line 6",)),
    # Runs that were really trained so.
    Case("really trained in evaluation mode", "rtmpose", really_trained("evaluation mode"), EVAL, "strong", "files", both=FLAT, plants="batch norm in evaluation mode while training"),
    Case("really trained: head alone", "rtmpose", really_trained("head alone"), MISSING, "strong", "files", both=FLAT, plants="optimizer misses parameters", says=("backbone.stage1, backbone.stage2, backbone.stage3, backbone.stem",)),
    Case("really trained at 10 times the config's rate", "rtmpose", really_trained("rate times 10"), RATE, "strong", "files", both=FLAT, plants="learning rate 10 times off", says=("base rate 10 times",)),
    Case("log: gradients are 0", "logs", logged(without_gradient), ("no gradient reaches the network",), "strong", "files"),
    Case("script: forward without gradients", "own network", script(("            loss = (model(batch) - targets)", "            with torch.no_grad():\n                out = model(batch)\n            loss = (out - targets)")), ("no gradient reaches the network",), "strong", "files", says=(r"torch\.no_grad\(\)",)),
    # Level train.
    # Code that no loop shows: Lightning's training_step, and how a data set makes its samples.
    Case("lightning: gradients never cleared", "lightning", code(LIGHTNING, ("        opt.zero_grad()\n", "")), KEPT, "strong", "files", says=(r"training_step\(\) calls backward", "opt.zero_grad")),
    Case("lightning: loss of outputs that are cut off", "lightning", code(LIGHTNING, ("self.net(images)", "self.net(images).detach()")), ("no gradient reaches the network",), "strong", "files", says=("line 11",)),
    Case("data set: its transform flips the picture alone", "data set code", code(DATA_SET, ("{made}", "image = self.transform(image)"), ("{step}", "A.HorizontalFlip(p=0.5)")), APART, "strong", "files", plants="flip pairs", says=("HorizontalFlip in line 12",)),
    Case("data set: the picture alone is mirrored by hand", "data set code", code(DATA_SET, ("{made}", MIRRORED), ("{step}", "A.Blur()")), APART, "weak", "files", plants="flip pairs", says=("line 10",)),
    Case("trained: gradients never cleared", "own network", own_training(UNCLEARED), KEPT, "strong", "train"),
    Case("trained: one bias learns", "own network", own_training(init=FROZEN), MISSING, "strong", "train", plants="optimizer misses parameters"),
    Case("trained: rate of 5e-7", "own network", own_training(("lr=5e-3", "lr=5e-7")), WRONG_RATE, "strong", "train", plants="learning rate 10 times off"),
    Case("trained: rate of 5", "own network", own_training(("lr=5e-3", "lr=5.0"), ("model.parameters(), 1.0", "model.parameters(), 0.0")), WRONG_RATE, "strong", "train", plants="learning rate 10 times off"),
    Case("trained: SimCC, rate of 5e-7", "own SimCC network", own_training(("lr=5e-3", "lr=5e-7"), kind=SIMCC), WRONG_RATE, "strong", "train", plants="learning rate 10 times off"),
)  # fmt: skip

HELD_OUT: tuple[Case, ...] = (
    Case("held, vitpose config: a tenth of the rate", "vitpose config", vitpose_config((r"lr=5e-4", "lr=5e-5")), ("learning rate is ten times off its recipe's",), "strong", "files", plants="learning rate 10 times off", says=(r"0\.1 times as much",)),
    Case("held, csv: rate 10 times", "csv logs", csv_logged(rate_times(10.0)), RATE, "strong", "files", plants="learning rate 10 times off", says=("base rate 10 times",)),
    Case("held, csv: rate 1.5 times", "csv logs", csv_logged(rate_times(1.5)), RATE, "weak", "files", says=(r"base rate 1\.5 times",)),
    Case("held, log: schedule begun anew after four fifths", "logs", logged(begun_anew_at(0.8)), ANEW, "weak", "files", plants="resume restarted the schedule", says=("the schedule begun anew",)),
    Case("held, csv: warm-up over the whole run", "csv logs", csv_logged(rate_of(rising)), WARM, "strong", "files", both=RATE, plants="warm-up longer than the run"),
    Case("held, csv: decay of .2 on norms", "csv logs", csv_logged(None, (r"norm_decay_mult=0", "norm_decay_mult=1"), (r"weight_decay=0.05", "weight_decay=0.2")), DECAY, "strong", "files", both=("decay",), says=(r"weight_decay=0\.2 acts on norm as well",)),
    Case("held, csv: clipping at .001", "csv logs", csv_logged(None, (r"max_norm=35", "max_norm=0.001")), CLIP, "strong", "files", says=(r"clipped at 0\.001:",)),
    Case("held, csv: loss halved", "csv logs", csv_logged(loss_times(0.5)), SCALED, "weak", "files", says=(r"is 0\.5 times the sum",)),
    Case("held, csv: half precision overflows now and then", "csv logs", csv_logged(overflows(0.05, 5), AMP), HALF, "weak", "files", both=NAN),
    Case("held, log: loss rises a little", "logs", logged(flat_at(0.5, 0.01, 0.01)), FLAT, "weak", "files"),
    Case("held, csv: loss nan in the last tenth", "csv logs", csv_logged(nan_from(0.9)), NAN, "weak", "files"),
    Case("held, csv: overfits a little", "csv logs", csv_logged(overfitted(0.25, 0.4)), OVERFITS, "weak", "files", both=OVERFITS, plants="overfitting"),
    Case("held, log: overfits", "logs", logged(overfitted(0.6, 0.8)), OVERFITS, "strong", "files", both=OVERFITS, plants="overfitting"),
    Case("held, csv: AP falls while AR rises", "csv logs", csv_logged(opposed), OPPOSED, "weak", "files", both=OVERFITS),
    Case("held, vitpose config: trains on its validation", "vitpose config", with_data(vitpose_config((r"person_keypoints_train2017\.json", "person_keypoints_val2017.json"), (r"img='train2017/'", "img='val2017/'")), "scenes-people-val"), OWN_DATA, "strong", "files", both=("tested on the training data",)),
    Case("held, really trained: vitpose, head alone", "vitpose", really_trained("head alone", VITPOSE), MISSING, "weak", "files", both=FLAT, plants="optimizer misses parameters"),
    Case("held, trained: evaluation mode", "own network", own_training(EVALUATING), EVAL, "weak", "train", plants="batch norm in evaluation mode while training"),
    Case("held, trained: clipped to a billionth", "own network", own_training(("AdamW", "SGD"), ("model.parameters(), 1.0", "model.parameters(), 1e-9")), CLIP, "strong", "train"),
    Case("held, trained: SimCC, rate of 5", "own SimCC network", own_training(("lr=5e-3", "lr=5.0"), ("model.parameters(), 1.0", "model.parameters(), 0.0"), kind=SIMCC), WRONG_RATE, "strong", "train", plants="learning rate 10 times off"),
    Case("held, trained: SimCC, gradients never cleared", "own SimCC network", own_training(UNCLEARED, kind=SIMCC), KEPT, "weak", "train"),
    Case("held, trained: SimCC, the head alone learns", "own SimCC network", own_training(kind=SIMCC, init="self.requires_grad_(False); self.x.bias.requires_grad_(True)"), MISSING, "strong", "train", plants="optimizer misses parameters"),
)  # fmt: skip

CONTROLS: tuple[Case, ...] = (
    Case("csv log and config", "csv logs", csv_logged(), level="files"),
    Case("csv: steady loss scale of mixed precision", "csv logs", csv_logged(steady_scale, AMP), level="files"),
    Case("vitpose config as published", "vitpose config", vitpose_config(), level="files"),
    Case("mmcv log and its config", "mmcv logs", mmcv_logged(), level="files"),
    Case("events and config", "tensorboard", as_events(), level="files"),
    Case("yaml of one's own", "yaml", own_yaml(), level="files"),
    Case("script with a scheduler by epoch", "own network", script(("    for epoch in range(10):", SCHEDULER + "    for epoch in range(10):"), ("            optimizer.step()\n", "            optimizer.step()\n        scheduler.step()\n")), level="files"),
    Case("healthy script", "own network", script(), level="files"),
    Case("trained: healthy", "own network", own_training(), level="train"),
    Case("lightning: healthy", "lightning", code(LIGHTNING), level="files"),
    Case("data set: picture and keypoints in one transform", "data set code", code(DATA_SET, ("{made}", "image, keypoints = moved(self.transform(image=image, keypoints=keypoints))"), ("{step}", "A.HorizontalFlip(p=0.5)")), level="files"),
    Case("really trained: healthy", "rtmpose", really_trained(""), level="files"),
)  # fmt: skip
HELD_CONTROLS: tuple[Case, ...] = (
    Case("held: csv log, half the rate in both", "csv logs", csv_logged(rate_times(0.5), (r"lr=0.003", "lr=0.0015"), (r"eta_min=6e-05", "eta_min=3e-05")), level="files"),
    Case("held: vitpose config, batch and rate halved", "vitpose config", vitpose_config((r"batch_size=64", "batch_size=32"), (r"lr=5e-4", "lr=2.5e-4")), level="files"),
    Case("held, really trained: vitpose, healthy", "vitpose", really_trained("", VITPOSE), level="files"),
    Case("held, trained: SimCC, healthy", "own SimCC network", own_training(kind=SIMCC), level="train"),
)  # fmt: skip
