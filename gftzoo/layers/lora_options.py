"""The options of LoRA, without torch: a command checks them before it imports that."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from gftzoo.catalogue.cards import Frozen

# The layers inside of what families call their attention: `attn`, `attn1`, `attention`.
ATTENTION = r"(?:.*\.)?(?:(?:attn\d*|attention)\.[^.]+|attentions\.\d+\.to_[^.]+)(?:\.\d+)?"
BasePrecision = Literal["full", "half", "8bit", "4bit"]
LARGEST_RANK = 4096  # more than the layers of the largest published networks have channels


class LoraOptions(Frozen):
    """Options of `train=lora`, `-o lora.KEY=VALUE`."""

    rank: int = Field(16, gt=0, le=LARGEST_RANK, description="of the factors")
    alpha: float | None = Field(None, gt=0, description="strength, over the rank; None is the rank")
    base: BasePrecision = Field(
        "full",
        description="frozen weights of layers in fp32, in the bf16 or fp16 that the run computes in, or those of "
        "blocks in 8 or 4 bits by bitsandbytes",
    )
    targets: str = Field(
        ATTENTION, description="regular expression of the linear layers and convolutions that get some"
    )

    @field_validator("targets")
    @classmethod
    def _is_an_expression(cls, targets: str) -> str:
        try:
            re.compile(targets)
        except re.error as error:
            raise ValueError(f"it is no regular expression ({error})") from error
        return targets
