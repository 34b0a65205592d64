"""How official codes start their networks."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def xavier(network: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer, in place."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


# What fills a tensor with random numbers, and what makes one of them.
FILLS = {nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, Tensor.normal_, Tensor.uniform_, Tensor.erfinv_}
DRAWS = {torch.randn, torch.rand}


class Empty(TorchFunctionMode):
    """Builds networks on the meta device, where nothing need be drawn: a draw there imports torch's compiler first."""

    def __enter__(self) -> Self:
        self.device = torch.device("meta")
        self.device.__enter__()
        entered: Self = super().__enter__()
        return entered

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.device.__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in FILLS:
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if func in DRAWS else func)(*args, **kwargs)
