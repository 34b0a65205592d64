"""Pictures that come again are encoded once, each by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gftzoo.data import Source, open_source
from gftzoo.engine.step.encodings import encodings_of
from gftzoo.tokenizers import Pixels, build_core_tokenizer
from gftzoo.zoo import get_tokenizer_spec

CPU = torch.device("cpu")


@dataclass
class Counted:
    """A tokenizer, and how many pictures it has encoded."""

    tokenizer: torch.nn.Module
    pictures: int = 0

    def __post_init__(self) -> None:
        self.spec = self.tokenizer.spec

    def moments(self, images: Tensor) -> Tensor:
        self.pictures += len(images)
        return self.tokenizer.moments(images)


def test_each_picture_is_encoded_once_and_alike_in_every_batch() -> None:
    source, counted = open_source("emoji-ten", "train"), Counted(build_core_tokenizer(get_tokenizer_spec("emoji-kl")))
    encodings = encodings_of(source, counted, 32, CPU)
    assert encodings is not None
    counted.pictures = 0
    images = source.images([0, 1, 2, 0], 32, 3)
    first = encodings.moments(images, CPU)
    assert counted.pictures == 3 and torch.equal(first[0], first[3])
    assert torch.equal(encodings.moments(images[[2]], CPU)[0], first[2]) and counted.pictures == 3
    torch.testing.assert_close(first, counted.tokenizer.moments(images.float() / 127.5 - 1), rtol=0, atol=1e-3)
    encodings.moments(images[:1].flip(-1), CPU)
    assert counted.pictures == 4  # its mirror image is another picture


def test_what_draws_nothing_or_does_not_lie_in_memory_is_not_remembered() -> None:
    source: Source = open_source("digits", "train")
    assert encodings_of(source, Pixels(get_tokenizer_spec("pixels-grey")), 8, CPU) is None
    assert encodings_of(source, None, 8, CPU) is None
    drawing = build_core_tokenizer(get_tokenizer_spec("emoji-kl"))
    source.decodes = True
    assert encodings_of(source, drawing, 32, CPU) is None
