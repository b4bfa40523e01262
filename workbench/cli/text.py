"""workbench text: descriptions as vectors, and whether those tell keypoints and species apart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from workbench.cli.options import Demo, argument, option
from workbench.cli.output import Answer, check_room, written

if TYPE_CHECKING:
    from workbench.text import TextVectors

Descriptions = Annotated[
    Path | None, argument("Descriptions (.toml, .json) to encode, or vectors (.npz) to look at.")
]
EncoderName = Annotated[
    str,
    option(
        "--encoder",
        "A folder in sentence-transformers or Hugging Face layout, or a name below $WORKBENCH_ENCODERS.",
    ),
]
Of = Annotated[str, option("--of", "Compare the sentences of keypoints or of subjects.")]
Vectors = Annotated[Path | None, option("--out", "Write the vectors, a name ending in .npz.")]
DEMO = "drawn-quadrupeds"


def command(
    file: Descriptions = None,
    encoder: EncoderName = "all-MiniLM-L6-v2",
    of: Of = "keypoints",
    out: Vectors = None,
    demo: Demo = False,
) -> Answer:
    """Encode descriptions with an encoder on this machine; show which sentences are alike."""
    from workbench.text.vectors import similarity

    if of not in ("keypoints", "subjects"):
        raise ValueError(f"--of: expected keypoints or subjects, got {of!r}")
    if out is not None and out.suffix.lower() != ".npz":
        raise ValueError(f"--out: vectors are written as .npz, got {out.name}")
    if out is not None:
        check_room(out)
    text = _vectors(file, encoder, demo)
    report = similarity(text, of)  # type: ignore[arg-type] - one of the two
    facts: dict[str, Any] = {
        **report.to_json(),
        "dimension": int(text.keypoint_vectors.shape[1]),
        "nearest": report.table(),
    }
    lines = [report.summary(), f"{facts['dimension']} dimensions per sentence vector", ""]
    lines += [
        f"{row[of[:-1]]:14}  " + ", ".join(str(row[key]) for key in row if key.startswith("nearest"))
        for row in report.table()
    ]
    if out is not None:
        from workbench.text.vectors import write_text

        out = write_text(text, out)
    return written(Answer(facts, "\n".join(lines)), out)


def _vectors(file: Path | None, encoder: str, demo: bool) -> TextVectors:
    from workbench.data.opening import cache_folder
    from workbench.models.sentence_encoder import sentence_encoder
    from workbench.text.encoding import encoded, encoder_named, read_descriptions
    from workbench.text.vectors import builtin_text, read_text

    if file is None:
        if not demo:
            raise ValueError("text: expected descriptions or vectors; --demo shows the built-in ones")
        return builtin_text(DEMO)
    if file.suffix == ".npz":
        return read_text(file)
    # The file first: a mistake in it is reported before an encoder is loaded.
    described = read_descriptions(file)
    found = encoder_named(encoder)
    return encoded(described, found, sentence_encoder(found.folder), cache_folder() / "text")
