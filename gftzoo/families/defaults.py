"""The optional hooks where a family has nothing of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.hookspecs import hookimpl
from gftzoo.contract.options import FamilyOptions
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.errors import UsageError
from gftzoo.layers.temperature import is_slope
from gftzoo.tokenizers import build_core_tokenizer
from gftzoo.weights.folders import weights_in


class Defaults:
    """The optional hooks, registered behind every family and used where the family has nothing of its own."""

    @hookimpl(trylast=True)
    def options(self) -> FamilyOptions:
        return FamilyOptions()

    @hookimpl(trylast=True)
    def encode_condition(self, model: Any, conditions: Sequence[int | str]) -> Tensor:
        return torch.tensor([model.card.class_index(c) for c in conditions], device=model.device)

    @hookimpl(trylast=True)
    def build_tokenizer(self, spec: TokenizerSpec, weights: str | None) -> Tokenizer:
        return build_core_tokenizer(spec, weights)

    @hookimpl(trylast=True)
    def import_weights(self, card: ModelCard, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return tensors

    @hookimpl(trylast=True)
    def weights_file(self, card: ModelCard, folder: Path, entry: Literal["raw", "ema"] | None) -> Path:
        found = weights_in(folder, entry)
        if found is None:
            raise UsageError(f"{str(folder)!r} is a folder without weights of a known name; name the file itself.")
        return found

    @hookimpl(trylast=True)
    def parameter_groups(self, network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        trainable = [p for p in network.parameters() if p.requires_grad]
        return [{"params": trainable, "weight_decay": weight_decay}]

    @hookimpl(trylast=True)
    def blocks(self, network: nn.Module) -> list[nn.Module]:
        modules = network.named_modules()
        lists = [list(m) for name, m in modules if isinstance(m, nn.ModuleList) and not is_slope(name)]
        return max(lists, key=len, default=[])
