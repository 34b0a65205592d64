"""Pictures as CLIP's embeddings, and small pictures with these embeddings beside them.

Suffixes: B batch, C channels, H W sides, D width of an embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gftzoo.catalogue.cards import TokenizerSpec
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.errors import GftzooError, UsageError
from gftzoo.foreign_folders import load_foreign
from gftzoo.generator import SampleGenerator
from gftzoo.tokenizers import read_tokenizer_options, weights_file
from gftzoo.weights import read_tensors, weights_in
from gftzoo_text2image.unclip.conditions import load_part
from gftzoo_text2image.unclip.enlarger import Enlarger, load_enlarger
from gftzoo_text2image.unclip.options import ClipOptions
from gftzoo_text2image.unclip.prior import STATISTICS

ADVICE = (
    "name a local pipeline of Karlo, or its official file, with --tokenizer-path PATH, in training with "
    "-o tokenizer_path=PATH."
)
PIXELS = 3


class ClipTokenizer(Tokenizer):
    """What embeds pictures by CLIP's image encoder, which is loaded when the first one is embedded.

    Args:
        spec: of the tokenizer.
        source: what the user named, a file or folder; None is what `spec` names.
    """

    def __init__(self, spec: TokenizerSpec, source: str | None) -> None:
        super().__init__(spec)
        self.options, self.source = read_tokenizer_options(spec, ClipOptions), source
        self.register_buffer("place", torch.empty(0), persistent=False)
        self.encoder: nn.Module | None = None

    def load_encoder(self) -> Any:
        """The image encoder, where the tokenizer is; GftzooError if it cannot be had."""
        if self.encoder is None:
            from transformers import CLIPVisionModelWithProjection  # slow to import

            advice = "name a folder with -o tokenizer.options.image_encoder=PATH."
            inside = Path(self.source or "") / "image_encoder"
            if self.source and inside.is_dir():
                what = f"the image encoder of {self.source!r}"
                self.encoder = load_part(CLIPVisionModelWithProjection, self.source, "image_encoder", what, ADVICE)
            else:
                name = self.options.image_encoder
                found = load_foreign(
                    CLIPVisionModelWithProjection, name, f"the image encoder {name!r}", advice, dtype=torch.float32
                )
                self.encoder = found.eval().requires_grad_(False)
        return self.encoder.to(self.get_buffer("place").device)

    def state_dict(self, *arguments: Any, **options: Any) -> Any:
        self.load_encoder()  # what an embedding depends on is part of the tokenizer's identity
        return super().state_dict(*arguments, **options)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """CLIP's embeddings (B, D) of pictures in [-1, 1], not normalised."""
        from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD  # slow to import

        encoder = self.load_encoder()
        if encoder.config.projection_dim != self.options.clip_width:
            raise UsageError(
                f"tokenizer {self.spec.id!r} has embeddings of {self.options.clip_width} numbers and its image encoder "
                f"gives {encoder.config.projection_dim}; name another with -o tokenizer.options.image_encoder=PATH."
            )
        side = encoder.config.image_size
        seen = F.interpolate((images.float() + 1) / 2, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        mean, deviation = (seen.new_tensor(found).view(3, 1, 1) for found in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
        embedded: Tensor = encoder((seen - mean) / deviation).image_embeds
        return embedded


class ClipEmbeddings(ClipTokenizer):
    """The prior's: a picture becomes its standardised embedding (B, D, 1, 1), of which a decoder draws a picture.

    Args:
        spec, source: see `ClipTokenizer`.
        draw: of the decoder's name, `source` and embeddings (B, D), pictures (B, 3, H, W) in [-1, 1].
    """

    def __init__(self, spec: TokenizerSpec, source: str | None, draw: Callable[..., Tensor]) -> None:
        super().__init__(spec, source)
        self.draw = draw

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation (D,) of the embeddings: of a pipeline's prior, or of the official file."""
        named = self.source or (self.spec.repo if self.spec.file is None else None)
        source = Path(named) if named and Path(named).is_dir() else None
        inside = weights_in(source / "prior") if source is not None else None
        if source is not None and inside is None:
            raise UsageError(f"{str(source)!r} has no prior with the statistics of embeddings; {ADVICE}")
        file = inside or weights_file(self.spec, self.source)
        found = read_statistics(file)
        device = self.get_buffer("place").device
        return found[0].to(device), found[1].to(device)

    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        mean, deviation = self.statistics()
        return ((self.embed(images) - mean) / deviation)[..., None, None]

    def embeddings(self, latents: Tensor) -> Tensor:
        """The embeddings (B, D) of latents."""
        mean, deviation = self.statistics()
        return latents.flatten(1).float() * deviation + mean

    def decode(self, latents: Tensor) -> Tensor:
        return self.draw(self.options.decoder, self.source, self.embeddings(latents))


class SmallPictures(ClipTokenizer):
    """The decoder's: small pictures, and behind their colours the embedding of the picture, filled up with zeros.

    They are enlarged by Karlo's super-resolution, unless they have the size of the picture.
    """

    def __init__(self, spec: TokenizerSpec, source: str | None) -> None:
        super().__init__(spec, source)
        self.held: list[Enlarger] = []  # it encodes nothing, and is no part of the identity

    def encode(self, images: Tensor, generator: SampleGenerator | None = None) -> Tensor:
        side = images.shape[-1] // self.spec.downsample
        small = F.interpolate(images.float(), (side, side), mode="bicubic", antialias=True).clamp(-1, 1)
        return beside(small, self.embed(images), self.spec.channels)

    def decode(self, latents: Tensor) -> Tensor:
        small = latents[:, :PIXELS]
        if self.spec.downsample == 1:
            return small
        if not self.held:
            source = self.source or self.spec.repo
            if source is None:
                raise UsageError(f"tokenizer {self.spec.id!r} names no super-resolution; {ADVICE}")
            self.held.append(load_enlarger(source, self.options.enlarger, ADVICE))
        return self.held[0].to(small.device).enlarged(small, self.spec.downsample)


def beside(pictures: Tensor, embedding_BD: Tensor, channels: int) -> Tensor:
    """Pictures (B, 3, H, W) with an embedding behind their colours (B, channels, H, W); UsageError for no room."""
    room = (channels - PIXELS) * pictures.shape[-1] * pictures.shape[-2]
    if room < embedding_BD.shape[1]:
        raise UsageError(
            f"latents of {channels} channels of {pictures.shape[-1]} pixels a side have room for {room} numbers of an "
            f"embedding, which has {embedding_BD.shape[1]}; choose a higher resolution."
        )
    filled = F.pad(embedding_BD, (0, room - embedding_BD.shape[1]))
    return torch.cat([pictures, filled.view(len(pictures), -1, *pictures.shape[-2:])], 1)


def taken_apart(latents: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, H, W) and embeddings (B, D) of such latents."""
    return latents[:, :PIXELS], latents[:, PIXELS:].flatten(1)[:, :width]


def read_statistics(file: Path) -> tuple[Tensor, Tensor]:
    """Mean and deviation (D,) of embeddings in a file: Karlo's `ViT-L-14_stats.th`, or weights of diffusers' prior.

    Raises GftzooError for a file that is neither; nothing in it is executed.
    """
    try:
        if file.suffix == ".th":
            mean, deviation = torch.load(file, map_location="cpu", weights_only=True)
        else:
            found = read_tensors(file).tensors
            mean, deviation = (found[name] for name in STATISTICS)
    except GftzooError:
        raise
    except Exception as error:  # torch raises many types for damage
        raise GftzooError(
            f"{str(file)!r} holds no mean and deviation of CLIP's embeddings ({type(error).__name__}); {ADVICE}"
        ) from error
    return mean.float().flatten(), deviation.float().flatten()
