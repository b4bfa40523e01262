"""`workbench open FILE`: what a checkpoint is, without running anything in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.options import Demo, argument, option
from workbench.cli.output import Answer
from workbench.core.report import counted

if TYPE_CHECKING:
    from workbench.checkpoints import Checkpoint

Files = Annotated[
    list[Path] | None,
    argument("A checkpoint; for a model in several files, all of them, their folder or their index."),
]
Hash = Annotated[bool, option("--hash", "Also print the sha256 (reads the whole file).")]
Names = Annotated[bool, option("--tensors", "Also list every tensor with shape and type.")]


def command(files: Files = None, demo: Demo = False, hashed: Hash = False, names: Names = False) -> Answer:
    """What a checkpoint is: format, family with evidence, epoch, metrics, averages, what it wanted to run."""
    from workbench.checkpoints import open_checkpoint

    checkpoint = open_checkpoint(_chosen(files, demo))
    facts = facts_of(checkpoint)
    if hashed:
        facts["sha256"] = checkpoint.sha256()
    if names:
        facts["tensor_list"] = [
            {"name": i.name, "shape": list(i.shape), "dtype": i.dtype} for i in checkpoint.tensors.values()
        ]
    return Answer(facts, as_text(facts))


def _chosen(files: Sequence[Path] | None, demo: bool) -> Path | list[Path]:
    if files:
        return files[0] if len(files) == 1 else list(files)
    if not demo:
        raise ValueError("no checkpoint: name a file, or try the built-in one with --demo")
    from workbench.checkpoints.demo import demo_checkpoints

    return demo_checkpoints()[-1]


def facts_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `open` tells, as plain data."""
    identity = checkpoint.identity
    return {
        "file": [str(path) for path in checkpoint.paths]
        if len(checkpoint.paths) > 1
        else str(checkpoint.path),
        "bytes": sum(path.stat().st_size for path in checkpoint.paths),
        "container": checkpoint.container,
        "format": checkpoint.format,
        "wrapper": checkpoint.wrapper,
        "prefix": checkpoint.prefix,
        "family": identity.family,
        "variant": identity.variant,
        "naming": identity.naming,
        "evidence": list(identity.evidence),
        "expected": identity.expected,
        "contradictions": list(identity.contradictions),
        "keypoints": identity.keypoints,
        "input_size": identity.input_size,
        "epoch": checkpoint.epoch,
        "iteration": checkpoint.iteration,
        "metrics": checkpoint.metrics,
        "metrics_note": checkpoint.metrics_note,
        "tensors": len(checkpoint.tensors),
        "parameters": checkpoint.parameters,
        "parts": checkpoint.parts(),
        "shared": list(checkpoint.shared),
        "unread": [
            {"name": name, "kind": tensor.kind, "shape": None if tensor.shape is None else list(tensor.shape)}
            for name, tensor in checkpoint.unread.items()
        ],
        "not_read": checkpoint.unread_text,
        "left": list(checkpoint.left),
        "dtype": checkpoint.dtypes,
        "ema": checkpoint.ema,
        "optimizer": checkpoint.optimizer,
        "dataset_meta": checkpoint.dataset_meta,
        "versions": checkpoint.versions,
        "config": checkpoint.config_text,
        "facts": dict(checkpoint.facts),
        "inert": list(checkpoint.inert),
    }


def as_text(facts: Mapping[str, Any]) -> str:
    """The same for a person: what is asked first stands first."""
    from workbench.checkpoints.loading import millions
    from workbench.core.plain_text import printable

    files = facts["file"] if isinstance(facts["file"], list) else [facts["file"]]
    size = facts["input_size"]
    rows: list[tuple[str, str]] = [
        ("file", f"{', '.join(Path(f).name for f in files)}  ({_size(facts['bytes'])})")
    ]
    kind = dict.fromkeys((facts["format"], facts["container"]))  # of a plain .npz they are the same
    rows.append(("format", "; ".join(kind) + _where(facts)))
    rows.append(
        (
            "family",
            f"{facts['family']} {facts['variant']}".strip()
            + (f", {counted(facts['keypoints'], 'keypoint')}" if facts["keypoints"] else "")
            + (f", input {size[1]}x{size[0]} (w x h)" if size else ""),
        )
    )
    rows += [("", f"- {sentence}") for sentence in facts["evidence"]]
    rows += [("but", sentence) for sentence in facts["contradictions"]]
    rows.append(("expected", facts["expected"]))
    rows.append(("trained", _trained(facts)))
    rows.append(("metrics", _metrics(facts["metrics"])))
    rows.append(("", facts["metrics_note"]))
    kinds = ", ".join(f"{n} {kind}" for kind, n in facts["dtype"].items())
    rows.append(("tensors", f"{facts['tensors']} ({kinds}), {millions(facts['parameters'])} parameters"))
    rows += _unread(facts)
    parts = sorted(facts["parts"].items(), key=lambda part: -part[1])
    rows.append(
        ("parts", ", ".join(f"{n} {millions(c)}" for n, c in parts[:8]) + (" ..." if len(parts) > 8 else ""))
    )
    rows.append(("ema", facts["ema"]))
    rows.append(("optimizer", facts["optimizer"] or ""))
    rows.append(("data set", _data_set(facts["dataset_meta"])))
    rows.append(("versions", ", ".join(f"{k} {v}" for k, v in facts["versions"].items())))
    rows.append(("graph", _graph(facts["facts"])))
    rows.append(
        ("config", f"inside, {counted(len(facts['config'].splitlines()), 'line')}" if facts["config"] else "")
    )
    rows.append(("inert", _inert(facts["inert"])))
    rows.append(("sha256", facts.get("sha256", "")))
    rows += [("", f"{t['name']}  {tuple(t['shape'])}  {t['dtype']}") for t in facts.get("tensor_list", ())]
    # A line of the file's own words must not become a line of ours.
    return "\n".join(f"{name:<10}{printable(text)}" for name, text in rows if text)


def _unread(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the count of tensors leaves out, or counts once."""
    rows = []
    if facts["shared"]:
        names = ", ".join(facts["shared"][:3]) + (" ..." if len(facts["shared"]) > 3 else "")
        count = len(facts["shared"])
        hold = counted(count, "tensor holds", "tensors hold")
        rows.append(("shared", f"{counted(hold, 'weight')} that others hold too, counted once: {names}"))
    if facts["unread"]:
        names = ", ".join(tensor["name"] for tensor in facts["unread"][:3])
        rows.append(("not read", f"{facts['not_read']}: {names}{' ...' if len(facts['unread']) > 3 else ''}"))
    if facts["left"]:
        rows.append(("left", f"the file holds more weights, which are not read: {'; '.join(facts['left'])}"))
    if "checksums" in facts["facts"]:
        rows.append(("checksums", facts["facts"]["checksums"]))
    return rows


def _where(facts: Mapping[str, Any]) -> str:
    said = (
        [f"weights under {facts['wrapper']!r}"] if facts["wrapper"] and "under" not in facts["format"] else []
    )
    said += [f"names begin with {facts['prefix']!r}"] if facts["prefix"] else []
    return "".join(f"; {text}" for text in said)


def _trained(facts: Mapping[str, Any]) -> str:
    said = [f"{name} {facts[name]}" for name in ("epoch", "iteration") if facts[name] is not None]
    return ", ".join(said) or "the file does not say for how long"


def _metrics(metrics: Mapping[str, float]) -> str:
    """Validation first, then the rest; rates and norms are no result."""
    results = [name for name in metrics if not name.endswith(("lr", "grad_norm"))]
    results.sort(key=lambda name: (name.startswith("train"), not name.startswith(("val", "coco", "best"))))
    shown = ", ".join(f"{name} {metrics[name]:.4g}" for name in results[:12])
    return shown + (f" and {len(results) - 12} more" if len(results) > 12 else "")


def _data_set(meta: Mapping[str, Any]) -> str:
    name = meta.get("dataset_name", "")
    count = meta.get("num_keypoints")
    return ", ".join(str(t) for t in (name, counted(count, "keypoint") if count else "") if t) or (
        "described" if meta else ""
    )


def _graph(facts: Mapping[str, Any]) -> str:
    def listed(ports: Mapping[str, Any]) -> str:
        return ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in ports.items())

    if "inputs" not in facts:
        return ""
    return f"{listed(facts['inputs'])} -> {listed(facts['outputs'])}"


def _inert(names: Sequence[str]) -> str:
    if not names:
        return "none: every class and function that the file names is known to be harmless"
    return f"{len(names)} named in the file, neither imported nor called: {', '.join(names[:8])}" + (
        " ..." if len(names) > 8 else ""
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count:,} bytes"
