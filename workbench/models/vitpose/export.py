"""Write a ViTPose or Sapiens checkpoint under the names of another code base; and tiny random ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from workbench.checkpoints import open_checkpoint
from workbench.checkpoints.remap import VITPOSE_PLUS
from workbench.checkpoints.vit_names import NAMINGS
from workbench.core.files import write_text
from workbench.core.report import counted
from workbench.models.opening import Opening, StatedFacts
from workbench.models.vitpose.conversion import Weights, converted, transformers_config, weights_of
from workbench.models.vitpose.network import CLASSIC, Architecture, HeadShape, ViTPose
from workbench.skeletons import SKELETONS

if TYPE_CHECKING:
    from workbench.checkpoints import Checkpoint

# Parameters up to which outputs are compared unasked: two networks and one image on a CPU, some seconds.
_MOST_CHECKED = 700_000_000
# Names that transformers' from_pretrained looks for in a folder; a config.json is needed beside them.
_LOOKED_FOR = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        file: name of the file.
        source: its naming, a key of NAMINGS.
        target: the naming that was asked for.
        tensors: read from the file.
        written: tensors of the new file.
        files: that were written.
        expert: of a ViTPose+ file, the data set whose expert and head were joined; "".
        dropped: tensors that were left out because the user named them.
        left: what the file holds besides and the new one does not, in words.
        notes: what the two code bases do not agree on.
        max_abs: largest difference of the heatmaps of both files for one input; None where not compared.
        largest: largest value of the heatmaps.
        config: what transformers' config.json says; {} for other targets.
    """

    file: str
    source: str
    target: str
    tensors: int
    written: int
    files: tuple[str, ...]
    expert: str = ""
    dropped: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    max_abs: float | None = None
    largest: float | None = None
    config: dict[str, Any] | None = None

    def summary(self) -> str:
        """One sentence."""
        names = f"{NAMINGS[self.source]} -> {NAMINGS[self.target]}"
        joined = f", expert and head of {self.expert}" if self.expert else ""
        text = (
            f"{self.file}: {names}, {counted(self.tensors, 'tensor')} read and {self.written} written{joined}"
        )
        if self.max_abs is None:
            return f"{text}; outputs were not compared"
        verdict = (
            "outputs are equal" if self.max_abs == 0 else f"outputs differ by {self.max_abs:.2g} at most"
        )
        return f"{text}; {verdict} for one random input (largest heatmap value {self.largest:.3g})"


def convert(
    checkpoint: Checkpoint,
    target: str,
    out: Path,
    stated: StatedFacts | None = None,
    dropped: Sequence[str] = (),
    check: bool | None = None,
) -> Conversion:
    """Write a checkpoint's weights under another naming.

    Args:
        checkpoint: opened.
        target: a key of NAMINGS.
        out: the new file; its ending says as what.
        stated: expert of a ViTPose+ file, number of attention heads, input size.
        dropped: names of tensors without a place that are left out on purpose.
        check: read the new file and compare its heatmaps with those of the old one; None does so for networks
            of up to 700 million parameters.

    Raises:
        NotAvailable: no ViTPose or Sapiens network.
        ValueError: a tensor has no place under the other naming.
    """
    from workbench.checkpoints.safetensors_file import write_weights
    from workbench.models.vitpose.model import known_names

    stated, where = stated or StatedFacts(), checkpoint.path.name
    if checkpoint.unread:
        raise ValueError(f"{where}: {checkpoint.unread_text} cannot be read, so nothing is converted")
    weights = weights_of(checkpoint, stated.expert)
    pieces = converted(weights, target, where, dropped)
    network = _architecture(checkpoint, weights, stated)
    config, notes = None, _notes(checkpoint, weights, target, network, stated)
    if target == "hf" and network is not None and not _is_bare(weights):
        names = known_names(checkpoint, weights.naming)
        config = transformers_config(weights.shapes, network.heads, network.image, network.eps, names)
        if out.name in _LOOKED_FOR:
            _refuse_other_config(out, config)
    meta = {name: checkpoint.meta[name] for name in ("dataset_meta", "vitpose") if name in checkpoint.meta}
    if target == "hf":
        write_weights(out, pieces, metadata={"format": "pt"})
    else:
        write_weights(out, pieces, metadata={"format": "pt"}, wrapper="state_dict", meta=meta)
    files = [str(out)]
    if config is not None and out.name in _LOOKED_FOR:
        files.append(str(write_text(out.parent / "config.json", _as_text(config), follow=False)))
    found = Conversion(
        where, weights.naming, target, len(checkpoint.infos()), len(pieces), tuple(files),
        expert=VITPOSE_PLUS[stated.expert][0] if stated.expert in VITPOSE_PLUS else "",
        dropped=tuple(dropped), left=_left(checkpoint, meta), notes=tuple(notes), config=config,
    )  # fmt: skip
    wanted = checkpoint.parameters <= _MOST_CHECKED if check is None else check
    comparable = network is not None and "head.final_layer.weight" in weights.pieces
    if not (wanted and comparable):
        return found
    assert network is not None
    max_abs, largest = _difference(checkpoint, out, weights, network, target)
    return replace(found, max_abs=max_abs, largest=largest)


def _is_bare(weights: Weights) -> bool:
    return "head.final_layer.weight" not in weights.pieces


def _architecture(checkpoint: Checkpoint, weights: Weights, stated: StatedFacts) -> Architecture | None:
    """Sizes of the network; None for a backbone without head, whose sizes nobody needs."""
    from workbench.models.vitpose.model import RecordedFacts, architecture_of

    if _is_bare(weights):
        return None
    recorded = RecordedFacts.of(checkpoint, weights.naming)
    return architecture_of(weights, recorded, Opening(checkpoint, stated=stated))[0]


def _notes(
    checkpoint: Checkpoint, weights: Weights, target: str, network: Architecture | None, stated: StatedFacts
) -> list[str]:
    notes = []
    if network is not None and target != "hf" and network.eps != 1e-6:
        notes.append(
            f"layer norms add {network.eps:g} in {NAMINGS[weights.naming]} and 1e-06 in the code that "
            f"{NAMINGS[target]} belong to"
        )
    if weights.leftover:
        notes.append(
            f"{counted(len(weights.leftover), 'tensor')} of experts were left out: fc2 has all rows, so the "
            "file was joined for one data set before and no network uses them"
        )
    if stated.expert is not None:
        notes.append(
            f"the experts and heads of the other data sets of {checkpoint.path.name} are not in the file"
        )
    return notes


def _left(checkpoint: Checkpoint, meta: dict[str, Any]) -> tuple[str, ...]:
    """What the file holds besides the weights that were written."""
    left = [*checkpoint.left]
    if checkpoint.averages.text:
        left.append("its other weights, averaged or raw (EMA)")
    if checkpoint.optimizer:
        left.append("the optimizer's state")
    if checkpoint.config_text:
        left.append("its training config")
    others = [name for name in checkpoint.meta if name not in meta]
    left += [f"training state: {', '.join(others[:6])}"] if others else []
    return tuple(left)


def _as_text(config: dict[str, Any]) -> str:
    return json.dumps(config, indent=2) + "\n"


def _refuse_other_config(out: Path, config: dict[str, Any]) -> None:
    path = out.parent / "config.json"
    wanted = _as_text(config).encode()
    if path.is_file() and (path.stat().st_size != len(wanted) or path.read_bytes() != wanted):
        raise ValueError(
            f"{out.name} needs a {path.name} beside it, and the one in {out.parent} says something else; "
            "choose a folder of its own, or another name for the weights"
        )


def _difference(
    checkpoint: Checkpoint, out: Path, weights: Weights, network: Architecture, target: str
) -> tuple[float, float]:
    """Largest difference of the heatmaps of both files for one random input, and their largest value."""
    import torch

    height, width = network.image
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, height, width, generator=generator)
    before = _heatmaps(checkpoint, weights, network, pixels)
    written = open_checkpoint(out)
    eps = network.eps if target == "hf" else 1e-6
    after = _heatmaps(written, weights_of(written), replace(network, eps=eps), pixels)
    return float((after - before).abs().max()), float(before.abs().max())


def _heatmaps(checkpoint: Checkpoint, weights: Weights, network: Architecture, pixels: Any) -> Any:
    """Of a file under any naming, by the workbench's own network; ViTPose+ with its first expert."""
    import torch

    from workbench.checkpoints.loading import load_state
    from workbench.models.vitpose.model import head_of, plain_pieces, weights_to_load
    from workbench.models.vitpose.network import ViTPose

    if weights.expert is None:
        weights, _ = weights_to_load(checkpoint)
    module = ViTPose(network, head_of(weights.shapes, checkpoint.path.name)).eval()
    pieces = plain_pieces(weights, module)
    load_state(module, checkpoint, pieces=pieces, remap=False).require_complete()
    with torch.no_grad():
        return module(pixels)


# A tiny ViTPose with random weights, written where it is asked for: what the verbs' --demo works on.


TINY = Architecture(width=128, layers=3, heads=2, hidden=256, image=(128, 96))


def random_vitpose(
    architecture: Architecture = TINY, head: HeadShape | None = None, seed: int = 0
) -> ViTPose:
    """A network whose weights are random and large enough for every part to matter.

    Args:
        architecture: of the backbone.
        head: of the head; ViTPose's classic decoder for 17 keypoints by default.
        seed: of the weights.
    """
    network = ViTPose(architecture, head or HeadShape(17, CLASSIC)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(noise.abs() + 0.5)
            elif tensor.ndim > 1:
                tensor.copy_(noise * tensor[0].numel() ** -0.5)
            else:
                tensor.copy_(noise * 0.1 + name.endswith("weight"))  # of norms, around 1
    return network


def write_demo(folder: Path, naming: str = "mmpose-1", name: str = "") -> Path:
    """A file with such a network.

    Args:
        folder: where it is written.
        naming: of NAMINGS.
        name: of the file; ``tiny-vitpose.pth`` or, for Hugging Face's naming, ``model.safetensors``.
    """
    from workbench.models.vitpose.model import new_vitpose, write

    first = folder / ("tiny-vitpose.pth" if naming == "mmpose-1" else "tiny-vitpose-mmpose-1.pth")
    write(new_vitpose(random_vitpose(), SKELETONS["coco-17"]), first, 1)
    if naming == "mmpose-1":
        return first.rename(folder / name) if name else first
    out = folder / (name or ("model.safetensors" if naming == "hf" else "tiny-vitpose.pth"))
    convert(open_checkpoint(first), naming, out, check=False)
    first.unlink()
    return out


def demo_to_convert(folder: Path, target: str) -> tuple[Path, str]:
    """A file of such a network under another naming than the target's, and the name of the converted file.

    Args:
        folder: where it is written.
        target: a key of NAMINGS.
    """
    file = write_demo(folder, "mmpose-1" if target != "mmpose-1" else "mmpose-0")
    names = {"hf": "model.safetensors", "mmpose-1": "mmpose-1.pth", "mmpose-0": "mmpose-0.pth"}
    return file, names[target]


def demo_port(folder: Path) -> tuple[Path, Path]:
    """Such a network, and a port of it that forgot the position of the class token: a mistake often made."""
    return write_demo(folder, "mmpose-0", name="original.pth"), write_forgetful_port(folder)


def write_forgetful_port(folder: Path) -> Path:
    """The same network under mmpose 1.x names, without what ViTPose 0.x adds to all positions.

    ViTPose 0.x has a position for a class token and adds it to those of all patches; a port that merely cuts
    it off differs from the first layer on.
    """
    from workbench.models.vitpose.model import new_vitpose, write

    network = random_vitpose()
    generator = torch.Generator().manual_seed(1)
    width = network.backbone.architecture.width
    with torch.no_grad():
        network.backbone.pos_embed.sub_(torch.randn(1, 1, width, generator=generator) * 0.1)
    write(new_vitpose(network, SKELETONS["coco-17"]), folder / "port.pth", 1)
    return folder / "port.pth"
