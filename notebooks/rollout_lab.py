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
# # Loss goes to zero, PCK does not: the rollout lab
#
# A sequence model finds keypoints one after the other. In training each step reads the truth before it; in
# use it reads its own answers. `cape-demo` learned one drawn animal with teacher forcing alone.

# %%
from pathlib import Path

from workbench.data import builtin
from workbench.models import open_model
from workbench.rollout import coordinates, corruption, forced_and_free, lab, prefix, step_attention, support
from workbench.run import run

checkpoints = Path("../checkpoints")
scenes = builtin("scenes-val")
late = open_model(checkpoints / "cape-demo/epoch_40.pth")
looked = run(late.model, [scenes.sample(scenes.labelled[0])], title=late.title)
forced_and_free.compute(looked, forced_and_free.Params())

# %% [markdown]
# ## How many true tokens does it need?

# %%
prefix.compute(looked, prefix.Params())

# %% [markdown]
# ## What does a small error do to the steps after it?

# %%
corruption.compute(looked, corruption.Params())

# %% [markdown]
# ## Is the support used at all?
# Here it is read, but the order of the keypoints never changed: the answers can be learned by heart.

# %%
others = [s for s in scenes.samples(scenes.labelled[:8]) if s.image_id != looked.samples[0].image_id][:1]
support.compute(looked, support.Params(), others)

# %% [markdown]
# ## The same image, taught with the keypoints in another order at every step
# Now only the support says which keypoint comes next.

# %%
cured = open_model(checkpoints / "cape-demo-cured/epoch_80.pth")
well = run(cured.model, looked.samples, title=cured.title)
support.compute(well, support.Params(), others)

# %%
step_attention.compute(well, step_attention.Params())

# %% [markdown]
# ## Do loss, metric and picture speak of the same coordinates?
# A defect that published code had for a while, switched on: PCK in pixels of the resized input.

# %%
from workbench.models.cape import Defects

cured.model.module.defects = Defects(pck_in_input_pixels=True, logged_loss_scaled=True)
coordinates.compute(well, coordinates.Params())

# %%
cured.model.module.defects = Defects()
lab.compute(well, others=others).summary()
