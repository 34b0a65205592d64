"""How official codes start their networks."""

from __future__ import annotations

from torch import nn


def xavier(network: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer, in place."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
