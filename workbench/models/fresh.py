"""Networks with first weights, from a family's name, a config or an adapter: where an overfit run starts.

Nothing is downloaded: a config's pretrained backbone is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.checkpoints.config_reader import read_config
from workbench.core import NotAvailable, PoseModel, Skeleton
from workbench.models.families import FreshOptions, fresh_network
from workbench.skeletons import SKELETONS


def new_model(
    family: str = "",
    *,
    config: Path | str | None = None,
    adapter: Path | str | None = None,
    skeleton: Skeleton | str = "coco-17",
    seed: int = 0,
    device: str = "cpu",
) -> tuple[PoseModel, str]:
    """A model with first weights, and its title.

    Args:
        family: name of a network, see workbench.models.families.fresh_networks.
        config: an mmpose config instead; named by the user, it is the user's own code. Of a checkpoint, the
            config inside it, which is read and never run.
        adapter: the user's own Python file instead; its `load` is called without a checkpoint.
        skeleton: the keypoints, or their name; with a config or an adapter it is not read.
        seed: of the first weights.
        device: where to put them.

    Raises:
        ValueError: not exactly one of the three was named, or the config cannot be built.
        KeyError: no such network; the message lists near names.
        NotAvailable: the network does not exist for this skeleton.
    """
    from workbench.models.randomness import private_randomness

    if sum(bool(x) for x in (family, config, adapter)) != 1:
        raise ValueError("expected exactly one of a family name, a config, and an adapter")
    if family:
        network = fresh_network(family, skeleton if isinstance(skeleton, str) else skeleton.name)
        options = FreshOptions(_skeleton_named(family, skeleton), seed, device)
        with private_randomness(seed):
            return network.build(options)
    with private_randomness(seed):
        if adapter:
            from workbench.models import open_model

            loaded = open_model(None, adapter=adapter, device=device)
            return loaded.model, loaded.title
        from workbench.models.mmpose.model import from_config

        path = Path(config or "")
        return from_config(named_config(path), device), path.stem


def named_config(path: Path) -> Mapping[str, Any]:
    """The values of a config that the user named: a config file is run, one inside a checkpoint is read.

    Raises:
        FileNotFoundError: no such file.
        NotAvailable: the checkpoint holds no config.
        ValueError: it is no config, or raised something.
    """
    from workbench.models.mmpose.config import CONFIG_ENDINGS, run_config

    return run_config(path) if path.suffix in CONFIG_ENDINGS or not path.is_file() else config_in(path)


def config_in(path: Path, root: Path | None = None) -> Mapping[str, Any]:
    """The values of a config file, or of the config inside a checkpoint; nothing is run.

    Args:
        path: a config, or a checkpoint.
        root: folder that the base files of a config must lie in; its own by default.

    Raises:
        NotAvailable: the checkpoint holds no config.
        ValueError: it would need to run code, or is neither a config nor a checkpoint.
    """
    from workbench.checkpoints import open_checkpoint
    from workbench.models.mmpose.config import CONFIG_ENDINGS

    if path.suffix in (*CONFIG_ENDINGS, ".toml"):
        return read_config(path, root)
    try:
        text = open_checkpoint(path).config_text
    except ValueError as error:
        endings = ", ".join(CONFIG_ENDINGS)
        raise ValueError(
            f"{path.name}: expected a config ({endings}), or a checkpoint that holds one; {error}"
        ) from error
    if not text:
        raise NotAvailable(f"{path.name} holds no config; name the run's config file")
    return read_config(text)


def read_model(
    config: Path, root: Path | None = None, *, seed: int = 0, device: str = "cpu"
) -> tuple[PoseModel, str]:
    """A model with first weights of a config that is read and never run, and its title.

    Args:
        config: an mmpose config, or a checkpoint that holds one.
        root: folder that its base files must lie in; its own by default.
        seed: of the first weights.
        device: where to put them.

    Raises:
        NotAvailable: the checkpoint holds no config.
        ValueError: it would need to run code, or cannot be built.
    """
    from workbench.models.mmpose.model import from_config
    from workbench.models.randomness import private_randomness

    with private_randomness(seed):
        return from_config(config_in(config, root), device), config.stem


def config_skeleton(config: Path, within: Path) -> Skeleton | None:
    """The keypoints that a config's data set describes; None where it describes none. Nothing is run.

    Args:
        config: the file, or a checkpoint that holds it.
        within: files that it names are read in this folder alone.

    Raises:
        NotAvailable: the checkpoint holds no config.
        ValueError: the config cannot be read.
    """
    from workbench.models.mmpose.config import config_values, described_by, described_in

    content = config_in(config, within)
    with config_values():
        model = content.get("model") or {}
        channels = (model.get("head") or model.get("keypoint_head") or {}).get("out_channels", 0)
        described = [described_by(meta)[0] for _, meta in described_in(content)]
    return next((one for one in described if channels in (0, len(one))), None)


def demo_model(seed: int = 0, device: str = "cpu") -> tuple[PoseModel, str]:
    """The demo's small RTMPose with first weights, and its title; its skeleton is ap10k-17.

    Args:
        seed: of the first weights.
        device: where to put them.

    Raises:
        NotAvailable: the built-in checkpoints, whose config it is, are absent.
    """
    from workbench.checkpoints.demo import demo_config

    model, _ = read_model(demo_config(), seed=seed, device=device)
    return model, "rtmpose-demo from first weights"


def _skeleton_named(family: str, skeleton: Skeleton | str) -> Skeleton:
    if isinstance(skeleton, Skeleton):
        return skeleton
    if skeleton not in SKELETONS:
        raise NotAvailable(f"{family} for skeleton {skeleton}: expected one of {', '.join(SKELETONS)}")
    return SKELETONS[skeleton]
