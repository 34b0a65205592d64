"""What is said of prompts before a text encoder reads them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

_told: set[str] = set()


def tell_of_long_prompts(prompts: Sequence[str], tokenizer: Any, longest: int, model: str) -> None:
    """Logs, once for each text encoder, that a prompt is longer than what it reads, and where it is cut.

    Args:
        tokenizer: of transformers.
        longest: tokens that are read, with those that mark the ends.
        model: the text encoder's name.
    """
    room = longest - tokenizer.num_special_tokens_to_add()
    for prompt in prompts:
        if model in _told:
            return
        if len(prompt) > room and len(tokens := tokenizer.tokenize(prompt)) > room:
            _told.add(model)
            logging.getLogger("gftzoo.prompts").warning(
                "The text encoder of %s reads %d tokens of a prompt and leaves the rest out; one has %d: %s... "
                "(longer ones are not named again)",
                *(model, room, len(tokens), ascii(prompt[:60])),
            )
