"""What do tensor names say before any family is known: prefixes of wrappers, buffers that are no weights."""

from __future__ import annotations

from collections.abc import Iterable

# What wrappers put before every name: DataParallel, torch.compile, Lightning, Sequential(tofp16, net).
WRAPPING = ("module.", "_orig_mod.", "model.", "1.", "net.", "network.", "student.", "teacher.")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def is_statistic(name: str) -> bool:
    """A buffer of batch normalisation: counted as no weight."""
    return name.endswith(STATISTICS)


def common_prefix(names: Iterable[str]) -> str:
    """Wrapping prefixes that all names share, outermost first: ``module._orig_mod.``; "" if none."""
    names = list(names)
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
