# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Heatmaps look good, AP does not: the grouping lab
#
# A bottom-up network finds all people at once: heatmaps locate keypoints, tags assign them to people. A user
# ran an official HigherHRNet with their own script and got AP .418 instead of .698. Which step lost the rest?
# This notebook answers that for a small HigherHRNet that was trained on drawn people.

# %% [markdown]
# ## Which checkpoint is it, and what should it reach?
# A file says what it is by its tensors. With the official files this line names the published figure that
# belongs to them: .698 is that of w48 at 640 pixels; a w32 at 512 has .671, and nothing is wrong with it.

# %%
from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.demo import demo_checkpoints, demo_data

file = demo_checkpoints("higherhrnet-demo")[-1]  # yours: a path
checkpoint = open_checkpoint(file)
print(checkpoint.identity.family)
print(*checkpoint.identity.evidence, sep="\n")
print(checkpoint.identity.expected or "no published figure belongs to a network of this width")

# %%
from workbench.core.run import run
from workbench.data import builtin
from workbench.models import open_model

loaded = open_model(file)
model = loaded.model
scenes = builtin(
    demo_data("higherhrnet-demo")
)  # yours: workbench.data.read_coco("annotations.json", "images/")
images = [i for i, people in scenes.labelled_of_image.items() if len(people) > 1][:3]
sample = scenes.sample(scenes.labelled_of_image[images[0]][0])
looked = run(model, [sample], title=loaded.title, flip=True)

# %% [markdown]
# ## Where is AP lost?
# Heatmaps, tags, grouping and scores are replaced by the ground truth, one after the other. A tall bar is a
# step that loses much AP; with everything replaced AP is 1, or the maximum that the network's cells allow.

# %%
from workbench.evaluation.oracle import people_waterfall

people_waterfall(model, scenes, images, title=loaded.title)

# %% [markdown]
# ## Which simplification costs how much?
# Every line leaves out one part of the published protocol, or several together; the network runs once per
# image. `nearest_to` names the line that reproduces a given AP.

# %%
from workbench.evaluation.ablation import grouping_variants, sweep

table = sweep(
    model, scenes, lambda outputs: grouping_variants(model, outputs), image_ids=images, title=loaded.title,
    question="What is each part of the protocol worth?",
)  # fmt: skip
table

# %%
table.nearest_to(0.6 * table.reference.ap)  # yours: the AP that your script gave

# %% [markdown]
# ## The affine, by itself
# Perfect maps, made from the annotations, through the same protocol: AP is 1. Without the inverse affine maps
# are stretched over the image, although the input shows more than the image: that alone costs this much. How
# much depends on the image's size: at 512 a picture of 640 x 427 loses nothing and one of 640 x 426 most,
# because 767 is rounded up to 768 and 769 to 832.

# %%
import dataclasses

import numpy as np

from workbench.evaluation import keypoint_ap, truth_of
from workbench.evaluation.predict import category_of, forward_passes, predictions_of
from workbench.models.bottom_up import true_outputs


def perfect_ap(model, pose_set, image_ids):
    """AP of maps made from the annotations: by the model's own rules, and without the inverse affine."""
    rules = {"published": {}, "no inverse affine": {"inverse_affine": False}}
    people = {name: [] for name in rules}
    for seen in forward_passes(model, pose_set, image_ids):
        held = [pose_set.instances[i].truth for i in pose_set.labelled_of_image[seen.image_id]]
        perfect = true_outputs(model, seen.outputs, seen.batch, [np.stack(held)])
        for name, changed in rules.items():
            aggregation = dataclasses.replace(model.aggregation, **changed)
            people[name] += model.group(perfect, seen.batch, aggregation=aggregation)
    truth = truth_of(pose_set).on_images(image_ids)
    reached = {}
    for name, groups in people.items():
        found = predictions_of(image_ids, groups, category_of(pose_set), len(pose_set.skeleton))
        reached[name] = round(
            keypoint_ap(truth, found.detections(), pose_set.skeleton.sigmas).figures["AP"], 3
        )
    return reached


# Sides are rounded up to multiples of 64: 384 x 256 for a picture of 480 x 360, and 43 columns show nothing.
perfect_ap(dataclasses.replace(model, input_size=256), scenes, images)

# %% [markdown]
# ## Do the tags separate people?
# One column per person. A detection joins the person with the closest mean tag, if their distance is below 1.

# %%
from workbench.inspectors.grouping import grouping_costs, grouping_steps, tag_maps, tag_space, tag_values

tag_values.compute(looked, tag_values.Params())

# %% [markdown]
# ## What are the 17 tag maps?
# Not one embedding of 17 dimensions, but 17 scalar maps, each trained at its own keypoint only. They look
# alike and correlate. But a keypoint that is read in another map is read where that map was not trained, and
# its tag differs more from its person's mean: that is why "map 0 for all keypoints" costs AP.

# %%
tag_maps.compute(looked, tag_maps.Params())

# %%
tag_space.compute(looked, tag_space.Params())

# %%
from workbench.evaluation.ablation import tag_variants

sweep(
    model, scenes, tag_variants(model), image_ids=images, title=loaded.title,
    question="What are the tag maps worth?",
)  # fmt: skip

# %% [markdown]
# ## Grouping, keypoint by keypoint
# The people after the shoulders; then the step with the largest tag distance that was joined.

# %%
grouping_steps.compute(looked, grouping_steps.Params(step="right_shoulder"))

# %%
grouping_costs.compute(looked, grouping_costs.Params())

# %% [markdown]
# ## By hand
# Sliders group the stored output again, without running the network. AP is that of the stored images.

# %%
from apps.notebook.grouping_panel import GroupingPanel
from workbench.evaluation.predict import forward_passes  # noqa: F811

kept = list(forward_passes(model, scenes, images, flip=True))
panel = GroupingPanel(looked, kept, scenes)
panel

# %% [markdown]
# Setting a value from a cell is moving the slider.

# %%
panel.knobs["detection_threshold"].value = 0.3
panel.report.summary(), panel.reached.figures["AP"]

# %% [markdown]
# ## On photographs
# Name a keypoint json of COCO and the folder of its images; the first 20 images with people are read. The
# short side is 512 or 640 pixels as published, the maps are perfect: what is lost is lost by the affine.

# %%
from pathlib import Path

from workbench.data import read_coco

annotations, images = Path("person_keypoints_val2017.json"), Path("val2017")
if annotations.is_file():
    photographs = read_coco(annotations, images)
    people = list(photographs.labelled_of_image)[:20]
    for side in (512, 640):
        sized = dataclasses.replace(model, input_size=side)
        print(f"short side {side}: AP {perfect_ap(sized, photographs, people)}")
else:
    print(f"skipped: {annotations} is not there")
