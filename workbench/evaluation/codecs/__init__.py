"""What a codec costs: a model's outputs read in every way, and the error of encoding and decoding alone."""

from workbench.evaluation.codecs.encoding_error import CodecErrors, Person, Setup, codec_errors
from workbench.evaluation.codecs.matrix import codec_matrix
from workbench.evaluation.codecs.report import CodecMatrix, Moves, Variant
from workbench.evaluation.codecs.ways import Way

__all__ = [
    "CodecErrors",
    "CodecMatrix",
    "Moves",
    "Person",
    "Setup",
    "Variant",
    "Way",
    "codec_errors",
    "codec_matrix",
]
