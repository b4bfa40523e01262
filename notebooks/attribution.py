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
# # Attribution
#
# Which parts of the image does a keypoint depend on? Five methods answer it in different ways, and one check
# tells whether an answer may be read at all. Everything here works offline, on a checkpoint and drawn scenes
# that come with the workbench; to look at your own, change the two paths in the first cell.

# %%
from workbench.checkpoints.demo import demo_checkpoints, demo_data
from workbench.core.run import run
from workbench.data import builtin
from workbench.models import open_model

opened = open_model(demo_checkpoints()[-1])  # yours: open_model("work_dirs/my_run/epoch_210.pth")
scenes = builtin(demo_data())  # yours: workbench.data.read_coco("annotations.json", "images/")
looked = run(opened.model, [scenes.sample(scenes.labelled[0])], title=opened.title)
looked.predictions[0].scores.round(2)

# %% [markdown]
# An attribution explains **one number** of the output for each keypoint, the *target*. Which ones there are
# depends on the outputs: the value of a heatmap at its peak, the SimCC logit of the peak bin along x or y,
# the distance between tags, a coordinate of a token.

# %%
from workbench.inspectors.attribution.targets import kinds

kinds(looked)

# %% [markdown]
# ## Occlusion: cover a part, and see what happens
# A window is moved over the input, and the fall of every target is measured. This is an intervention: it says
# what does happen, and it needs no gradients. All keypoints share the forward passes.

# %%
from workbench.inspectors.attribution import occlusion

occlusion.compute(looked, occlusion.Params(window=0.2))

# %% [markdown]
# One keypoint large, and along one axis alone: what decides how far to the *right* the nose is?

# %%
occlusion.compute(looked, occlusion.Params(keypoint="Nose", target="x"))

# %% [markdown]
# ## Grad-CAM: which places of a layer raise the answer
# Grad-CAM averages gradients over all places of a layer. It shows wherever features that raise the answer
# occur, also where *this* answer does not read them. With the gradient of each place (HiResCAM) it shows what
# was read; for SimCC heads, which have weights of their own for every place, that is the default.

# %%
from workbench.inspectors.attribution import grad_cam

grad_cam.compute(looked, grad_cam.Params(weights="mean over places"))

# %%
grad_cam.compute(looked, grad_cam.Params(weights="place by place"))

# %% [markdown]
# ## Integrated gradients: which pixels add up to the answer
# From an input without image to the image in small steps. The sum of the map is the rise of the target, and
# what is missing tells whether there were enough steps.

# %%
from workbench.inspectors.attribution import integrated_gradients

integrated_gradients.compute(looked, integrated_gradients.Params(keypoint="Nose", steps=32))

# %% [markdown]
# ## Feature ablation: which keypoints need which others
# The surroundings of every keypoint are taken away in turn. The diagonal is what each keypoint needs of its
# own place; beside it stands what it is inferred from.

# %%
from workbench.inspectors.attribution import feature_ablation

feature_ablation.compute(looked, feature_ablation.Params())

# %% [markdown]
# ## May the maps be read?
# A map that stays as it is when the weights are shuffled shows the image or the architecture, and nothing
# that was learned. Weights are shuffled part after part from the output backwards; the rank correlation with
# the trained network's map must fall.

# %%
from workbench.inspectors.attribution import randomised_weights

check = randomised_weights.compute(looked, randomised_weights.Params(method="gradient"))
check

# %% [markdown]
# What is wrong is a `Finding`, with its numbers and what would refute it; none here means that the maps
# depend on the weights.

# %%
check.to_findings()

# %% [markdown]
# ## Attention of a transformer
# A vision transformer states where its attention passes (the capability `HasAttention`; ViTPose and Sapiens
# have it). *Rollout* follows the token under a keypoint's peak back through all layers; a single head shows
# one layer. The tiny network here has random weights: it shows the form of the answer and no learned
# behaviour.

# %%
import tempfile
from pathlib import Path

from workbench.inspectors.attribution import attention
from workbench.models.vitpose.export import write_demo

vit = open_model(write_demo(Path(tempfile.mkdtemp())))
astronaut = builtin("astronaut")
seen = run(vit.model, [astronaut.sample(astronaut.labelled[0])], title=vit.title)
attention.compute(seen, attention.Params())

# %%
attention.compute(seen, attention.Params(keypoint="left_shoulder", layer="layer 3"))

# %% [markdown]
# ## Next
# - The same as pages, with every parameter as a control: `workbench app`, entry *Attribution*.
# - From a shell: `workbench look occlusion FILE --data ANN.json --images DIR --json`.
