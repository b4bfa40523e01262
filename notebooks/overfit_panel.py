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
# # Overfit one image
#
# A network that cannot learn one image by heart has a defect that no data set will cure. Here it tries,
# while you hold it: buttons, live curves, and the kernel stays free.

# %%
from workbench.checkpoints.demo import demo_data
from workbench.data import builtin
from workbench.models.fresh import demo_model

scenes = builtin(demo_data())  # yours: workbench.data.read_coco("annotations.json", "images/")
sample = scenes.sample(scenes.labelled[0])
model, title = demo_model()  # yours: workbench.models.fresh.new_model("rtmpose") or config="my_config.py"
title

# %% [markdown]
# ## The panel
# **Start** runs freely, **Pause** holds it after the step under way, **Step** does so many and holds
# again. After the last step it judges itself.

# %%
from apps.notebook.overfit_panel import OverfitPanel
from workbench.training.plan import Plan
from workbench.training.settings import Settings

plan = Plan(Settings(steps=100, learning_rate=1e-3, measure_every=10))
panel = OverfitPanel(model, [sample], plan)
panel

# %% [markdown]
# The buttons are methods too. This cell starts the run and returns at once.

# %%
panel.start()
panel.session.status()

# %% [markdown]
# Wait for the end (you need not: this only keeps *Run all* in order), and read the verdict. Two numbers
# matter: PCK in **evaluation** mode is what you will get from the network; PCK in **training** mode is
# what it does with this batch's own statistics. Where they part, look at normalisation and dropout.

# %%
panel.wait(300)
panel.verdict

# %% [markdown]
# ## What did it learn?

# %%
from workbench.core.run import run
from workbench.inspectors.outputs import overlay

overlay.compute(run(model, [sample], title="after 100 steps"), overlay.Params(view="crop"))

# %% [markdown]
# ## When it fails
# A fault planted on purpose: targets are written for another input size than they are read for. The loss
# falls as before, PCK does not rise. The attempt is then repeated without one piece of the pipeline at a
# time, and the first piece whose absence lets it pass is named.

# %%
from workbench.training.faults import PLANTED

again, _ = demo_model()
faulty = OverfitPanel(again, [sample], PLANTED["codec"](plan, again))
faulty

# %%
faulty.start()
faulty.wait(600)
print(faulty.verdict.outcome, "| cause:", faulty.culprit)
