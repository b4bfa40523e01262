"""Why did a step fail, in one sentence?"""

from __future__ import annotations

# How torch says it on a GPU, and what its CPU allocator says instead.
SIGNS = ("out of memory", "allocate memory", "not enough memory")


def out_of_memory(failure: BaseException) -> bool:
    """Whether memory was what was missing: Python's, a GPU's, or torch's CPU allocator's."""
    import torch

    if isinstance(failure, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(failure, RuntimeError) and any(sign in str(failure).lower() for sign in SIGNS)
