"""Cases of the suite that no threshold was set with: other seeds, other strengths, other runs and pictures.

They are run as they stand. A case that is missed is a result of the suite, and no reason to change a threshold.
"""

# ruff: noqa: E501 - one case a line

from __future__ import annotations

from tests.diagnosis.planted_code import own_code, whole_images
from tests.diagnosis.planted_labels import (
    all_hidden,
    box_corners,
    boxes_of_neighbours,
    duplicated,
    exif_left_behind,
    exif_not_read,
    labelled,
    leaked,
    one_in,
    only_hard,
    other_training_set,
    permuted,
    swapped_share,
)
from tests.diagnosis.planted_logs import logged, loss_times, overflows, rate_times
from tests.diagnosis.planted_results import (
    claimed,
    constant_scores,
    detector_boxes,
    edit_results,
    good_poses,
    good_results,
    other_category,
    other_images,
    part_of,
    repeated,
    results,
    shares,
)
from tests.diagnosis.planted_weights import (
    beside_other_run,
    checkpoint,
    exchanged_average,
    fresh_norms,
    frozen,
    half_overflow,
    in_half,
    missing,
    noisy,
    not_finite,
    scaled,
    statistics_of_first,
    with_earlier,
    with_versions,
    zero_units,
    zeroed,
)
from tests.diagnosis.planting import AMP, nothing
from tests.diagnosis.systems import HIGHERHRNET, NEW_SCENES, OTHER_RTMPOSE, OTHER_VITPOSE, Case
from workbench.checkpoints.demo import demo_run

FAULTS: tuple[Case, ...] = (
    # Weights.
    Case("held: head missing", "vitpose, people", checkpoint(missing("head."), OTHER_VITPOSE, data=False), ("weights only partly loaded", "model cannot be built or run"), "strong"),
    Case("held: infinities in three tensors", "vitpose, people", checkpoint(not_finite(3), OTHER_VITPOSE, data=False), ("weights that are not finite",), "weak", "files"),
    Case("held: half precision overflows", "rtmpose, other run", checkpoint(half_overflow(("head.cls_x.weight",), 3e7), OTHER_RTMPOSE, data=False), ("weights that are not finite",), "strong", "files"),
    Case("held: one classifier zero", "rtmpose, other run", checkpoint(zeroed("head.cls_y.weight"), OTHER_RTMPOSE, data=False), ("layers with all weights zero",), "strong", "files", says=("all zero: head.cls_y.weight",)),
    Case("held: a fifth of the units zero", "rtmpose, other run", checkpoint(zero_units("head.gau.uv.weight", 0.2), OTHER_RTMPOSE, data=False), ("units with all weights zero",), "weak", "files", says=("115 of 576 units",)),
    Case("held: last block never learned", "vitpose, people", with_earlier(frozen("backbone.layers.2", OTHER_VITPOSE), OTHER_VITPOSE, data=False), ("layers that never learned",), "weak", "files", says=(r"\(backbone\.layers\.2\)",)),
    Case("held: statistics of epoch 1", "rtmpose, new scenes", with_earlier(statistics_of_first(0.7, NEW_SCENES), NEW_SCENES, data=False), ("batch-norm statistics not updated",), "strong", "files"),
    Case("held: three quarters of the norms as new", "rtmpose, other run", checkpoint(fresh_norms(0.75), OTHER_RTMPOSE), ("batch-norm statistics do not fit",), "strong"),
    Case("held: average beside", "rtmpose, new scenes", checkpoint(exchanged_average(0.35), NEW_SCENES), ("raw and averaged weights exchanged",), "strong"),
    Case("held: head times 2.5", "vitpose, people", with_earlier(scaled("head.", 2.5), OTHER_VITPOSE, earlier=-2, data=False), ("weights of one part scaled",), "weak", "files", says=(r"^head\.final_layer is 2\.5",)),
    Case("held: attention times 5", "rtmpose, new scenes", with_earlier(scaled("head.gau", 5.0), NEW_SCENES, earlier=-2, data=False), ("weights of one part scaled",), "strong", "files", says=(r"^head\.gau is (4\.[5-9]|5)",)),
    Case("held: noise in stage 1", "rtmpose, new scenes", with_earlier(noisy("backbone.stage1", 1.2, 5), NEW_SCENES, earlier=-2), ("weights of one part disturbed",), "strong"),
    Case("held: noise in block 0", "vitpose, people", with_earlier(noisy("backbone.layers.0", 0.7, 5), OTHER_VITPOSE, earlier=-2), ("weights of one part disturbed",), "weak"),
    Case("held: noise in block 2, against epoch 80", "vitpose, people", beside_other_run(noisy("backbone.layers.2", 1.1, 9), OTHER_VITPOSE), ("weights differ from those of the other run",), "strong"),
    Case("held: mmpose 0.29 with mmcv 2", "rtmpose, other run", checkpoint(with_versions(mmpose="0.29.0", mmcv="2.0.1"), OTHER_RTMPOSE, data=False), ("package versions that do not fit",), "strong", "files", says=(r"mmpose 0\.29\.0 and mmcv 2\.0\.1",)),
    # Input, in the user's own code.
    Case("held: BGR", "rtmpose, other run", own_code(OTHER_RTMPOSE, "bgr=not model.bgr"), ("channel order",), "strong"),
    Case("held: vitpose, BGR", "vitpose, people", own_code(OTHER_VITPOSE, "bgr=True"), ("channel order",), "weak"),
    Case("held: raw pixels", "rtmpose, new scenes", own_code(NEW_SCENES, "mean=(0, 0, 0), std=(1, 1, 1)"), ("normalisation", "value range"), "strong"),
    Case("held: half the std", "vitpose, people", own_code(OTHER_VITPOSE, "std=tuple(v / 2 for v in model.std)"), ("normalisation", "value range"), "weak"),
    Case("held: padding 1.6", "rtmpose, other run", own_code(OTHER_RTMPOSE, "padding=1.6"), ("crop padding",), "weak"),
    Case("held: padding 2", "vitpose, people", own_code(OTHER_VITPOSE, "padding=2.0"), ("crop padding",), "strong"),
    Case("held: EXIF tag left behind in a third", "rtmpose, other run", exif_left_behind(0.33, OTHER_RTMPOSE, 9), ("EXIF rotation not applied",), "strong"),
    Case("held: EXIF not read in a seventh", "results", exif_not_read(0.15, lambda: good_poses(NEW_SCENES.pose_set(), 9), NEW_SCENES, 9), ("EXIF rotation not applied",), "weak"),
    # Output.
    Case("held: no inverse affine", "rtmpose, other run", own_code(OTHER_RTMPOSE, decode="keypoints=(p.keypoints - a[:, 2]) / a[[0, 1], [0, 1]]"), ("keypoints placed wrongly", "own decoding contradicts the codec"), "strong"),
    Case("held: six pixels off", "vitpose, people", own_code(OTHER_VITPOSE, decode="keypoints=p.keypoints - 6 * a[[0, 1], [0, 1]]"), ("keypoints placed wrongly", "own decoding contradicts the codec"), "weak"),
    Case("held: x and y", "rtmpose, new scenes", own_code(NEW_SCENES, decode="keypoints=(((p.keypoints - a[:, 2]) / a[0, 0])[:, ::-1] * a[0, 0]) + a[:, 2]"), ("output axes exchanged", "own decoding contradicts the codec", "width and height exchanged"), "strong"),
    # Labels.
    Case("held: three keypoints rotated", "rtmpose, other run", labelled(permuted([0, 1, 2, 3, 4, 6, 7, 5, *range(8, 17)]), OTHER_RTMPOSE), ("keypoint order permuted",), "weak", says=("3 keypoints are exchanged: L_Elbow is found where L_Shoulder is labelled",)),
    Case("held: COCO's points in reverse", "vitpose, people", labelled(permuted([16 - k for k in range(17)]), OTHER_VITPOSE), ("keypoint order permuted",), "strong", says=(r"\[16, 15, 1",)),
    Case("held: sides swapped in a quarter", "results", good_results(swapped_share(0.25, seed=9), system=NEW_SCENES, seed=9), ("left and right exchanged in part of the labels",), "weak"),
    Case("held: boxes as corners", "vitpose, people", labelled(box_corners, OTHER_VITPOSE), ("annotated boxes", "annotated boxes do not fit their keypoints"), "strong"),
    Case("held: boxes of neighbours", "rtmpose, other run", labelled(boxes_of_neighbours(0.2), OTHER_RTMPOSE), ("annotated boxes", "keypoints outside the box"), "weak", both=("annotated boxes", "keypoints outside the box")),
    Case("held: a fifth annotated twice", "results", good_results(duplicated(0.2, 9, 0.3), system=NEW_SCENES, seed=9), ("instances annotated twice",), "weak"),
    Case("held: all hidden", "results", good_results(all_hidden, system=NEW_SCENES, seed=9), ("visibility",), "weak", both=("annotated boxes",)),
    Case("held: a quarter of the validation in the training", "rtmpose, new scenes", leaked(0.25, NEW_SCENES, seed=9, with_checkpoint=False), ("training images in the validation set",), "strong", "files"),
    # Results.
    Case("held, results: category 7", "vitpose, people", results(other_category, OTHER_VITPOSE), ("wrong category ids",), "strong"),
    Case("held, results: four of five images", "rtmpose, other run", results(part_of(0.8), OTHER_RTMPOSE), ("only part of the images has results",), "weak"),
    Case("held, results: three times", "rtmpose, new scenes", results(repeated(3), NEW_SCENES), ("no NMS: poses found twice",), "strong"),
    Case("held, results: shares of the image", "vitpose, people", results(edit_results(shares(OTHER_VITPOSE)), OTHER_VITPOSE), ("keypoints placed wrongly",), "strong"),
    Case("held, results: 12 % too narrow", "results", good_results(nothing, edit_results(lambda p, e: p * [0.88, 1, 1]), NEW_SCENES, seed=9), ("keypoints placed wrongly",), "weak"),
    Case("held, results: a detector that misses a fifth", "rtmpose, other run", results(detector_boxes(0.25, 0.1, 9), OTHER_RTMPOSE), ("detected boxes in place of annotated ones",), "weak"),
    Case("held, results: scores are distances", "results", good_results(nothing, constant_scores, NEW_SCENES, seed=9), ("score does not rank the poses",), "strong"),
    Case("held, results: sigmas twice as large claimed", "rtmpose, new scenes", claimed(lambda t, d, s, ap: ap(t, d, tuple(2 * v for v in s)).figures["AP"], NEW_SCENES), ("figure comes from other rules",), "weak", says=("with sigmas twice as large;",)),
    Case("held: ids of other images", "vitpose, people", results(other_images, OTHER_VITPOSE), ("results of other images",), "strong"),
    # Training.
    Case("held, log: a fifth of the rate", "logs", logged(rate_times(0.2)), ("learning rate is not the config's",), "strong", "files", says=(r"base rate 0\.2 times",)),
    Case("held, log: 1.5 times the rate", "logs", logged(rate_times(1.5)), ("learning rate is not the config's",), "weak", "files", says=(r"base rate 1\.5 times",)),
    Case("held, config: decay of .1 on biases", "logs", logged(None, (r"bias_decay_mult=0", "bias_decay_mult=1"), (r"weight_decay=0.05", "weight_decay=0.1")), ("weight decay on norms and biases",), "weak", "files", both=("decay",), says=(r"weight_decay=0\.1 acts on bias as well",)),
    Case("held, log: half precision overflows", "logs", logged(overflows(0.12, 9), AMP), ("half precision overflows in training",), "strong", "files", both=("not finite",)),
    Case("held, log: loss times 3", "logs", logged(loss_times(3.0)), ("loss in the log is scaled",), "weak", "files", says=("is 3 times the sum",)),
    Case("held, config: clipping at .003", "logs", logged(None, (r"max_norm=35", "max_norm=0.003")), ("gradient clipping too small",), "strong", "files", says=(r"clipped at 0\.003:",)),
    Case("held, config: not shuffled", "logs", logged(None, (r"round_up=True, shuffle=True", "round_up=True, shuffle=False")), ("training data not shuffled",), "strong", "files"),
    Case("held, people: tags 20 times", "higherhrnet", whole_images(20.0), ("tags of the wrong scale",), "strong"),
)  # fmt: skip

CONTROLS: tuple[Case, ...] = (
    Case("held: other run", "rtmpose, other run", lambda folder: ([OTHER_RTMPOSE.last()], OTHER_RTMPOSE.options())),
    Case("held: own code", "rtmpose, other run", own_code(OTHER_RTMPOSE)),
    Case("held: epoch 20 on new scenes", "rtmpose, new scenes", lambda folder: ([NEW_SCENES.last()], NEW_SCENES.options())),
    Case("held: epoch 5 on new scenes", "rtmpose, new scenes", lambda folder: ([NEW_SCENES.checkpoints()[2]], NEW_SCENES.options())),
    Case("held: people", "vitpose, people", lambda folder: ([OTHER_VITPOSE.last().parent], OTHER_VITPOSE.options())),
    Case("held: people, epoch 40", "vitpose, people", lambda folder: ([OTHER_VITPOSE.checkpoints()[0]], OTHER_VITPOSE.options())),
    Case("held: half precision file", "vitpose, people", checkpoint(in_half, OTHER_VITPOSE)),
    Case("held: results", "rtmpose, new scenes", results(system=NEW_SCENES)),
    Case("held: results of a good model", "results", good_results(nothing, system=NEW_SCENES, seed=9)),
    Case("held: results of a poor model", "results", good_results(nothing, system=NEW_SCENES, seed=10, low=0.08, high=0.15)),
    Case("held: a sixth of the data", "rtmpose, other run", labelled(one_in(6), OTHER_RTMPOSE)),
    Case("held: hard people", "vitpose, people", labelled(only_hard, OTHER_VITPOSE)),
    Case("held: people, epoch 30", "higherhrnet", lambda folder: ([HIGHERHRNET.checkpoints()[2]], HIGHERHRNET.options())),
    Case("held: right figure claimed", "rtmpose, other run", claimed(lambda t, d, s, ap: ap(t, d, s).figures["AP"], OTHER_RTMPOSE)),
    Case("held: log of cape", "logs", lambda folder: ([demo_run("cape-demo-cured") / "log.jsonl"], {}), level="files"),
    Case("held: odd config, SGD without decay", "logs", logged(None, (r"type='AdamW', weight_decay=0.05", "type='SGD', weight_decay=0.0")), level="files"),
    Case("held: versions that go together", "vitpose, people", checkpoint(with_versions(torch="1.13.1", torchvision="0.14.1", mmcv="2.1.0", mmpose="1.3.1"), OTHER_VITPOSE, data=False), level="files"),
    Case("held: other training set of the same names", "results", other_training_set(NEW_SCENES), level="files"),
)  # fmt: skip
