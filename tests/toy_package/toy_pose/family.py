"""Family toy: one convolution gives one heatmap per keypoint at a quarter of the input."""

from __future__ import annotations

from workbench.checkpoints.identity import Identity
from workbench.models.families import Family, Fresh


def identify(view):
    """The file's tensors are those of a toy network."""
    shape = view.get("toy_maps.weight")
    if shape is None:
        return None
    return Identity("Toy maps", "", (f"toy_maps.weight: {shape[0]} heatmaps",), keypoints=shape[0])


def load(opening):
    """The network that the file's tensors tell, with its weights; keypoints are numbered."""
    from toy_pose.network import Network, model_of
    from workbench.checkpoints.loading import load_state
    from workbench.core import Skeleton

    checkpoint = opening.required()
    K = checkpoint.identity.keypoints
    network = Network(K)
    report = load_state(network, checkpoint, remap=opening.remap)
    skeleton = Skeleton(f"own-{K}", tuple(f"keypoint {k}" for k in range(K)))
    return model_of(network, skeleton, opening.device), report


def fresh(options):
    """A toy network with first weights."""
    from toy_pose.network import Network, model_of

    network = Network(len(options.skeleton))
    return model_of(network, options.skeleton, options.device), "toy from first weights"


def training_view(model, steps):
    """The model with a loss of its own; None for a model of another family."""
    from toy_pose.network import ToyMaps, trained_by_itself

    return trained_by_itself(model) if isinstance(model, ToyMaps) else None


FAMILY = Family(
    name="toy",
    summary="one convolution, one heatmap per keypoint",
    load=load,
    identify=identify,
    fresh=(Fresh("toy", fresh),),
    training_view=training_view,
)
