import json
import subprocess
import sys
import textwrap

import pytest

CODE = """
import importlib.util, json, sys, threading, warnings
warnings.simplefilter("ignore")
from workbench.models.mmpose_compat import install
found = []
threads = [threading.Thread(target=lambda: found.append(install())) for _ in range(3)]
[t.start() for t in threads]; [t.join() for t in threads]
from mmengine.registry import init_default_scope
from mmengine.utils.dl_utils import collect_env
from mmpose.registry import MODELS
from mmpose.evaluation import CocoMetric
init_default_scope("mmpose")
roots = ("torchvision", "xtcocotools", "mmdet", "mmpretrain", "mmcv._ext")
left = [n for n in sys.modules if n.startswith(roots) and not getattr(sys.modules[n], "__spec__", 1)]
print(json.dumps(dict(
    same=len(set(map(id, found))) == 1, found=vars(found[0]), left=left,
    env=sorted(collect_env()), specs=[n for n in ("mmdet", "mmpretrain") if importlib.util.find_spec(n)],
)))
"""


@pytest.fixture(scope="module")
def fresh():
    """Facts from a process of its own: this one may have imported anything."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
def test_no_stand_in_is_left_behind(fresh):
    assert fresh["left"] == []


@pytest.mark.long
def test_installing_from_three_threads_installs_once(fresh):
    assert fresh["same"]


@pytest.mark.long
def test_the_environment_report_of_a_runner_works(fresh):
    assert "PyTorch" in fresh["env"]


@pytest.mark.long
def test_absent_packages_stay_absent(fresh):
    assert not [n for n in fresh["specs"] if fresh["found"][n] != "works"]


def shapes(configs, name):
    """Names and shapes of the tensors that mmpose builds from a config of its own."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmpose.registry import MODELS

    model = Config.fromfile(configs / name).model
    model.backbone.pop("init_cfg")
    with torch.device("meta"), DefaultScope.overwrite_default_scope("mmpose"):
        built = MODELS.build(model)
    return {key: list(value.shape) for key, value in built.state_dict().items()}


def test_rtmpose_from_mmposes_own_config_has_the_published_entries(configs, shared):
    lines = (shared / "reference/rtmpose_m_ap10k_keys.txt").read_text().splitlines()
    published = [
        [name, list(json.loads(shape.replace("(", "[").replace(",)", "]").replace(")", "]")))]
        for name, shape in (line.split("\t") for line in lines)
    ]
    assert len(published) == 362
    name = "animal_2d_keypoint/rtmpose/ap10k/rtmpose-m_8xb64-210e_ap10k-256x256.py"
    assert [list(entry) for entry in shapes(configs, name).items()] == published


@pytest.mark.parametrize(
    ("size", "width", "layers"),
    [("small", 384, 12), ("base", 768, 12), ("large", 1024, 24), ("huge", 1280, 32)],
)
def test_vitpose_configs_build_with_mmpretrains_names(configs, size, width, layers):
    name = f"td-hm_ViTPose-{size}_8xb64-210e_coco-256x192.py"
    keys = shapes(configs, f"body_2d_keypoint/topdown_heatmap/coco/{name}")
    last = f"backbone.layers.{layers - 1}"
    wanted = {
        "backbone.patch_embed.projection.weight": [width, 3, 16, 16],
        "backbone.pos_embed": [1, 192, width],
        f"{last}.ln1.weight": [width],
        f"{last}.attn.qkv.weight": [3 * width, width],
        f"{last}.attn.proj.bias": [width],
        f"{last}.ln2.bias": [width],
        f"{last}.ffn.layers.0.0.weight": [4 * width, width],
        f"{last}.ffn.layers.1.weight": [width, 4 * width],
        "backbone.ln1.weight": [width],
    }
    assert {key: keys.get(key) for key in wanted} == wanted
    assert f"backbone.layers.{layers}.ln1.weight" not in keys
    # per layer: 2 norms, qkv, proj, 2 linear layers; besides them patch, position, last norm
    assert sum(key.startswith("backbone.") for key in keys) == layers * 12 + 5


@pytest.mark.long
def test_mmpose_imports_where_its_odd_requirements_are_absent_or_broken(tmp_path):
    """As on Python 3.12 and later, without xtcocotools and chumpy; and as mmdet 3.3.0 beside mmcv 2.2."""
    (tmp_path / "mmdet").mkdir()
    (tmp_path / "mmdet/__init__.py").write_text(
        "raise AssertionError('MMCV==2.2.0 is used but incompatible')"
    )
    code = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(tmp_path)!r})

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("xtcocotools", "chumpy", "torchvision", "mmpretrain"):
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

        sys.meta_path.insert(0, Absent())
        from workbench.models.mmpose_compat import install
        found = install()
        import mmpose.evaluation, mmpose.datasets
        left = [n for n in sys.modules if n.split(".")[0] == "mmdet"]
        print(found.torchvision, found.xtcocotools, found.mmdet, found.mmpretrain, left)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["absent pycocotools absent own []"], done.stderr


def test_torch_load_reads_a_runners_history_and_nothing_worse(tmp_path):
    import pickle

    import torch

    from workbench.models.mmpose_compat import install

    install()
    from mmengine.logging import HistoryBuffer

    history = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({"log": history}, tmp_path / "runner.pth")
    assert torch.load(tmp_path / "runner.pth")["log"].mean() == 1.5

    class Payload:
        def __reduce__(self):
            return getattr, (HistoryBuffer, "register_statistics")

    torch.save({"log": Payload()}, tmp_path / "bad.pth")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "bad.pth")
