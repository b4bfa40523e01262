"""Are these files the parts of one model? Told by an index, by their names or by those of their tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from workbench.checkpoints.averages import Averages
from workbench.checkpoints.checkpoint import Checkpoint
from workbench.checkpoints.identity import Identity, identify_shapes
from workbench.checkpoints.state_dicts import common_prefix, unwrapped

_SHARD = re.compile(r"(.*?)[-_.]?(\d+)[-_]of[-_](\d+)$")
_NUMBERED = re.compile(r"(.*?)[-_.]?(?:part|shard|rank)?[-_.]?(\d+)$", re.IGNORECASE)
# Names of whole checkpoints in time, never of parts.
_IN_TIME = re.compile(r"epoch|iter|step|best|last|latest|final|ckpt|checkpoint|ema|swa", re.IGNORECASE)
# First parts of names in backbones, necks and heads of the known families.
_USUAL = re.compile(
    r"(backbone|neck|head|keypoint_head|header|conv[12]|bn[12]|layer[1-4]|transition[1-3]|stage[2-4]|"
    r"final_layers?|deconv_layers)\."
)


def merged(opened: Sequence[Checkpoint], by_index: bool) -> Checkpoint:
    """Several parts as one checkpoint; what the training left is taken from the first that has it.

    Where two parts hold a tensor of the same name and the files are named as modules are (``attention_hi``,
    ``body``), each part's tensors are put under its file's name.

    Args:
        opened: at least two.
        by_index: an index or a folder names them as one model.

    Raises:
        ValueError: nothing says that they are parts of one model, or their tensors collide.
    """
    twice = _collision(opened)
    complete = [part for part in opened if _is_whole(part)]
    if len(complete) > 1 and not by_index:
        raise ValueError(_refusal(opened, "each is a whole network", twice))
    prefixes = [""] * len(opened)
    if twice:
        if by_index or not _named_as_modules(opened):
            raise ValueError(_refusal(opened, "", twice))
        prefixes = [_prefix(part) for part in opened]
    elif not (by_index or _numbered(opened) or _named_as_their_tensors(opened) or _more_together(opened)):
        raise ValueError(_refusal(opened, "neither an index nor their names say so", ""))
    tensors, unread = {}, {}
    for part, prefix in zip(opened, prefixes, strict=True):
        tensors |= {prefix + n: replace(info, name=prefix + n) for n, info in part.tensors.items()}
        unread |= {prefix + name: item for name, item in part.unread.items()}
    best = max(opened, key=lambda part: (part.epoch is not None, len(part.meta)))
    how = ", each under its file's name" if twice else ""
    return replace(
        best,
        paths=tuple(path for part in opened for path in part.paths),
        tensors=tensors,
        unread=unread,
        left=tuple(dict.fromkeys(text for part in opened for text in part.left)),
        # Averages of one part say nothing of the others.
        averages=Averages(),
        prefix=common_prefix(tensors),
        inert=tuple(dict.fromkeys(name for part in opened for name in part.inert)),
        format=f"{best.format}, in {len(opened)} parts{how}",
    )


def _collision(opened: Sequence[Checkpoint]) -> str:
    """The first name that two parts hold, with both files; "" if none."""
    seen: dict[str, str] = {}
    for part in opened:
        for name in part.tensors:
            if name in seen:
                return f"{seen[name]} and {part.path.name} both hold {name!r}"
            seen[name] = part.path.name
    return ""


def _is_whole(part: Checkpoint) -> bool:
    """A head that tells its keypoints, and a layer that takes an image."""
    return part.identity.keypoints is not None and _takes_images(info.shape for info in part.tensors.values())


def _takes_images(shapes: Iterable[tuple[int, ...]]) -> bool:
    """A convolution over three channels; one over a single channel may be depthwise."""
    return any(len(shape) == 4 and shape[1] == 3 for shape in shapes)


def _named_as_modules(opened: Sequence[Checkpoint]) -> bool:
    """File names that could be attributes of one module, in one folder, and not the same network again."""
    stems = [part.path.stem for part in opened]
    shapes = [{name: info.shape for name, info in part.tensors.items()} for part in opened]
    without_numbers = {re.sub(r"\d+", "", stem) for stem in stems}
    alike = all(one == shapes[0] for one in shapes)
    return (
        len({part.path.resolve().parent for part in opened}) == 1
        and len(set(stems)) == len(stems)
        and all(stem.isidentifier() and not _IN_TIME.search(stem) for stem in stems)
        # a_1 and a_2 of the same shapes may be two states of one network; attention_hi and _lo are named.
        and not (alike and (len(without_numbers) == 1 or not _shares_a_word(stems)))
        # p1 and p2 that hold a few of the same tensors are shards that overlap.
        and not (len(without_numbers) == 1 and _overlap(shapes))
    )


def _overlap(parts: Sequence[Mapping[str, tuple[int, ...]]]) -> bool:
    """Some names stand in all of the parts, with one shape, and each part has others that no other has."""
    common = set.intersection(*map(set, parts))
    own = [set(part).difference(*(other for other in parts if other is not part)) for part in parts]
    return (
        bool(common) and all(own) and all(part[name] == parts[0][name] for part in parts for name in common)
    )


def _shares_a_word(stems: Sequence[str]) -> bool:
    words = [set(stem.split("_")) for stem in stems]
    return bool(set.intersection(*words))


def _prefix(part: Checkpoint) -> str:
    """The file's name as a prefix, where its tensors do not begin with it already."""
    stem = part.path.stem
    return "" if all(name.startswith(f"{stem}.") for name in part.tensors) else f"{stem}."


def _numbered(opened: Sequence[Checkpoint]) -> bool:
    """One stem and the numbers 1 to n (or 0 to n - 1), as sharded files have."""
    for pattern in (_SHARD, _NUMBERED):
        found = [pattern.match(part.path.stem) for part in opened]
        if not all(found):
            continue
        stems = {match[1] for match in found if match}
        numbers = sorted(int(match[2]) for match in found if match)
        in_time = any(_IN_TIME.search(stem) for stem in stems)
        if (
            len(stems) == 1
            and numbers[0] in (0, 1)
            and numbers == list(range(numbers[0], numbers[0] + len(found)))
        ):
            return pattern is _SHARD or not in_time
    return False


def _named_as_their_tensors(opened: Sequence[Checkpoint]) -> bool:
    """backbone.pth holds backbone.*, my_head.pth holds head.*: each file's name says which part it is."""

    def says(part: Checkpoint) -> bool:
        firsts = {unwrapped(name).removeprefix(part.prefix).partition(".")[0] for name in part.tensors}
        return len(firsts) == 1 and bool(
            re.search(rf"(?:^|_|-){re.escape(next(iter(firsts)))}$", part.path.stem)
        )

    return all(says(part) for part in opened)


def _more_together(opened: Sequence[Checkpoint]) -> bool:
    """The tensors together are a known pose network, which none of the parts is alone."""
    union = identify_shapes(
        {
            unwrapped(name).removeprefix(part.prefix): info.shape
            for part in opened
            for name, info in part.tensors.items()
        }
    )
    usual = all(
        _USUAL.match(unwrapped(name).removeprefix(part.prefix)) for part in opened for name in part.tensors
    )
    images = _takes_images(info.shape for part in opened for info in part.tensors.values())
    return usual and images and _known(union) and not any(_is_whole(part) for part in opened)


def _known(identity: Identity) -> bool:
    return identity.keypoints is not None and not identity.family.startswith(("unknown", "heatmap head over"))


def _refusal(opened: Sequence[Checkpoint], why: str, twice: str) -> str:
    """What the files are, and what to do."""
    told = ", ".join(f"{part.path.name} ({part.identity})" for part in opened[:5])
    more = f" and {len(opened) - 5} more" if len(opened) > 5 else ""
    reasons = "; ".join(text for text in (why, twice) if text)
    return (
        f"{told}{more} are not parts of one model: {reasons}. Name one file; or say that they belong "
        "together by a *.index.json, by numbered names (model-1-of-2, model-2-of-2), or by file names "
        "that are those of the modules (backbone.pth, head.pth)"
    )
