"""What MaskGIT and MAGE share: a table of codes, classes and mask that codes enter by and logits are read with.

Suffixes: B batch, N codes of an image, V codebook, D width, X any dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import ModelCard
from gftzoo_maskgit.layers import MaskedNetwork
from gftzoo_maskgit.options import NetworkOptions


class TableNetwork(MaskedNetwork):
    """One table holds the codes, the classes and, last, the mask; the null class has a row of its own beside it, so
    that the table is the official one. Logits are read with its first V rows (`tied`), or by a matrix of their own.

    Attributes:
        null_class: the row (1, D) of the null class.
        output: reads the logits; None where the table does.
    """

    null_class: nn.Parameter
    output: nn.Linear | None

    def __init__(self, options: NetworkOptions, card: ModelCard) -> None:
        super().__init__()
        assert card.tokenizer.codebook is not None
        self.options, self.codebook, self.classes = options, card.tokenizer.codebook, card.classes
        self.codes, self.rows = card.grid**2, card.tokenizer.codebook + card.classes + 1
        self.readout = None if options.tied else "output"

    @property
    def table(self) -> nn.Embedding:
        """Codes, classes, mask."""
        raise NotImplementedError

    def embed_class(self, class_B: Tensor) -> Tensor:
        """The class token (B, 1, D), without its position; index `classes` is the null class."""
        row_B1D = self.table(class_B.clamp(max=self.classes - 1) + self.codebook)[:, None]
        return torch.where((class_B == self.classes)[:, None, None], self.null_class, row_B1D)

    def rows_of(self, codes_BN: Tensor, masked_BN: Tensor) -> Tensor:
        """Rows (B, N) of the table: those of the codes, the last one where they are masked."""
        return codes_BN.masked_fill(masked_BN, self.rows - 1)

    def read_out(self, features_XD: Tensor) -> Tensor:
        """Logits (X, V) of features."""
        if self.output is not None:
            return self.output(features_XD)
        weight_VD, bias_V = self.tied_readout()
        return F.linear(features_XD, weight_VD, bias_V)

    def tied_readout(self) -> tuple[Tensor, Tensor]:
        """The first V rows of the table, and of its bias."""
        raise NotImplementedError
