"""From an mmpose 1.x config and a checkpoint to a model that can be run.

Keys of the config that their class does not take are refused by name, and outputs of heads for which
workbench.decoding has no equal are read here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from workbench.core import (
    Batch,
    Codec,
    DecodeOptions,
    NotAvailable,
    Outputs,
    PoseModel,
    Prediction,
    Sample,
    Skeleton,
    nearest,
    reason,
)
from workbench.models.families import config_modules
from workbench.models.mmpose.config import (
    Preprocessing,
    bottom_up_of,
    codec_of,
    config_values,
    groups,
    preprocessing_of,
    skeleton_of,
)
from workbench.models.mmpose.trust import (
    ALONE,
    OwnConfig,
    allowed,
    bounded,
    changed,
    most_parameters,
    without_pretrained,
)
from workbench.models.mmpose_user_text import own_classes, with_own_text
from workbench.models.naming import taps_of
from workbench.models.opening import Opening
from workbench.models.top_down import Reader, TopDown
from workbench.models.vitpose.mmpose_head import with_sapiens_head
from workbench.models.vitpose.model import allow_resampling, attending, position_grids

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.checkpoints.loading import LoadReport


def misplaced_keys(model: Mapping[str, Any]) -> list[str]:
    """One phrase for each key that its class does not take: ``model.backbone.in_channels: ...``.

    Classes that take any key, and types nobody has registered, say nothing: building them does.

    Args:
        model: the config's `model`, with mmengine's default scope set to mmpose.
    """
    return [phrase for path, part in _parts("model", model) for phrase in _wrong(path, part)]


def misplaced_keys_of(config: Mapping[str, Any]) -> list[str]:
    """The same of a whole config: classes are registered first, and nothing is built.

    Raises:
        ValueError: it describes no model.
    """
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

    settings = _register(config)
    with DefaultScope.overwrite_default_scope("mmpose"):
        return misplaced_keys(Config({"model": _plain(settings)}).model)


def _register(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config's model, after the classes that it may name were registered.

    Raises:
        ValueError: it describes no model.
    """
    from workbench.models.mmpose_compat import install

    install()
    settings = config.get("model")
    if not isinstance(settings, Mapping) or "type" not in settings:
        raise ValueError(f"config: expected model = dict(type=...), found model = {str(settings)[:80]}")
    for modules in config_modules():
        if modules.named_in(settings):
            modules.register()
    return settings


def _parts(path: str, value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        if isinstance(value.get("type"), str):
            yield path, value
        for key, inner in value.items():
            yield from _parts(f"{path}.{key}", inner)
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _parts(f"{path}[{i}]", inner)


def _wrong(path: str, part: Mapping[str, Any]) -> Iterator[str]:
    from mmpose.registry import KEYPOINT_CODECS, MODELS

    name = str(part["type"]).rpartition(".")[2]
    taken: dict[str, inspect.Parameter] = {}
    found = KEYPOINT_CODECS.module_dict.get(name) or MODELS.module_dict.get(name)
    if found is None or not inspect.isclass(found):
        return
    # A class hands what it does not know to the class above as long as it says **kwargs.
    for owner in found.__mro__:
        if "__init__" not in vars(owner):
            continue
        parameters = inspect.signature(owner.__init__).parameters
        taken |= parameters
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    else:
        return
    for key in part:
        # `_scope_` is mmengine's own; see mmengine.registry.build_functions.
        if key not in taken and key not in ("type", "_scope_"):
            yield f"{path}.{key}: {name} takes no {key!r} (nearest: {nearest(key, set(taken) - {'self'})})"


# Outputs of heads that workbench.decoding has no equal for.


def reading(
    module: nn.Module, codec: Codec | None, input_size: tuple[int, int], chosen: Sequence[int] | None = None
) -> tuple[Callable[[Tensor], Outputs], Reader | None, Callable[[Any], Outputs]]:
    """How to call an mmpose network, how to read its outputs, and what turns a head's answer into Outputs.

    The first takes pixels [N, 3, H, W]. The second is None where a decoder of ours reads them.

    Args:
        module: a top-down estimator.
        codec: what its coordinates were translated to; None when there is no equal.
        input_size: (height, width) of its crops.
        chosen: the channels that are keypoints of the data set, where the config names some.

    Raises:
        NotAvailable: raised while outputs are converted, where the head returns an unknown form.
    """
    head: Any = module.head
    own: Any = getattr(head, "decoder", None)
    combined = getattr(own, "heatmap_type", "") == "combined"
    # mmpose's VisPredictHead stands around another head and gives (pose, visibility of each keypoint).
    sees = type(head).__name__ == "VisPredictHead"

    def call(module: nn.Module, pixels: Tensor) -> Outputs:
        return convert(module(pixels, None, mode="tensor"))

    def convert(returned: Any) -> Outputs:
        visibility = None
        if sees:
            returned, visibility = returned
        if combined:
            outputs = _class_and_offsets(returned, own.radius_factor, chosen)
        else:
            outputs = _outputs(returned, codec, list(chosen) if chosen else None)
        if visibility is None:
            return outputs
        visibility = visibility[:, list(chosen)] if chosen else visibility
        return dataclasses.replace(outputs, tokens={**outputs.tokens, "visibility": visibility})

    # Not a closure: a copy of the model (the bisector makes them) must call the copied network.
    called = functools.partial(call, module)
    if codec is not None:
        return called, None, convert

    def read(outputs: Outputs, options: DecodeOptions) -> tuple[np.ndarray, np.ndarray]:
        if options.decoder or options.score:
            raise NotAvailable(
                f"other decoders: {type(own or head).__name__} is read by mmpose's own rule only"
            )
        if "coordinates" in outputs.tokens:
            return _regressed(outputs.tokens["coordinates"].numpy(), input_size)
        if outputs.heatmaps is None or own is None:
            raise NotAvailable(f"keypoints: {type(head).__name__} leaves nothing that can be read here")
        # A copy: mmpose's codecs write into the maps they are given.
        found = [own.decode(m.numpy().copy()) for m in outputs.heatmaps]
        return np.concatenate([f[0] for f in found])[..., :2], np.concatenate([f[1] for f in found])

    return called, read, convert


def _outputs(returned: Any, codec: Codec | None, chosen: list[int] | None) -> Outputs:
    def pick(tensor: Tensor) -> Tensor:
        return tensor if chosen is None else tensor[:, chosen]

    if codec is not None and codec.kind == "simcc" and isinstance(returned, tuple) and len(returned) == 2:
        return Outputs(simcc=(pick(returned[0]), pick(returned[1])))
    if isinstance(returned, tuple) and len(returned) == 2 and {t.ndim for t in returned} == {3, 4}:
        coordinates, maps = returned if returned[0].ndim == 3 else returned[::-1]
        return Outputs(heatmaps=pick(maps), tokens={"coordinates": _spread(pick(coordinates))})
    # Stacked hourglasses and others give a list of stages.
    last: Any = returned
    while isinstance(last, (list, tuple)) and last:
        last = last[-1]
    dimensions = getattr(last, "ndim", 0)
    if dimensions == 4:
        return Outputs(heatmaps=pick(cast("Tensor", last)))
    if dimensions == 3:
        return Outputs(tokens={"coordinates": _spread(pick(cast("Tensor", last)))})
    raise NotAvailable(
        f"outputs: the head returned {type(returned).__name__}, neither maps, SimCC nor coordinates"
    )


def _spread(coordinates: Tensor) -> Tensor:
    """Coordinates, and behind them the spread that residual likelihood heads give, in 0..1."""
    return torch.cat([coordinates[..., :2], coordinates[..., 2:].sigmoid()], -1)


def _class_and_offsets(maps: Tensor, radius_factor: float, chosen: Sequence[int] | None) -> Outputs:
    """UDP's combined form: per keypoint a class map and the offset to it, in units of a radius."""
    radius = radius_factor * max(maps.shape[-2:])
    parts = maps.unflatten(1, (-1, 3))
    parts = parts if chosen is None else parts[:, list(chosen)]
    return Outputs(heatmaps=parts[:, :, 0], fields={"offsets": parts[:, :, 1:] * radius})


def _regressed(coordinates: np.ndarray, input_size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Input pixels from coordinates in 0..1; scores from the spread in 0..1 behind them, where there is one.

    Source: mmpose 1.3.2 codecs/regression_label.py; heads/regression_heads/rle_head.py.
    """
    H, W = input_size
    points = coordinates[..., :2] * (W, H)
    if coordinates.shape[-1] == 2:
        # Plain regression has no confidence; mmpose gives every keypoint a 1.
        return points, np.ones(points.shape[:2], np.float32)
    return points, (1 - coordinates[..., 2:4]).mean(-1)


# The model.


NETWORK_PARTS = ("backbone", "neck", "head")
"""Attributes of an estimator that are networks where it has them."""

# What registries and constructors were seen to raise of wrong values.
_CONSTRUCTORS = (
    ValueError, LookupError, TypeError, AttributeError, AssertionError, RuntimeError, ArithmeticError,
    OSError, MemoryError, ImportError,
)  # fmt: skip


def load(opening: Opening) -> tuple[PoseModel, LoadReport]:
    """The config's network with the checkpoint's weights.

    Raises:
        NotAvailable: no config.
        ValueError: the config cannot be read, built or contradicts itself.
    """
    from workbench.checkpoints.loading import load_state

    checkpoint = opening.required()
    config = opening.read_config()
    for modules in config_modules():
        config = modules.fitted(config, checkpoint.tensors)
    numbers = sum(math.prod(info.shape) for info in checkpoint.infos().values())
    module = build(config, most_parameters(numbers)).eval()
    grids = position_grids(module) if opening.resample_pos_embed else None
    if opening.resample_pos_embed:
        allow_resampling(module)
    report = load_state(module, checkpoint, remap=opening.remap, grids=grids)
    folder = checkpoint.path.resolve().parent
    return model_of(module, config, checkpoint.dataset_meta, opening.device, folder), report


def build(config: Mapping[str, Any], most: int = ALONE) -> nn.Module:
    """The network of a config with fresh weights; nothing is downloaded.

    The one place where a config becomes an object. An OwnConfig may name the user's own code; of any other
    only registered classes are built that touch no file.

    Args:
        config: the whole config.
        most: parameters that an untrusted config may ask for.

    Raises:
        ValueError: a type that an untrusted config may not name, keys that do not belong, a part that cannot
            be built with what it was given, or a model that is no network.
    """
    from workbench.models.mmpose_compat import registered_only

    settings = _register(config)
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmpose.registry import MODELS

    own = isinstance(config, OwnConfig)
    plain = with_sapiens_head(_plain({key: part for key, part in settings.items() if key != "train_cfg"}))
    model = Config({"model": plain if own else allowed(plain, "model")}).model
    with DefaultScope.overwrite_default_scope("mmpose"), quiet():
        if wrong := misplaced_keys(model):
            raise ValueError(f"config: {'; '.join(wrong)}")
        limits = contextlib.nullcontext() if own else bounded(most)
        with _one_sentence(), limits, registered_only(not own):
            module = MODELS.build(model)
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"config: expected a network, but model of type {str(settings['type'])[:80]} gives "
            f"a {type(module).__name__}"
        )
    for part, inner in module.__dict__.items():
        if part in NETWORK_PARTS and inner is not None:  # networks are no attributes of their own
            raise ValueError(f"config: expected a network, but its {part} gives a {type(inner).__name__}")
    return module


def from_config(config: Mapping[str, Any], device: str = "cpu") -> PoseModel:
    """A model of a config with first weights; a pretrained backbone that it names is left out.

    Args:
        config: the whole config.
        device: where to put the weights.

    Raises:
        ValueError: see `build`.
    """
    from workbench.models.mmpose_compat import registered_only

    module = build(changed(config, model=without_pretrained(config.get("model"))))
    # Initialisers are made of the config only now. mmengine tells of every tensor it fills.
    with quiet(), _one_sentence(), registered_only(not isinstance(config, OwnConfig)):
        module.init_weights()  # type: ignore[operator]
    return model_of(module, config, None, device)


def model_of(
    module: nn.Module,
    config: Mapping[str, Any],
    dataset_meta: Mapping[str, Any] | None,
    device: str = "cpu",
    folder: Path | None = None,
) -> PoseModel:
    """A workbench model around an mmpose network.

    Args:
        module: built by `build`, weights loaded.
        config: the whole config.
        dataset_meta: the checkpoint's description of its keypoints, where it has one.
        device: where to run.
        folder: where files that the config names may lie.

    Raises:
        ValueError: the config contradicts itself, or holds values of another kind than mmpose's.
    """
    with config_values():
        return _model_of(module, config, dataset_meta, device, folder)


def _model_of(
    module: nn.Module,
    config: Mapping[str, Any],
    dataset_meta: Mapping[str, Any] | None,
    device: str,
    folder: Path | None,
) -> PoseModel:
    from mmpose.models.pose_estimators import TopdownPoseEstimator

    head = getattr(module, "head", None)
    K = keypoints_of(head)
    test_cfg = (config.get("model") or {}).get("test_cfg") or {}
    chosen = test_cfg.get("output_keypoint_indices")
    skeleton, assumed = skeleton_of(config, dataset_meta, len(chosen) if chosen else K)
    kind = type(module).__name__
    if groups(head):
        try:
            return bottom_up_of(module, config, skeleton, device, assumed)
        except NotAvailable as reason:
            return OnlyWeights(module, skeleton, taps_of(module), str(reason))
    if not isinstance(module, TopdownPoseEstimator) or head is None:
        return OnlyWeights(module, skeleton, taps_of(module), f"{kind} is no top-down model with a head")
    try:
        codec: Codec | None = codec_of(config)
    except NotAvailable:
        codec = None
    crop: Preprocessing = preprocessing_of(config)
    call, read, convert = reading(module, codec, crop.input_size, chosen)
    model = TopDown(
        module=module.to(device),
        skeleton=skeleton,
        codec=codec,
        mean=crop.mean,
        std=crop.std,
        bgr=crop.bgr,
        padding=crop.padding,
        warp_udp=crop.warp_udp,
        call=call,
        read=read,
        input_size=crop.input_size,
        device=device,
        shift_heatmap=bool(test_cfg.get("shift_heatmap", False)),
        # mmpose moves them unless it is told not to.
        shift_coordinates=1 / crop.input_size[1] if test_cfg.get("shift_coords", True) else 0.0,
        note="; ".join(note for note in (assumed, crop.note) if note),
    )
    if isinstance(config, OwnConfig) and (own := own_classes(module)):
        return with_own_text(model, config, folder, convert, own)
    for modules in config_modules():
        if modules.built(module):
            return modules.wrapped(model, config, folder)
    return attending(model)


def keypoints_of(head: Any) -> int:
    """How many keypoints a head gives; 0 when it does not say."""
    if groups(head):
        return head.num_keypoints  # the other channels are tags
    found = [getattr(head, name, None) for name in ("out_channels", "num_joints")]
    K = next((n for n in found if isinstance(n, int)), 0)
    # UDP's combined form has a class map and two offset maps per keypoint.
    return K // 3 if getattr(getattr(head, "decoder", None), "heatmap_type", "") == "combined" else K


@dataclass(frozen=True, eq=False)
class OnlyWeights:
    """A network whose weights can be looked at, and whose outputs this version cannot read."""

    module: nn.Module
    skeleton: Skeleton
    taps: Mapping[str, str]
    reason: str
    codec: Codec | None = None
    note: str = ""

    def prepare(self, samples: Sequence[Sample]) -> Batch:
        """Say why not.

        Raises:
            NotAvailable: always, with the reason.
        """
        raise NotAvailable(f"a forward pass: {self.reason}; opening, loading and comparing weights work")

    def forward(self, batch: Batch) -> Outputs:
        """Say why not.

        Raises:
            NotAvailable: always, with the reason.
        """
        raise NotAvailable(f"outputs: {self.reason}")

    def decode(self, outputs: Outputs, batch: Batch, options: DecodeOptions) -> tuple[Prediction, ...]:
        """Say why not.

        Raises:
            NotAvailable: always, with the reason.
        """
        raise NotAvailable(f"keypoints: {self.reason}")


def _plain(value: Any) -> Any:
    """A copy with plain dictionaries in place of mmengine's."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(v) for v in value)
    return value


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without mmengine's warnings that mmdet and mmpretrain are absent: their parts are found elsewhere."""
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    """What a registry or a constructor makes of a wrong value, as a user's mistake."""
    try:
        yield
    except _CONSTRUCTORS as error:
        if isinstance(error, ValueError) and str(error).startswith("config: "):
            raise  # said already
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"config: the model cannot be built: {kind}{reason(error)}") from error
