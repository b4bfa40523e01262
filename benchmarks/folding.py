"""How much faster is a network whose batch norm is folded into its convolutions, and how equal?

The published HigherHRNet W32 with weights drawn anew, one image of 512 x 512 on one thread; the peer is the
same network as it is, in turns. Processor time: the gain is a few per cent, less than what another program on
the machine takes away. On a CPU convolutions are nearly all of the work, so little is left to gain.
"""

from __future__ import annotations

import statistics
import time

from benchmarks.row import Row

ROUNDS = 9


def rows() -> list[Row]:
    """One pass of the folded and of the plain network."""
    import numpy as np
    import torch
    from workbench.models.higherhrnet.model import new_higherhrnet

    from workbench.core import Sample
    from workbench.models.folding import folded
    from workbench.models.higherhrnet.network import W32, HigherHRNet
    from workbench.skeletons import SKELETONS

    torch.manual_seed(0)
    network = HigherHRNet(W32).eval()
    for part in network.modules():
        if isinstance(part, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            # Signals that neither fade nor grow: at the weights it starts with every output is near 0.
            torch.nn.init.kaiming_normal_(part.weight)
    model = new_higherhrnet(network, SKELETONS["coco-17"], 512)
    image = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    batch = model.prepare([Sample(image, (0.0, 0.0, 512.0, 512.0))])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = folded(model, batch)
        taken: dict[str, list[float]] = {"plain": [], "folded": []}
        with torch.no_grad():
            for _ in range(ROUNDS):
                for name, one in (("plain", model), ("folded", found.model)):
                    begun = time.thread_time()
                    one.forward(batch)
                    taken[name].append(time.thread_time() - begun)
    finally:
        torch.set_num_threads(threads)
    ours, peer = (statistics.median(taken[name]) for name in ("folded", "plain"))
    faster = statistics.median(a / b for a, b in zip(taken["plain"], taken["folded"], strict=True))
    return [
        {
            "what": (
                f"HigherHRNet W32 at 512, {len(found.folded)} batch norms folded, outputs equal to "
                f"{found.difference:.0e} of their largest value, 1 thread, processor time"
            ),
            "ours": f"{ours:.2f} s",
            "peer": f"the same network with batch norm {peer:.2f} s",
            "ratio": f"{faster:.2f}x",
            "target": "> 1x",
            "met": faster > 1,
        }
    ]
