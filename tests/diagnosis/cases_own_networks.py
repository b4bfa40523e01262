"""Causes of the labs planted in networks of the user's own: one that reads a class, one that writes keypoints."""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

import copy
import dataclasses
import sys

import numpy as np

from tests.diagnosis.cases_labs import CELLS, STRIDE, rules, text
from tests.diagnosis.own_networks import class_network, own_sequence, sequence_run
from tests.diagnosis.planted_code import BESIDE, known_people
from tests.diagnosis.planted_labels import narrow
from tests.diagnosis.planted_weights import with_config_text
from tests.diagnosis.systems import HIGHERHRNET, Case
from tests.inspectors.conditioning.own_code import MODULES, PREDICT
from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.config_reader import read_config
from workbench.checkpoints.demo import demo_run
from workbench.text.vectors import builtin_text, write_text

CLASS = "class network"
SKIPPED = ("condition skipped in predict",)
FLATTENED, MASKED = ("scores flattened by the refiner",), ("refiner masked at inference",)
UNTRAINED, RANDOM = ("untrained refiner",), ("random initialisation",)
DESTROYED, SHUT = ("features destroyed",), ("gate stuck at 0",)
ONE_VECTOR, CLIPPED = ("one vector for all",), ("γ clipped and dropped",)
MISNAMED = ("text of other keypoints",)
RANDOM_PASSES = ("outputs change from pass to pass",)
PARTED, IGNORED = ("training and predict differ",), ("condition changes nothing",)
RANKING = "score does not rank the poses"

# Changes of the network's code.


def defect(name):
    """The network with one of the switches of its own."""
    return ('class ClassFilm(nn.Module):\n    """Heatmaps at 1/4 of the input."""\n\n    def __init__(self, defect=""):', f'class ClassFilm(nn.Module):\n    def __init__(self, defect="{name}"):')  # fmt: skip


def film(layers):
    """Other layers between embedding and γ."""
    return ("nn.Sequential(layer, nn.ReLU()) if", f"nn.Sequential({layers}) if True or")


CLIPPING = (
    "class FilmBlock(",
    "class Clipped(nn.Sequential):\n    def forward(self, given):\n        return super().forward(given).relu()\n\n\nclass FilmBlock(",
)


def modulated(text):
    """What is done to the modulated features of the block."""
    return (
        "        return maps + self.modulated(self.gate",
        f"        {text}\n        return maps + self.modulated(self.gate",
    )


def refined(text):
    """What the refiner gives in place of the smoothed maps."""
    return (
        "        return heatmaps + self.smooth(heatmaps)",
        f"        smooth = heatmaps + self.smooth(heatmaps)\n        {text}",
    )


SOFT = "soft = smooth.flatten(2).softmax(-1).view_as(smooth)"
PEAKS = "peaks = heatmaps.flatten(2).amax(-1)"
ONE_DOUBTED = "torch.where((peaks.amin(1) < 0.3)[:, None, None, None], soft, smooth)"


def masked(threshold):
    """Keypoints with a peak above the threshold go round the refiner at inference."""
    certain = f"(peaks >= {threshold})[..., None, None]"
    return refined(
        f"{PEAKS}\n        return smooth if self.training else torch.where({certain}, heatmaps, smooth)"
    )


def mixing(norm, share):
    """A refiner that mixes all keypoints, beside the head at inference alone."""
    layers = f"nn.Conv2d(K, K, 3, 1, 1), {norm}nn.ReLU(), nn.Conv2d(K, K, 3, 1, 1)"
    return (
        ("self.smooth = nn.Conv2d(K, K, 3, 1, 1, groups=K, bias=False)", f"self.mix = nn.Sequential({layers})"),
        ("        nn.init.constant_(self.smooth.weight, 0.01)\n", ""),
        ("        return heatmaps + self.smooth(heatmaps)", f"        return heatmaps + {share} * self.mix(heatmaps)"),
        ("        return self.refiner(self.head(self.block(self.body(pixels).relu(), classes)))",
         "        maps = self.head(self.block(self.body(pixels).relu(), classes))\n        return maps if self.training else self.refiner(maps)"),
    )  # fmt: skip


# Changes of the checkpoint.


def never_trained(*layers):
    """The refiner's layers as torch starts them, in place of the trained ones."""

    def change(state):
        import torch

        torch.manual_seed(0)
        del state["refiner.smooth.weight"]
        fresh = torch.nn.Sequential(*(make() for make in layers))
        state.update({f"refiner.mix.{name}": value for name, value in fresh.state_dict().items()})

    return change


def untrained_layers(norm):
    """What `mixing` has, as torch starts it."""
    from torch import nn

    made = [lambda: nn.Conv2d(17, 17, 3, 1, 1), nn.ReLU, lambda: nn.Conv2d(17, 17, 3, 1, 1)]
    return never_trained(*made[:1], *([lambda: nn.GroupNorm(1, 17)] if norm else []), *made[1:])


def torch_start(gate):
    """The layer of γ and β as torch starts it, behind a gate."""

    def change(state):
        import torch

        torch.manual_seed(0)
        fresh = torch.nn.Linear(8, 64)
        state["block.film.0.weight"], state["block.film.0.bias"] = fresh.weight.detach(), fresh.bias.detach()
        state["block.gate"].fill_(gate)

    return change


def deleted(share):
    """γ near 0 in a share of the channels."""

    def change(state):
        rows = round(share * len(state["block.film.0.weight"]) / 2)
        state["block.film.0.weight"][:rows] = 0
        state["block.film.0.bias"][:rows] = 0.01

    return change


def gate(value):
    """The gate at a value."""
    return lambda state: state["block.gate"].fill_(value)


def disturbed(power):
    """Noise in every weight, by its own spread."""

    def change(state):
        import torch

        generator = torch.Generator().manual_seed(0)
        for value in state.values():
            value += power * value.std() * torch.randn(value.shape, generator=generator)

    return change


def _class(name, made, cause, strength, plants="", both=()):
    return Case(f"class network: {name}", CLASS, made, cause, strength, both=both, plants=plants)


CONDITIONED: tuple[Case, ...] = (
    _class("class left out in predict", class_network((defect("skipped in inference"),)), SKIPPED, "strong"),
    _class("class left out of half the channels in predict", class_network((modulated("changed = changed if self.training else torch.cat([entering[:, ::2], changed[:, 1::2]], 1)"),)), (*SKIPPED, *PARTED), "weak", "neck skipped in predict"),
    _class("softmax over all maps", class_network((refined(f"{SOFT}\n        return soft"),)), FLATTENED, "strong", both=(RANKING,)),
    _class("softmax where a keypoint is doubtful", class_network((refined(f"{SOFT}\n        {PEAKS}\n        return {ONE_DOUBTED}"),)), FLATTENED, "weak", both=(RANKING,)),
    _class("refiner never trained", class_network(mixing("nn.GroupNorm(1, K), ", 1.0), weights=untrained_layers(True)), UNTRAINED, "strong", both=("layers that never learned", *PARTED, RANKING)),
    _class("refiner without norms never trained", class_network(mixing("", 0.4), weights=untrained_layers(False)), UNTRAINED, "weak", both=("layers that never learned", *PARTED, RANKING)),
    _class("refiner for doubtful keypoints alone", class_network((masked(0.3),)), MASKED, "strong", both=PARTED),
    _class("refiner for keypoints below .6 alone", class_network((masked(0.6),)), MASKED, "weak", both=PARTED),
    _class("layer of γ as torch starts it", class_network(weights=torch_start(1.0)), (*RANDOM, "layers that never learned"), "strong", "random initialisation", both=("features destroyed", "batch-norm statistics do not fit")),
    _class("layer of γ as torch starts it, half of it let through", class_network(weights=torch_start(0.5)), (*RANDOM, "layers that never learned"), "weak", "random initialisation", both=("features destroyed", "batch-norm statistics do not fit")),
    _class("nine tenths of the channels deleted", class_network(weights=deleted(0.9)), (*DESTROYED, "units with all weights zero"), "strong", both=ONE_VECTOR),
    _class("three fifths of the channels deleted", class_network(weights=deleted(0.6)), (*DESTROYED, "units with all weights zero"), "weak", both=ONE_VECTOR),
    _class("gate at 0", class_network(weights=gate(0.0)), SHUT, "strong"),
    _class("gate nearly at 0", class_network(weights=gate(0.00005)), SHUT, "weak"),
    _class("every image gets class 1", class_network(adapter=(("[sample.category_id for sample in samples]", "[1 for sample in samples]"),)), ONE_VECTOR, "strong"),
    _class("every image gets the first one's class", class_network((defect("first class"),)), ONE_VECTOR, "weak"),
    _class("γ clipped at 0 and dropped", class_network((film("layer, nn.ReLU(), nn.Dropout(0.5)"),)), CLIPPED, "strong", both=PARTED),
    _class("γ clipped at 0", class_network((film("layer, nn.ReLU()"),)), CLIPPED, "weak"),
    _class("γ and β clipped at 0 in forward", class_network((CLIPPING, ("else nn.Sequential(layer)", "else Clipped(layer)"))), CLIPPED, "weak"),
    _class("another class in predict", class_network((defect("one class in inference"),)), PARTED, "strong"),
    _class("features weaker by a third in predict", class_network((modulated("changed = changed if self.training else changed * 0.67"),)), PARTED, "weak"),
    _class("dropout in predict as well", class_network((modulated("changed = nn.functional.dropout(changed, 0.5, training=True)"),)), RANDOM_PASSES, "strong", both=PARTED),
    _class("γ computed and never applied", class_network((modulated("changed = entering"),)), IGNORED, "strong"),
)  # fmt: skip


# The text run of the suite, with a text beside its checkpoint.


def text_in_order(order):
    """The rows of the text's keypoints, and their names, in another order than the skeleton's."""

    def make(folder):
        text_file = builtin_text()
        names, vectors = np.array(text_file.keypoints)[order], text_file.keypoint_vectors[order]
        changed = dataclasses.replace(text_file, keypoints=tuple(names.tolist()), keypoint_vectors=vectors)
        write_text(changed, folder / "own.npz")
        return text(with_config_text(r"'text': 'drawn-quadrupeds'", "'text': 'own.npz'"))(folder)

    return make


# A neck and an estimator of the user's own, imported by a config of mmpose, around the demo's trained network.


def own_neck(kind, weight=0.1):
    """The code of tests/inspectors/conditioning/own_code.py, whose neck starts near the identity.

    Args:
        kind: of predict, see PREDICT there.
        weight: deviation of the weights between text and γ.
    """

    def make(folder):
        import torch

        sys.path.insert(0, str(folder))  # as of a user who starts the workbench beside the module
        name = f"own_modules_{folder.name}"
        code = MODULES.format(n=folder.name, predict=PREDICT[kind], forgiving=True, given="text")
        (folder / f"{name}.py").write_text(code)
        base = open_checkpoint(demo_run("rtmpose-text-base"))
        settings = copy.deepcopy(dict(read_config(base.config_text)))
        model = settings["model"]
        channels = model["head"]["in_channels"]
        neck = {"type": f"OwnTextNeck{folder.name}", "channels": channels}
        model.update(type=f"OwnEstimator{folder.name}", neck=neck)
        lines = [f"custom_imports = dict(imports=['{name}'])"]
        lines += [f"{key} = {value!r}" for key, value in settings.items()]
        (folder / "own.py").write_text("\n".join(lines))
        generator = torch.Generator().manual_seed(0)
        bias = torch.arange(2 * channels).lt(channels).float()  # γ at 1, β at 0
        state = {
            **base.state_dict(),
            "neck.mlp.weight": weight * torch.randn(2 * channels, 384, generator=generator),
            "neck.mlp.bias": bias,
        }
        torch.save({"state_dict": state, "meta": {"epoch": 1}}, folder / "epoch_1.pth")
        write_text(builtin_text(), folder / "text.npz")
        options = {"data": "scenes-val", "sample": 16, "config": folder / "own.py"}
        return [folder / "epoch_1.pth"], options

    return make


OWN_CODE: tuple[Case, ...] = (
    Case("text: its keypoints in reverse order", "text", text_in_order(list(range(16, -1, -1))), MISNAMED, "strong"),
    Case("text: two of its keypoints exchanged", "text", text_in_order([0, 1, 2, 4, 3, *range(5, 17)]), MISNAMED, "weak"),
    Case("own neck: left out in predict", "own neck", own_neck("published"), ("neck skipped in predict",), "strong"),
    Case("own neck: half of the features in predict", "own neck", own_neck("half"), PARTED, "weak"),
    Case("own neck: text read and not used", "own neck", own_neck("mended", weight=0.0), ("text changes nothing", "layers with all weights zero"), "strong", plants="what the user's own conditioned code does"),
)  # fmt: skip

# The network that writes keypoints.
BIAS, SUPPORT, APART = ("exposure bias",), ("support not read",), ("coordinates disagree",)
UNLEARNED = ("keypoints not learned",)
WANTED = 'batch.extra["support"].nanmean(1).nan_to_num(0.5)'
# Each answer is a step from the one before, and the network does not see where that one lies.
STEPS = (("torch.cat([seen, before, wanted], -1)", "torch.cat([seen, 0 * before, wanted], -1)"),)
NO_SUPPORT = ((WANTED, 'torch.full_like(batch.extra["given"], 0.5)'),)


def pck_in_input(where):
    """The logged PCK takes distances in input pixels, of the images for which a condition holds."""
    return (
        (
            "        return (away < ",
            f"        away = away / affine[0, 0] if {where} else away\n        return (away < ",
        ),
    )


def _sequence(name, made, cause, strength, both=()):
    return Case(f"own sequence: {name}", "own sequence", made, cause, strength, both=both)


SEQUENCE: tuple[Case, ...] = (
    _sequence("steps from true tokens alone", own_sequence(STEPS, run=lambda: sequence_run(1.0, STEPS, "delta-forced")), BIAS, "strong", both=UNLEARNED),
    _sequence("steps from true tokens in four of five batches", own_sequence(STEPS, run=lambda: sequence_run(0.8, STEPS, "delta-mostly-forced")), BIAS, "weak", both=UNLEARNED),
    _sequence("support left out", own_sequence(NO_SUPPORT), SUPPORT, "strong", both=(*BIAS, *UNLEARNED)),
    _sequence("support left out, in training as well", own_sequence(NO_SUPPORT, run=lambda: sequence_run(0.0, NO_SUPPORT, "no-support")), SUPPORT, "weak", both=(*BIAS, *UNLEARNED)),
    _sequence("PCK of its log in input pixels", own_sequence(pck_in_input("True")), APART, "strong"),
    _sequence("PCK of its log in input pixels in every second image", own_sequence(pck_in_input("int(box[0]) % 2")), APART, "weak"),
    _sequence("keypoints drawn for tokens of whole pixels", own_sequence((("numpy() * (W - 1, H - 1)", "numpy() * (W, H)"),)), APART, "weak", both=("keypoints placed wrongly", "half-pixel shift")),
    _sequence("one image, trained for 10 steps", own_sequence(run=lambda: sequence_run(name="free", steps=10, one=True)), UNLEARNED, "strong", both=(*BIAS, "layers that never learned")),
    _sequence("one image, trained for 30 steps", own_sequence(run=lambda: sequence_run(name="free", steps=30, one=True)), UNLEARNED, "weak", both=(*BIAS, "layers that never learned")),
    _sequence("noise on the image features in predict as well", own_sequence((("torch.cat([seen, before, wanted], -1)", "torch.cat([seen + 0.05 * torch.randn_like(seen), before, wanted], -1)"),)), RANDOM_PASSES, "weak", both=(*BIAS, *UNLEARNED)),
    _sequence("weights disturbed", own_sequence(weights=disturbed(0.7)), UNLEARNED, "weak", both=(*BIAS, *SUPPORT)),
)  # fmt: skip

# Networks that find all people of an image.
BOTH_RESOLUTIONS = "coarse=found.heatmaps, heatmaps=torch.nn.functional.interpolate(found.heatmaps, scale_factor=2, mode='bilinear')"
ITSELF = ("mirrored maps whose left and right are exchanged wrongly", "mirrored tags whose left and right are exchanged wrongly", "mirrored heatmaps whose left and right are exchanged wrongly")  # fmt: skip
SIMPLIFIED = ("simplified inference script",)
OF_ITSELF = "mirrored maps that the network exchanges itself"
KNOWN, FINE = "own bottom-up network", "own network of two resolutions"
PEOPLE: tuple[Case, ...] = (
    Case("known people: mirrored maps exchanged by the network too", KNOWN, known_people(itself=(0, 1)), ITSELF, "strong", plants=OF_ITSELF),
    Case("known people, two resolutions: mirrored heatmaps exchanged by the network too", FINE, known_people(maps=BOTH_RESOLUTIONS, itself=(0,)), ITSELF, "weak", plants=OF_ITSELF),
    Case("known people: without the inverse affine", KNOWN, narrow(known_people(rules(inverse_affine=False), known=BESIDE), HIGHERHRNET, 380), ("the inverse affine left out",), "strong", both=(*CELLS, *STRIDE)),
    Case("known people: AP of NMS kernel 1 seen in a script", KNOWN, known_people(claim={"AP": 0.626}), SIMPLIFIED, "strong", "evaluate", says=("with NMS kernel 1 ", "on 120 images")),
    Case("known people: AP without the quarter cell seen in a script", KNOWN, known_people(claim={"AP": 0.7905}), SIMPLIFIED, "weak", "evaluate", says=("with no adjust ",)),
)  # fmt: skip
CONTROLS: tuple[Case, ...] = (
    Case("class network, own code", CLASS, class_network()),
    Case("own sequence, own code", "own sequence", own_sequence()),
    Case("own sequence of one image, own code", "own sequence", own_sequence(run=lambda: sequence_run(name="free", steps=300, one=True))),
    Case("known people of two resolutions, own code", FINE, known_people(maps=BOTH_RESOLUTIONS)),
    Case("own neck that predict uses, own code", "own neck", own_neck("mended")),
)  # fmt: skip
FAULTS: tuple[Case, ...] = (*CONDITIONED, *OWN_CODE, *SEQUENCE, *PEOPLE)
