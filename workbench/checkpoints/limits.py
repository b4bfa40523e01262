"""How much may a file ask for before it is taken for a bomb?

A pickle of a few hundred bytes can ask for terabytes. Every limit here is far above what real checkpoints
hold (an mmengine checkpoint of RTMPose with optimiser and log history: 60,000 opcodes, 3 MB of text) and far
below what hurts a laptop.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds on what is read into memory when a checkpoint is opened. Tensors stay on disk and do not count.

    Attributes:
        opcodes: pickle instructions.
        objects: lists, dicts, sets, tuples and other containers; also values on the stack and in the memo.
        text: bytes of strings and byte strings, together, and of compressed pickles.
        digits: bytes of one integer.
        key_parts: values inside one dict key; nested tuples hash in exponential time.
        tensors: in one file.
        name: characters of a tensor's name.
        header: bytes of a safetensors header, a shard index or other JSON.
        ratio: how many times larger a compressed member may get; torch itself never compresses.
        packed: bytes that one compressed member may unfold to.
        shared: how many times the bytes of its storages the tensors of a file may name together.
        shown: values that are turned into readable data from meta, arguments, states.
    """

    opcodes: int = 10_000_000
    objects: int = 2_000_000
    text: int = 256 << 20
    digits: int = 4096
    key_parts: int = 64
    tensors: int = 100_000
    name: int = 1000
    header: int = 32 << 20
    ratio: int = 200
    packed: int = 1 << 30
    shared: int = 64
    shown: int = 100_000


LIMITS = Limits()
