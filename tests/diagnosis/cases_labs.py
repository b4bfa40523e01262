"""Plantings of grouping, sequence and conditioning: what the labs name."""

# ruff: noqa: E501 - one case a line
from __future__ import annotations

from tests.diagnosis.planted_code import known_people, whole_images
from tests.diagnosis.planted_labels import narrow
from tests.diagnosis.planted_weights import checkpoint, edited, noisy, state, with_config_text, with_defects
from tests.diagnosis.systems import CAPE, HIGHERHRNET, TEXT, Case
from workbench.checkpoints.demo import demo_checkpoints, demo_run

BACK = ("mirrored maps whose left and right are not exchanged back",)
SUPPORT, BIAS, APART = ("support not read",), ("exposure bias",), ("coordinates disagree",)
UNLEARNED = ("keypoints not learned",)
# The tags of the small demo tell few people apart, so that neighbours of a fault may be named with it.
CELLS, STRIDE = ("cells placed off",), ("a wrong stride",)
SHIFTED = "torch.nn.functional.pad({0}, ({1}, 0, {1}, 0))[..., :{0}.shape[-2], :{0}.shape[-1]]"
HALVED = "torch.nn.functional.pad({0}[..., ::2, ::2], (0, {0}.shape[-1] // 2, 0, {0}.shape[-2] // 2))"


def maps(change, *names):
    """The same change of several outputs of the network."""
    return ", ".join(f"{name}=" + change.replace("{0}", f"found.{name}") for name in names)


def rules(**changes):
    """Other rules of the aggregation."""
    listed = ", ".join(f"{name}={value!r}" for name, value in changes.items())
    return f"aggregation=dataclasses.replace(model.aggregation, {listed})"


ALL = ("heatmaps", "coarse", "tags")
SIDES = maps("{0}[:, mirror]", "heatmaps", "tags")


def sequence(run, epoch=-1):
    """A checkpoint of one of the sequence runs."""
    return lambda folder: ([demo_checkpoints(run)[epoch]], {"data": "scenes-val"})


def text(*changes):
    """The healthy text run with its content changed, on few instances: a network that is slow to examine."""

    def make(folder):
        def change(content):
            for one in changes:
                one(content)

        return [edited(folder, change, TEXT.last())], {"data": "scenes-val", "sample": 16}

    return make


def switched(pattern, new):
    return text(with_config_text(pattern, new))


def untouched_refiner(content):
    """The refiner's normalisation holds what it starts with."""
    weights = state(content)
    for name in [n for n in weights if n.startswith("head.refiner") and n.endswith(".1.weight")]:
        weights[name].fill_(1.0)
        weights[name.replace("weight", "bias")].zero_()


def random_start(content):
    """The layer that reads the text is as torch starts it."""
    import torch

    weights, generator = state(content), torch.Generator().manual_seed(0)
    for name in ("neck.global_mlp.0.weight", "neck.global_mlp.0.bias"):
        bound = weights["neck.global_mlp.0.weight"].shape[1] ** -0.5
        weights[name].uniform_(-bound, bound, generator=generator)


def shut(value):
    """A learned gate that was driven to this value."""

    def change(content):
        import torch

        with_config_text(r"'gate': 'none'", "'gate': 'learned'")(content)
        state(content)["neck.film_gate"] = torch.tensor(value)

    return change


def deleted(share):
    """γ near 0 in a share of the channels."""

    def change(content):
        weights = state(content)
        weight, bias = weights["neck.global_mlp.0.weight"], weights["neck.global_mlp.0.bias"]
        channels = len(weight) // 2
        weight[: round(share * channels)] = 0
        bias[: round(share * channels)] = 0.01

    return change


FAULTS: tuple[Case, ...] = (
    Case("people: mirrored maps as they come", "own bottom-up network", known_people(rules(mirror_swap="neither")), BACK, "strong"),
    Case("people: mirrored heatmaps as they come", "own bottom-up network", known_people(rules(mirror_swap="tags")), BACK, "weak"),
    Case("people: one cell right and down", "higherhrnet", whole_images(maps=maps(SHIFTED.replace("{1}", "1"), "heatmaps")), CELLS, "weak", plants="offset and placing"),
    Case("people: maps read with half the stride", "higherhrnet", whole_images(maps=maps(HALVED, *ALL)), STRIDE, "strong", plants="stride"),
    Case("people: sides exchanged", "own bottom-up network", known_people(maps=SIDES), ("left and right exchanged", "keypoint order permuted"), "strong"),
    Case("people: without the inverse affine", "higherhrnet", narrow(whole_images(change=rules(inverse_affine=False)), HIGHERHRNET, 380), ("the inverse affine left out",), "strong", both=(*CELLS, *STRIDE)),
    Case("people: scores of filled keypoints", "higherhrnet", whole_images(change="grouping=dataclasses.replace(model.grouping, person_score='filled', fill_weight=0.0)"), ("person scores taken after refine",), "weak"),
    Case("people: AP of NMS kernel 1 seen in a script", "higherhrnet", lambda folder: ([demo_run("higherhrnet-demo")], {"data": "scenes-people-val", "claim": {"AP": 0.048}}), ("simplified inference script",), "strong", "evaluate", both=("left/right pairs collapsed",), says=("with NMS kernel 1 ", "on 120 images")),
    Case("cape, epoch 10: teacher forcing alone", "cape", sequence("cape-demo", 0), BIAS, "strong", both=(*SUPPORT, *UNLEARNED)),
    Case("cape, epoch 40: teacher forcing alone", "cape", sequence("cape-demo"), BIAS, "weak", both=SUPPORT),
    Case("cape: support discarded", "cape", checkpoint(with_defects("support_discarded"), CAPE), SUPPORT, "strong", both=(*BIAS, *UNLEARNED)),
    Case("cape: support mask inverted", "cape", checkpoint(with_defects("support_mask_inverted"), CAPE), SUPPORT, "weak", both=(*BIAS, *UNLEARNED)),
    Case("cape: PCK of its log in input pixels", "cape", checkpoint(with_defects("pck_in_input_pixels"), CAPE), APART, "strong", says=("^logged PCK",)),
    Case("cape: weights disturbed", "cape", checkpoint(noisy("", 1.5), CAPE), UNLEARNED, "strong", both=(*BIAS, *SUPPORT)),
    Case("text: neck skipped in predict", "text", switched(r"'fuse_in_predict': True", "'fuse_in_predict': False"), ("neck skipped in predict",), "strong"),
    Case("text: softmax on all vectors", "text", switched(r"'softmax': 'none'", "'softmax': 'all'"), ("scores flattened by the refiner",), "strong", both=("score does not rank the poses", "training and predict differ")),
    Case("text: one sentence for all", "text", switched(r"'text': 'drawn-quadrupeds'", "'text': 'drawn-quadrupeds/horse'"), ("one vector for all",), "strong"),
    Case("text: every image reads the first one's text", "text", switched(r"'text_from': 'each'", "'text_from': 'first'"), ("one vector for all",), "weak"),
    Case("text: gate at 0", "text", text(shut(0.0)), ("gate stuck at 0",), "strong"),
    Case("text: text layer as torch starts it", "text", text(random_start), ("random initialisation", "layers that never learned"), "strong", both=("features destroyed", "batch-norm statistics do not fit")),
)  # fmt: skip

HELD_OUT: tuple[Case, ...] = (
    Case("held: people, mirrored heatmaps as they come", "higherhrnet", whole_images(change=rules(mirror_swap="tags")), BACK, "strong"),
    Case("held: people, two cells right and down", "higherhrnet", whole_images(maps=maps(SHIFTED.replace("{1}", "2"), "heatmaps")), CELLS, "strong", plants="offset and placing"),
    Case("held: people, epoch 30, sides exchanged", "higherhrnet", whole_images(maps=SIDES, epoch=-2), ("left and right exchanged",), "weak"),
    Case("held: people, epoch 30, BGR", "higherhrnet", whole_images(1.0, "bgr=True", epoch=-2), ("blue and red exchanged (BGR for RGB)",), "strong"),
    Case("held: cape, loss in its log times 5", "cape", checkpoint(with_defects("logged_loss_scaled"), CAPE), ("loss in the log is scaled",), "weak", says=("it is 5 times the mean error",)),
    Case("held: cape, weights a little disturbed", "cape", checkpoint(noisy("", 0.5, 3), CAPE), UNLEARNED, "weak", both=(*BIAS, *SUPPORT)),
    Case("held: text, refiner never trained", "text", text(untouched_refiner), ("untrained refiner",), "strong", both=("layers that never learned",)),
    Case("held: text, softmax on doubtful vectors", "text", switched(r"'softmax': 'none'", "'softmax': 'uncertain'"), ("scores flattened by the refiner",), "weak", both=("score does not rank the poses", "training and predict differ")),
    Case("held: text, refiner on doubtful keypoints alone", "text", switched(r"'mask': 'all'", "'mask': 'uncertain'"), ("refiner masked at inference",), "weak"),
    Case("held: text, γ clipped at 0", "text", switched(r"'mlp': 'linear'", "'mlp': 'linear-relu-dropout'"), ("γ clipped and dropped",), "weak"),
    Case("held: text, most channels deleted", "text", text(deleted(0.9)), ("features destroyed", "units with all weights zero"), "strong", both=("one vector for all",)),
)  # fmt: skip
