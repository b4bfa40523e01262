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
# # Recipe audit
#
# A reproduction that stays below the published figure often differs from the published training in a few
# lines of its config. This notebook compares a config with a **reference recipe**, a file of values read
# from the upstream repository at a named commit, and judges statements about a recipe that somebody wrote
# from memory. No config is run: it is read.

# %%
from workbench.recipes.recipe import recipe, recipe_names

sapiens = recipe("sapiens-1b-coco")
for source in sapiens.sources:
    print(source.text(), source.sha256[:12], source.holds)
print(len(sapiens.values), "values;", "published AP", sapiens.published["AP"])
recipe_names()

# %% [markdown]
# ## Audit a config
# The built-in config is a reproduction of Sapiens 1B from memory. Yours:
# `read(Path("my_config.py"))`, or a checkpoint with its config inside.

# %%
from workbench.recipes.audit import audit
from workbench.recipes.demo import CONFIG, TITLE
from workbench.recipes.reading import read_text

config = read_text(CONFIG, TITLE)
found = audit(config.values, title=config.title)
found

# %% [markdown]
# Each finding has both values, a reason, the source of the value and of the reason, and what to do.

# %%
for finding in found.findings:
    print(f"{finding.severity:8} {finding.key}: {finding.found} -> {finding.expected}")
first = found.findings[0]
print(first.why, first.source, first.fix, sep="\n")

# %% [markdown]
# Which recipe a config follows is told from its network and data, and the report says why. Naming another
# recipe shows how far it is away.

# %%
audit(config.values, "sapiens-2b-coco", title=config.title)

# %% [markdown]
# ## Mend it and audit again

# %%
import copy

mended = copy.deepcopy(config.values)
mended["codec"] |= {"input_size": (768, 1024), "heatmap_size": (192, 256), "sigma": 6}
mended["model"]["head"]["decoder"] = mended["codec"]
mended["model"]["test_cfg"] |= {"flip_test": True, "flip_mode": "heatmap"}
mended["optim_wrapper"]["optimizer"]["weight_decay"] = 0.1
mended["optim_wrapper"]["constructor"] = "LayerDecayOptimWrapperConstructor"
mended["optim_wrapper"]["paramwise_cfg"] = {"num_layers": 40, "layer_decay_rate": 0.85}
mended["train_dataloader"]["batch_size"] = 64
audit(mended, title="mended")

# %% [markdown]
# What is left is in the training pipeline: its codec and its dropout are values of their own.
#
# ## Layer decay by hand
# Upstream counts the embedding and what follows the blocks as layers too. A hand-written
# `rate ** (layers - i - 1)` over the blocks alone trains every block one step too fast, and leaves the
# embedding and the last norm without a group.

# %%
from workbench.training.trainer import layer_scale

names = [
    "backbone.patch_embed.proj.weight",
    "backbone.pos_embed",
    "backbone.blocks.0.attn.qkv.weight",
    "backbone.blocks.11.attn.qkv.weight",
    "backbone.last_norm.weight",
    "keypoint_head.final_layer.weight",
]
for name in names:
    print(f"{name:40} {layer_scale(name, 0.75, 12):.4f}")
[name for name in names if not name.startswith(("backbone.blocks.", "keypoint_head."))]

# %% [markdown]
# ## Judge statements
# A statement is a key with a value, by the workbench's name or by its place in a config; a Markdown file is
# read too (`read_claims(Path("audit.md"))`).

# %%
from workbench.recipes.claims import Claim, judge_claims

statements = [
    Claim("the optimizer decays weights by .05", "optimizer.weight_decay", 0.05),
    Claim("the learning rate is 5e-4", "optimizer.lr", 5e-4),
    Claim("the head has batch norms", "head.norm", "BatchNorm2d"),
    Claim("input 1024 wide, 768 high", "codec.input_size", (1024, 768)),
    Claim("82 to 92 % AP", "published.ap", (82, 92)),
]
judged = judge_claims(statements, "sapiens-1b-coco", "five statements")
judged

# %%
for one in judged.judgements:
    print(f"{one.verdict:12} {one.claim.text}; upstream {one.expected}; {one.source}")

# %% [markdown]
# ## A mask that lets nothing through
# Consistency training on unlabelled images may leave out keypoints of which the teacher is not sure. A
# threshold of .7 on the softmax of a heatmap can never be passed: even a perfect map of 64x48 cells reaches
# .0023, and the loss is 0 from the first step to the last.

# %%
from workbench.checkpoints.demo import demo_checkpoints, demo_data
from workbench.core.run import run
from workbench.data import builtin
from workbench.inspectors.outputs import consistency_mask
from workbench.models import open_model
from workbench.training.consistency import best_confidence

print(round(best_confidence(64, 48, sigma=2, temperature=0.5), 4))
model = open_model(demo_checkpoints("higherhrnet-demo")[-1]).model
scenes = builtin(demo_data("higherhrnet-demo"))
looked = run(model, [scenes.sample(index) for index in scenes.labelled[:2]])
consistency_mask.compute(looked, consistency_mask.Params(rule="softmax", threshold=0.7))

# %%
consistency_mask.compute(looked, consistency_mask.Params(threshold=0.5))
