"""Mistakes in the code and the configs of a training that the suite plants, and healthy ones beside them."""

from __future__ import annotations

from tests.diagnosis.planted_scripts import FAULTS as EDITS
from tests.diagnosis.planted_scripts import HEALTHY_TWINS, OTHER_CODE
from tests.diagnosis.planted_trainings import code, script
from tests.diagnosis.systems import Case
from tests.recipes.older_layouts import FAULTS_OF_OLD, FAULTS_OF_YAML, OLD, YAML

# Rows of the coverage table, where the name of a finding is not the row's.
ROWS = {
    "learning rate too high or too low": "learning rate 10 times off",
    "parts of the network get a learning rate near 0": "optimizer misses parameters",
    "scheduler counts epochs and is stepped every batch": "schedule per epoch instead of iteration",
    "network is trained in evaluation mode": "batch norm in evaluation mode while training",
    "batch-norm statistics not updated": "batch norm in evaluation mode while training",
    "augmentation changes image and keypoints differently": "flip pairs",
    "channel order": "channel order",
    "value range": "value range",
}
# What a run survives, with a lower figure.
WEAK = {
    "half precision without a loss scale",
    "scheduler waits for the wrong direction",
    "keypoints without labels are learned",
    "training data not shuffled",
    "resume lost the optimizer's state",
    "half precision overflows in training",
}
# Trials of a test that others of the same cause stand for.
LEFT_OUT = {"decay of 5", "steps at each batch", "sigmoid twice", "warm-up of 500 epochs by hand"}


def config_file(text, name, *edits):
    """A config in a layout of its own, edited."""

    def make(folder):
        made = text
        for old, new in edits:
            assert old in made, old
            made = made.replace(old, new)
        (folder / name).write_text(made)
        return [folder / name], {}

    return make


def _config(system, name, make, cause):
    return Case(
        f"{system}: {name}", system, make, (cause,), "strong", "files", plants="config against itself"
    )


def _case(name, cause, make, weak):
    return Case(
        name, "own network", make, (cause,), "weak" if weak else "strong", "files", plants=ROWS.get(cause, "")
    )


FAULTS: tuple[Case, ...] = (
    *(
        _case(f"code: {name}", cause, script(*edits), cause in WEAK or name == "ten batches an epoch")
        for name, (cause, *edits) in EDITS.items()
        if name not in LEFT_OUT
    ),
    *(
        _case(f"code: {name}", cause, code(text), cause in WEAK)
        for name, (cause, text) in OTHER_CODE.items()
        if cause
    ),
    *(
        _config("config of mmpose 0.x", name, config_file(OLD, "old.py", edit), cause)
        for name, (edit, cause) in FAULTS_OF_OLD.items()
    ),
    *(
        _config("yaml of HRNet", name, config_file(YAML, "hrnet.yaml", edit), cause)
        for name, (edit, cause) in FAULTS_OF_YAML.items()
    ),
)
CONTROLS: tuple[Case, ...] = (
    *(
        Case(f"code: {name}", "own network", script(*HEALTHY_TWINS[name]), level="files")
        for name in ("two optimizers", "milestones in batches", "resumed whole", "weights used")
    ),
    Case("config of mmpose 0.x", "config of mmpose 0.x", config_file(OLD, "old.py"), level="files"),
    Case("yaml of HRNet", "yaml of HRNet", config_file(YAML, "hrnet.yaml"), level="files"),
)
