"""A network with first weights, from a family's name or a config: what an overfit run starts from.

Nothing is downloaded: a config's pretrained backbone is left out, and the note says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.core import NotAvailable, PoseModel, Skeleton, nearest
from workbench.models.mmpose.trust import changed, without_pretrained

# Family and skeleton -> a config that mmpose ships, of a size that learns an image in minutes on a CPU.
SHIPPED: dict[str, dict[str, str]] = {
    "rtmpose": {
        "coco-17": "body_2d_keypoint/rtmpose/coco/rtmpose-t_8xb256-420e_coco-256x192.py",
        "ap10k-17": "animal_2d_keypoint/rtmpose/ap10k/rtmpose-m_8xb64-210e_ap10k-256x256.py",
    },
    "hrnet": {
        "coco-17": "body_2d_keypoint/topdown_heatmap/coco/td-hm_hrnet-w32_8xb64-210e_coco-256x192.py",
        "ap10k-17": "animal_2d_keypoint/topdown_heatmap/ap10k/td-hm_hrnet-w32_8xb64-210e_ap10k-256x256.py",
    },
    "resnet": {
        "coco-17": "body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py",
        "ap10k-17": "animal_2d_keypoint/topdown_heatmap/ap10k/td-hm_res50_8xb64-210e_ap10k-256x256.py",
    },
}


# Families of the workbench itself, which no config describes.
OWN = ("cape", "higherhrnet")


def shipped_config(family: str, skeleton: str) -> Path:
    """The config that mmpose ships for a family and a skeleton.

    Raises:
        KeyError: no such family; the message lists near ones.
        NotAvailable: none for this skeleton.
    """
    import importlib.util

    if family not in SHIPPED:
        known = [*SHIPPED, *OWN]
        raise KeyError(f"no family {family!r} to start afresh; nearest: {nearest(family, known)}")
    if skeleton not in SHIPPED[family]:
        raise NotAvailable(
            f"{family} for skeleton {skeleton}: mmpose ships configs for {', '.join(SHIPPED[family])}; "
            "name a config of your own with --config"
        )
    spec = importlib.util.find_spec("mmpose")
    if spec is None or spec.origin is None:
        raise NotAvailable(f"{family}: mmpose is not installed; use --adapter with a network of your own")
    return Path(spec.origin).parent / ".mim" / "configs" / SHIPPED[family][skeleton]


def new_model(
    family: str = "",
    *,
    config: Path | str | None = None,
    adapter: Path | str | None = None,
    skeleton: Skeleton | str = "coco-17",
    seed: int = 0,
    device: str = "cpu",
) -> tuple[PoseModel, str]:
    """A model with first weights, and what to call it.

    Args:
        family: a name of SHIPPED or OWN.
        config: an mmpose config instead; named by the user, it is the user's own code.
        adapter: the user's own Python file instead; its `load` is called without a checkpoint.
        skeleton: chooses among a family's configs by its name; the workbench's own families take any.
        seed: of the first weights.
        device: where to put them.

    Raises:
        ValueError: not exactly one of the three was named, or the config cannot be built.
        NotAvailable: nothing is shipped for this family and skeleton.
    """
    from workbench.models.randomness import private_randomness

    if sum(bool(x) for x in (family, config, adapter)) != 1:
        raise ValueError("expected exactly one of a family name, a config, and an adapter")
    if family in OWN:
        own = {"cape": _cape, "higherhrnet": _higherhrnet}[family]
        return own(skeleton, seed, device), f"{family} from first weights"
    with private_randomness(seed):
        if adapter:
            from workbench.models import open_model

            loaded = open_model(None, adapter=adapter, device=device)
            return loaded.model, loaded.title
        from workbench.models.mmpose.model import run_config

        name = skeleton if isinstance(skeleton, str) else skeleton.name
        path = Path(config) if config else shipped_config(family, name)
        return from_config(run_config(path), device), path.stem


def read_model(
    config: Path, root: Path | None = None, *, seed: int = 0, device: str = "cpu"
) -> tuple[PoseModel, str]:
    """A model with first weights of a config that is read and never run, and what to call it.

    Args:
        config: an mmpose config.
        root: folder that its base files must lie in; its own by default.
        seed: of the first weights.
        device: where to put them.

    Raises:
        ValueError: it would need to run code, or cannot be built.
    """
    from workbench.checkpoints.config_text import read_config
    from workbench.models.randomness import private_randomness

    with private_randomness(seed):
        return from_config(read_config(config, root), device), config.stem


def demo_model(seed: int = 0, device: str = "cpu") -> tuple[PoseModel, str]:
    """The demo's small RTMPose with first weights, and what to call it; its skeleton is ap10k-17.

    Raises:
        NotAvailable: the built-in checkpoints, whose config it is, are absent.
    """
    from workbench.checkpoints.demo import demo_config

    model, _ = read_model(demo_config(), seed=seed, device=device)
    return model, "rtmpose-demo from first weights"


def _keypoints(family: str, skeleton: Skeleton | str) -> Skeleton:
    from workbench.skeletons import SKELETONS

    if isinstance(skeleton, Skeleton):
        return skeleton
    if skeleton not in SKELETONS:
        raise NotAvailable(f"{family} for skeleton {skeleton}: expected one of {', '.join(SKELETONS)}")
    return SKELETONS[skeleton]


def _higherhrnet(skeleton: Skeleton | str, seed: int, device: str) -> PoseModel:
    """Narrow and shallow: the published one takes 5 seconds a step on a CPU, and an image needs hundreds."""
    from workbench.models.higherhrnet.model import new_higherhrnet
    from workbench.models.higherhrnet.network import Architecture, HigherHRNet
    from workbench.models.randomness import private_randomness

    keypoints = _keypoints("higherhrnet", skeleton)
    K = len(keypoints)
    small = Architecture(16, K, K, stem=16, bottlenecks=1, modules=(1, 1, 1), blocks=1, deconv_blocks=1)
    with private_randomness(seed):
        network = HigherHRNet(small)
    return new_higherhrnet(network.to(device), keypoints, 192)


def _cape(skeleton: Skeleton | str, seed: int, device: str) -> PoseModel:
    from workbench.models.cape.model import new_cape
    from workbench.models.cape.network import Size

    keypoints = _keypoints("cape", skeleton)
    model = new_cape(keypoints, Size(input_size=(96, 96), steps=max(80, len(keypoints) + 1)), seed)
    model.module.to(device)
    return model


def from_config(config: Mapping[str, Any], device: str = "cpu") -> PoseModel:
    """A model of a config with first weights."""
    from workbench.models.mmpose.model import build, model_of, quiet

    module = build(changed(config, model=without_pretrained(config.get("model"))))
    with quiet():  # mmengine tells of every tensor it fills
        module.init_weights()  # type: ignore[operator]
    return model_of(module, config, None, device)
