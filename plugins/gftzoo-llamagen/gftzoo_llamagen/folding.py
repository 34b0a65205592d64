"""A fixed temperature in the weights of a plain LlamaGen transformer."""

from __future__ import annotations

import torch

from gftzoo.errors import UsageError
from gftzoo.layers.folding import Tensors, add, constant, fold_slope, without_temperature
from gftzoo_llamagen.conditions import CaptionEmbedding
from gftzoo_llamagen.network import Transformer


def fold(network: Transformer, beta: float) -> Tensors:
    """The plain network's state dict: an embedded temperature goes into every row of the class table.

    Raises UsageError for one embedded beside a caption: the official caption layers have no bias that could hold it.
    """
    tensors = without_temperature(network, lambda key: key.startswith("t_embedder."))
    if network.t_embedder is not None:
        if isinstance(network.cls_embedding, CaptionEmbedding):
            raise UsageError(
                "an embedded temperature is added to every token of a caption, and the plain network has no bias there "
                "that could hold it; sample it with --beta as it is, or train with "
                "-o network.temperature_input=affine."
            )
        add(tensors, "cls_embedding.embedding_table.weight", constant(network.t_embedder, torch.tensor([beta])))
    fold_slope(tensors, network.slope, beta, "output")
    return tensors
