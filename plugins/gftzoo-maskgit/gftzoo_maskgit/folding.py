"""A fixed temperature in the weights of a plain masked network."""

from __future__ import annotations

from gftzoo.contract.model import Model
from gftzoo.errors import UsageError
from gftzoo.layers.folding import Tensors, fold
from gftzoo_maskgit.layers import MaskedNetwork


def fold_temperature(model: Model, beta: float) -> Tensors:
    """The plain network's state dict: what is embedded goes into the table of positions.

    Raises UsageError for a slope where logits are read with the table of codes: it is an input as well.
    """
    network: MaskedNetwork = model.network
    if network.slope is not None and network.readout is None:
        raise UsageError(
            "logits are read with the table that codes are looked up in, so that the slope of an affine temperature "
            "has no matrix to be added to; sample it with --beta as it is, or train with -o network.tied=false."
        )
    return fold(network, beta, {"beta_embed": (network.positions,)}, network.readout or "")
