"""What do tensor names say before any family is known: prefixes of wrappers, buffers that are no weights."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What wrappers put before every name: DataParallel, torch.compile, FSDP, Fabric, Lightning,
# Sequential(tofp16, net).
WRAPPING = (
    "module.", "_orig_mod.", "_forward_module.", "_fsdp_wrapped_module.", "_fpw_module.", "_model.", "model.",
    "1.", "net.", "network.", "student.", "teacher.", "online_model.", "ema_model.",
)  # fmt: skip
# Parts of a name that only wrappers give, wherever they stand: torch.compile of one part, activation
# checkpointing, FSDP (today's and 1.11's), Lightning Fabric.
_INNER = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module|_fpw_module|_forward_module)\."
)
# What averaging wrappers count beside the weights: AveragedModel of torch, EMA of mmengine and others.
_COUNTERS = frozenset(("n_averaged", "steps", "step", "initted", "num_updates", "decay"))
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def is_statistic(name: str) -> bool:
    """A buffer of batch normalisation: counted as no weight."""
    return name.endswith(STATISTICS)


def is_counter(name: str) -> bool:
    """What an averaging wrapper counts beside the weights: part of no network."""
    return name in _COUNTERS


def unwrapped(name: str) -> str:
    """The name without parts that only wrappers give: ``backbone._orig_mod.x`` becomes ``backbone.x``."""
    return _INNER.sub("", name)


def common_prefix(names: Iterable[str]) -> str:
    """Wrapping prefixes that all names share, outermost first: ``module._orig_mod.``; "" if none."""
    names = [name for name in names if not is_counter(name)]
    found = ""
    while names:
        head = next((p for p in WRAPPING if all(n.startswith(p) for n in names)), None)
        if head is None:
            break
        # "1." alone is the second child of any Sequential; as a wrapper it has several parts behind it.
        if head == "1." and len({n.removeprefix(head).partition(".")[0] for n in names}) < 2:
            break
        found += head
        names = [n.removeprefix(head) for n in names]
    return found
