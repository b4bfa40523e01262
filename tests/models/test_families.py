"""One record per family is all that the workbench knows of it: contracts over all of them, and a new one."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trees import tree
from workbench.checkpoints import identity as identification
from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.identity import FAMILY_MODULES, identify_shapes, registered_families
from workbench.core import Groups, NotAvailable, PoseModel
from workbench.core.run import run
from workbench.data import builtin
from workbench.evaluation.protocol import protocol_of_loaded
from workbench.models import FAMILIES, LoadedModel, open_model
from workbench.models.families import (
    Family,
    common_names,
    families,
    family_named,
    fresh_network,
    fresh_networks,
)
from workbench.models.fresh import new_model
from workbench.training.people import with_everybody
from workbench.training.run_folder import read_rows
from workbench.training.sequences import trainable
from workbench.training.settings import Settings
from workbench.training.trainer import Trainer

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests/toy_package"
OWNER = {network.name: family for family in families() for network in family.fresh}


def test_every_record_is_complete_and_has_a_name_of_its_own():
    records = families()
    assert all(isinstance(family, Family) for family in records)
    assert len({family.name for family in records}) == len(records)
    assert {family.name: family.summary for family in records} == FAMILIES
    assert all(family.summary and "\n" not in family.summary for family in records)


@pytest.mark.long
@pytest.mark.parametrize("name", list(fresh_networks()))
def test_a_fresh_network_is_run_trained_saved_recognised_and_opened_again(name, tmp_path):
    network, family = fresh_networks()[name], OWNER[name]
    data = builtin("astronaut")
    model, title = new_model(name, skeleton=data.skeleton)
    assert isinstance(model, PoseModel)
    assert title
    sample = data.sample(0)
    before = run(model, [sample])
    assert before.predictions[0].keypoints.shape == (len(data.skeleton), 2)
    samples = with_everybody([sample]) if isinstance(model, Groups) else [sample]
    weights = [p.detach().clone() for p in model.module.parameters()]
    Trainer(trainable(model, 1), samples, Settings(steps=1, learning_rate=1e-3)).step()
    assert any(not torch.equal(a, b) for a, b in zip(weights, model.module.parameters(), strict=True))

    path = tmp_path / "network.pth"
    if family.save:
        family.save(model, path, 1)
    else:
        torch.save({"state_dict": model.module.state_dict()}, path)
    assert open_checkpoint(path).identity.record == family.name
    config = network.config(data.skeleton.name) if network.config else None
    opened = open_model(path, config=config)
    assert (opened.family, opened.loaded_fraction) == (family.name, 1.0)
    model.module.eval()
    again, after = run(opened.model, [sample]), run(model, [sample])
    assert np.array_equal(again.predictions[0].scores, after.predictions[0].scores, equal_nan=True)


# Files outside the families that name one, with the reason; everything else goes by the record.
CONFIGS = "reads an mmpose config, a file format of its own, whichever family the network is of"
RULES = "grouping rules of this name, for any network"
NAMES_A_FAMILY = {
    ("workbench/training/augmentation_view.py", "mmpose"): CONFIGS,
    ("workbench/training/config_recipe.py", "mmpose"): CONFIGS,
    ("workbench/diagnosis/codec_causes.py", "mmpose"): CONFIGS,
    ("workbench/diagnosis/config_causes.py", "mmpose"): CONFIGS,
    ("workbench/diagnosis/overfit_causes.py", "mmpose"): CONFIGS,
    ("workbench/models/fresh.py", "mmpose"): CONFIGS,
    ("workbench/models/opening.py", "mmpose"): CONFIGS,
    ("workbench/models/exported.py", "mmpose"): CONFIGS,
    ("workbench/models/mmpose_compat.py", "mmpose"): "the only patch of the installed library mmpose",
    (
        "workbench/models/mmpose_compat.py",
        "vitpose",
    ): "registers a head with the installed library, by its name",
    ("workbench/models/mmpose_user_text.py", "mmpose"): CONFIGS,
    ("workbench/recipes/claims_markdown.py", "vitpose"): "a word of other people's tables",
    ("workbench/decoding/grouping/settings.py", "higherhrnet"): RULES,
    ("workbench/inspectors/grouping/replay.py", "higherhrnet"): RULES,
}
# Names that are also those of installed packages or of options: as texts they tell nothing.
ALSO_PACKAGES = {"mmpose", "onnx", "transformers", "adapter"}
MODULES = {module.removeprefix("workbench.models.").partition(".")[0] for module in FAMILY_MODULES}


def families_named_in(path: Path) -> set[str]:
    """Families that a file imports, types and deferred imports included, or names in a text of its own."""
    found = set()
    texts = ({family.name for family in families()} | MODULES) - ALSO_PACKAGES
    for node in ast.walk(tree(path, only=rf"workbench\.models|['\"]({'|'.join(texts)})['\"]")):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            modules = [node.value] if node.value.startswith("workbench.models.") else []
            if node.value in texts:
                found.add(node.value)
        for module in modules:
            parts = module.split(".")
            if parts[:2] == ["workbench", "models"] and len(parts) > 2 and parts[2] in MODULES:
                found.add(parts[2])
    return found


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("def f():\n    from workbench.models.vitpose.export import write_demo", {"vitpose"}),
        ("import workbench.models.cape", {"cape"}),
        ("from workbench.models import text_fusion", {"text_fusion"}),
        ("load('workbench.models.movenet.network')", {"movenet"}),
        ("whole = loaded.family in ('torchscript', 'onnx')", {"torchscript"}),
        ("from workbench.models.families import families\nimport mmpose", set()),
    ],
)
def test_a_file_that_names_a_family_is_found(tmp_path, code, named):
    (tmp_path / "naming.py").write_text(code)
    assert families_named_in(tmp_path / "naming.py") == named


def test_no_other_file_names_a_family():
    found = set()
    for path in (*(ROOT / "workbench").rglob("*.py"), *(ROOT / "apps").rglob("*.py")):
        place = path.relative_to(ROOT)
        inside = place.parts[:2] == ("workbench", "models") and place.parts[2].removesuffix(".py")
        # A family may build on the networks and configs of another; the list of records names them all.
        if inside in MODULES or place.as_posix() == "workbench/checkpoints/identity.py":
            continue
        found |= {(place.as_posix(), family) for family in families_named_in(path)}
    assert found - NAMES_A_FAMILY.keys() == set()
    assert NAMES_A_FAMILY.keys() - found == set(), "no longer needed"


@pytest.mark.parametrize("family", [family for family in families() if family.demo], ids=lambda f: f.name)
def test_the_demo_network_of_a_family_is_opened_by_it(family, tmp_path):
    opened = open_model(family.demo.write(tmp_path))
    assert (opened.family, opened.loaded_fraction) == (family.name, 1.0)


@pytest.mark.parametrize("names", common_names())
def test_a_network_of_no_known_naming_keeps_its_names(names):
    state = {"encoder.a": torch.ones(3), "decoder.b": torch.ones(2, 2)}
    assert dict(names.state(state)) == state
    assert names.paths(list(state), ["encoder", "decoder"]) == {"encoder": "encoder", "decoder": "decoder"}


def test_a_file_that_is_the_model_is_whole_in_the_protocol():
    model, _ = new_model("vitpose")
    whole = {
        family.name: protocol_of_loaded(LoadedModel(model, None, "file", family.name)).complete
        for family in families()
    }
    assert {name for name, complete in whole.items() if complete} == {"onnx", "tflite", "torchscript"}


@pytest.mark.parametrize("family", [family for family in families() if family.identify], ids=lambda f: f.name)
def test_tensors_of_no_family_are_claimed_by_none(family):
    assert family.identify(identification.Shapes({"encoder.a": (3,), "decoder.b": (2, 2)})) is None


def test_an_unknown_name_lists_near_ones():
    with pytest.raises(KeyError, match="no family 'mmpos'; nearest: mmpose"):
        family_named("mmpos")
    with pytest.raises(
        KeyError, match=r"no network 'rtmpos' to train from initial weights; there are .*rtmpose"
    ):
        fresh_network("rtmpos", "coco-17")
    with pytest.raises(NotAvailable, match="rtmpose for skeleton mpii-16: mmpose ships configs for coco-17"):
        fresh_network("rtmpose", "mpii-16")


def test_recognising_a_file_imports_no_network():
    code = (
        "import sys; from workbench.checkpoints.identity import identify_shapes;"
        "print(identify_shapes({'header.a': (1,)}).family,"
        " [m for m in 'torch scipy mmpose mmengine onnxruntime pandas plotly'.split() if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "unknown []", done.stderr


@pytest.fixture
def other_package(tmp_path, monkeypatch):
    """A package whose entry point is the text that is given; found for as long as the test runs."""

    def installed(points: str, code: str = "") -> None:
        info = tmp_path / "other-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[workbench.families]\n{points}\n")
        (tmp_path / "other_families.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        registered_families.cache_clear()

    yield installed
    monkeypatch.undo()
    registered_families.cache_clear()
    sys.modules.pop("other_families", None)


def test_an_entry_point_that_leads_nowhere_is_named(other_package):
    other_package("other = other_families:ABSENT")
    with pytest.raises(ValueError, match=r"entry point other = other_families:ABSENT .* cannot be imported"):
        families()


def test_an_entry_point_that_is_no_record_is_named(other_package):
    other_package("other = other_families:NUMBER", "NUMBER = 3\n")
    with pytest.raises(ValueError, match=r"expected a workbench\.models\.families\.Family, got int"):
        families()


def test_a_name_that_is_taken_is_refused(other_package):
    code = "from workbench.models.families import Family\nFAMILY = Family('onnx', 'mine', load=None)\n"
    other_package("other = other_families:FAMILY", code)
    with pytest.raises(ValueError, match="there is a family 'onnx' already"):
        families()


def test_a_family_of_another_package_is_asked_before_the_general_ones(other_package):
    code = (
        "from workbench.checkpoints.identity import Identity\n"
        "from workbench.models.families import Family\n"
        "FAMILY = Family('mine', 'mine', load=None, identify=lambda view: Identity('Mine'))\n"
    )
    other_package("other = other_families:FAMILY", code)
    found = identify_shapes({"header.header_heatmaps.1.weight": (17, 96, 1, 1)})
    assert found == replace(found, family="Mine", record="mine")


def with_toy_package(*words: object) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own in which the toy package is installed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(TOY)])}
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, cwd=ROOT, env=environment
    )


@pytest.fixture(scope="module")
def toy_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("toy") / "toy.pth"
    weights = {"toy_maps.weight": torch.randn(17, 3, 4, 4) / 10, "toy_maps.bias": torch.zeros(17)}
    torch.save({"state_dict": weights}, path)
    return path


@pytest.mark.long
def test_verbs_open_load_and_evaluate_a_file_of_another_packages_family(toy_file):
    opened = with_toy_package("-m", "workbench", "open", toy_file, "--json")
    assert json.loads(opened.stdout)["family"] == "Toy maps", opened.stderr
    loaded = with_toy_package("-m", "workbench", "load", toy_file, "--json")
    facts = json.loads(loaded.stdout)
    assert (facts["family"], facts["loaded_fraction"]) == ("toy", 1.0), loaded.stderr
    words = ["evaluate", toy_file, "--data", "astronaut", "--json"]
    judged = with_toy_package("-m", "workbench", *words)
    assert judged.returncode == 0, judged.stderr


def test_without_the_package_the_same_file_is_unknown(toy_file, workbench):
    code, _, err = workbench("load", toy_file)
    assert code == 2
    assert "holds weights (unknown)" in err


@pytest.mark.long
def test_another_packages_family_is_trained_with_its_own_loss(tmp_path):
    words = ["overfit", "toy", "--steps", 2, "--no-bisect", "--out", tmp_path / "run", "--json"]
    done = with_toy_package("-m", "workbench", *words)
    assert done.returncode == 0, done.stderr
    assert all(row["loss/toy"] == row["loss"] for row in read_rows(tmp_path / "run"))


@pytest.mark.long
def test_the_app_recognises_and_offers_another_packages_family(toy_file):
    code = (
        "import sys; from pathlib import Path;"
        "from apps.server.registry import Registry; from apps.server.settings import Settings;"
        "from apps.pages.overfit.choices import families;"
        "registry = Registry(Settings(root=Path(sys.argv[1])));"
        "run = registry.runs()[0];"
        "offered = 'toy' in dict(families()).values();"
        "print(registry.family(run)[0], registry.model(run.id, 0).family, offered);"
        "registry.close()"
    )
    done = with_toy_package("-c", code, toy_file.parent)
    assert done.stdout.splitlines()[-1:] == ["Toy maps toy True"], done.stderr


@pytest.mark.long
def test_the_contracts_take_in_another_packages_family():
    words = ["-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    done = with_toy_package(*words, "-k", "opened_again and toy or claimed_by_none and toy")
    assert "2 passed" in done.stdout, done.stdout
