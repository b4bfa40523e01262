# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Loss goes to zero, PCK does not: the rollout lab
#
# A sequence model finds keypoints one after the other. In training each step reads the truth before it; in
# use it reads its own answers. `cape-demo-defects` learned one drawn animal so, by code with the defects that
# published code had for a while. From epoch 15 to 50 its loss halves; is it any better?

# %%
from pathlib import Path

from workbench.core.run import run
from workbench.data import builtin
from workbench.inspectors.sequence import (
    coordinates,
    corruption,
    forced_and_free,
    lab,
    prefix,
    step_attention,
    support,
)
from workbench.models import open_model

checkpoints = Path("../checkpoints")
scenes = builtin("scenes-val")
animal = scenes.sample(scenes.labelled[0])


def looked_at(file):
    loaded = open_model(checkpoints / file)
    return run(loaded.model, [animal], title=loaded.title)


early, late = (looked_at(f"cape-demo-defects/epoch_{n}.pth") for n in (15, 50))
forced_and_free.compute(early, forced_and_free.Params())

# %%
forced_and_free.compute(late, forced_and_free.Params())

# %% [markdown]
# ## How many true tokens does it need?

# %%
prefix.compute(late, prefix.Params())

# %% [markdown]
# ## What does a small error do to the steps after it?

# %%
corruption.compute(late, corruption.Params())

# %% [markdown]
# ## Is the support used at all?
# Its code encodes the support and throws the result away.

# %%
others = [s for s in scenes.samples(scenes.labelled[:8]) if s.image_id != animal.image_id][:1]
support.compute(late, support.Params(), others)

# %% [markdown]
# ## Do loss, metric and picture speak of the same coordinates?
# Its log has the loss with its weight of 5, and PCK in pixels of the resized input.

# %%
coordinates.compute(late, coordinates.Params())

# %% [markdown]
# ## Which switch stands in the way?
# The network learns the animal anew from first weights, its defects on, and each is taken away in turn. 400
# steps settle it and take a minute (`workbench rollout --demo --bisect 400`): without **teacher forcing** it
# learns. After 20 steps the verdict means nothing yet, but what needs no learning to be seen has its switch.

# %%
from workbench.training.overfit import overfit
from workbench.training.plan import Plan
from workbench.training.sequences import untrained_copy
from workbench.training.settings import Settings

anew = overfit(untrained_copy(late.model), [animal], Plan(Settings(steps=20)), title="anew")
for one in anew.evidence:
    print(f"{one.text}\n    -> {one.culprit or 'no switch alone'} {one.mended}")

# %% [markdown]
# ## The same image, taught with the keypoints in another order at every step
# Now only the support says which keypoint comes next.

# %%
well = looked_at("cape-demo-cured/epoch_80.pth")
support.compute(well, support.Params(), others)

# %%
step_attention.compute(well, step_attention.Params())

# %%
lab.compute(well, others=others).summary()
