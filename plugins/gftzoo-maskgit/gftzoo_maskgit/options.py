"""What a card says of a masked network, and how it is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gftzoo.layers.temperature import ScaledTemperatureOptions
from gftzoo_maskgit.masking import Schedule


class NetworkOptions(ScaledTemperatureOptions):
    """Options of the network; codebook, grid and classes follow from tokenizer, resolution and data."""

    kind: Literal["maskgit", "mage", "maskbit"] = Field("maskgit", description="whose network it is")
    width: int = Field(gt=0, description="width of the transformer; of MAGE's encoder")
    depth: int = Field(gt=0, description="its blocks")
    heads: int = Field(gt=0, description="its attention heads")
    mlp_ratio: float = Field(4.0, gt=0, description="hidden width of an MLP over the width")
    dropout: float = Field(0.1, ge=0, lt=1, description="of embeddings, attention weights, projections and MLPs")
    decoder_width: int = Field(512, gt=0, description="mage: width of the decoder")
    decoder_depth: int = Field(8, gt=0, description="mage: blocks of the decoder")
    decoder_heads: int = Field(16, gt=0, description="mage: attention heads of the decoder")
    tied: bool = Field(
        True, description="maskgit, mage: logits are read with the table of codes; false has a matrix of its own"
    )
    splits: int = Field(1, gt=0, description="maskbit: parts of a code that are masked and predicted each by itself")
    tokens: Literal["bits", "table"] = Field("bits", description="maskbit: codes enter as bits, or through tables")
    prenorm: bool = Field(False, description="maskbit: norms before attention and MLP, and not after them")
    mask: Literal["count", "each", "mage"] = Field(
        "count",
        description="a share of the codes; each code by its own chance; or one share for a batch, half of it left out",
    )
    mask_schedule: Schedule = Field("cosine", description="from a uniform number to the share that is masked")
    init: float = Field(0.02, gt=0, description="deviation of fresh matrices and tables; BERT's, for a width of 768")
    loss: Literal["masked", "all"] = Field("masked", description="which codes the loss is of")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="of the cross-entropy")
