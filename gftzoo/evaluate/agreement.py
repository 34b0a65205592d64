"""How well pictures agree with what was asked for, by a CLIP model: CLIP score and prompt agreement.

Suffixes: B batch, D width of an embedding, R prompts that a picture is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from gftzoo.adapters import tensors_sha256
from gftzoo.errors import GftzooError, UsageError
from gftzoo.foreign_folders import load_foreign

RIVALS = 99  # other prompts that a picture's own is compared with
ADVICE = "name a folder of transformers' CLIP, e.g. clip-vit-base-patch16/, with --prompt-encoder PATH."


class PromptEncoder:
    """A CLIP model in a folder of transformers' layout, or on the hub, frozen; nothing of it is executed.

    Raises:
        UsageError: a folder with a model of another kind.
        GftzooError: what cannot be had.

    Attributes:
        name: of the folder.
        sha256: hash over all tensors of the model.
    """

    def __init__(self, source: str, device: torch.device | str = "cpu") -> None:
        try:
            from transformers import CLIPModel, CLIPProcessor  # slow to import, for these scores alone
        except ModuleNotFoundError as error:
            raise GftzooError("prompts are read by transformers; run `pip install 'gftzoo[prompts]'`.") from error

        local, what = Path(source).is_dir(), f"the prompt encoder {source!r}"
        options = {"local_files_only": local}
        self.model: Any = load_foreign(CLIPModel, source, what, ADVICE, dtype=torch.float32, **options)
        self.processor: Any = load_foreign(CLIPProcessor, source, what, ADVICE, **options)
        self.model.eval().requires_grad_(False).to(device)
        self.name, self.sha256 = Path(source).name, tensors_sha256(self.model.state_dict())

    @torch.no_grad()
    def pictures(self, images_BCHW: Tensor) -> Tensor:
        """Normalised embeddings (B, D) of uint8 pictures (B, 3, H, W)."""
        given = self.processor(images=list(images_BCHW.cpu()), return_tensors="pt")
        return normalised(self.model.get_image_features(given["pixel_values"].to(self.model.device)))

    @torch.no_grad()
    def prompts(self, prompts: Sequence[str]) -> Tensor:
        """Normalised embeddings (B, D) of prompts, cut at what the model reads."""
        longest = self.model.config.text_config.max_position_embeddings
        given = self.processor(
            text=list(prompts), return_tensors="pt", padding=True, truncation=True, max_length=longest
        ).to(self.model.device)
        return normalised(self.model.get_text_features(given["input_ids"], given["attention_mask"]))


def normalised(found: Any) -> Tensor:
    """Embeddings of length 1; transformers 5 gives them in a record."""
    return F.normalize(found if isinstance(found, Tensor) else found.pooler_output, dim=-1)


class PromptAgreement(Metric):
    """CLIP score and prompt agreement of pictures that arrive in any order of batches, over any number of ranks.

    The CLIP score is 100 times the cosine of a picture's embedding and its prompt's, averaged and not below 0, as
    torchmetrics' is (arXiv 2104.08718). A picture agrees with its prompt where that is nearer to it than each of 99
    others, the next different ones of the job (R-precision, arXiv 2006.11807).

    Args:
        encoder: the CLIP model.
        prompts: of all pictures of the job, in its order.
    """

    full_state_update = False
    score: Tensor
    right: Tensor
    count: Tensor

    def __init__(self, encoder: PromptEncoder, prompts: Sequence[str]) -> None:
        super().__init__()
        self.encoder = encoder
        self.distinct = list(dict.fromkeys(prompts))
        numbers = {prompt: number for number, prompt in enumerate(self.distinct)}
        self.numbers = [numbers[prompt] for prompt in prompts]
        self.embedded: dict[int, Tensor] = {}
        for name, dtype in (("score", torch.float64), ("right", torch.int64), ("count", torch.int64)):
            self.add_state(name, torch.zeros((), dtype=dtype), dist_reduce_fx="sum")

    def asked(self, number: int) -> list[int]:
        """The number of a picture's own prompt, and those of the next others, (R,)."""
        return [(number + step) % len(self.distinct) for step in range(min(RIVALS + 1, len(self.distinct)))]

    def embeddings(self, numbers: Sequence[int]) -> Tensor:
        """The embeddings (B, D) of prompts by their numbers, each made once."""
        new = [number for number in dict.fromkeys(numbers) if number not in self.embedded]
        for start in range(0, len(new), 256):
            chunk = new[start : start + 256]
            found = self.encoder.prompts([self.distinct[number] for number in chunk])
            self.embedded |= dict(zip(chunk, found, strict=True))
        return torch.stack([self.embedded[number] for number in numbers])

    def update(self, images_BCHW: Tensor, positions: Sequence[int]) -> None:
        """Takes uint8 pictures (B, 3, H, W) that have these positions in the job."""
        pictures_BD = self.encoder.pictures(images_BCHW)
        for picture_D, position in zip(pictures_BD, positions, strict=True):
            cosine_R = self.embeddings(self.asked(self.numbers[position])) @ picture_D
            self.score += 100 * cosine_R[0].double().to(self.score.device)
            self.right += bool((cosine_R[0] > cosine_R[1:]).all())
            self.count += 1

    def compute(self) -> dict[str, float]:
        """`clip_score` and, where prompts differ, `prompt_agreement`. Every rank calls it."""
        found = {"clip_score": max(float(self.score / self.count), 0.0)}
        return found | ({"prompt_agreement": float(self.right / self.count)} if len(self.distinct) > 1 else {})


def agreement_with(encoder: PromptEncoder | None, prompts: Sequence[int | str], of: str) -> PromptAgreement | None:
    """What takes the pictures of these prompts; None without an encoder, UsageError where there are no prompts."""
    if encoder is None:
        return None
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise UsageError(f"{of} draws classes and is asked with no prompt; leave --prompt-encoder out.")
    return PromptAgreement(encoder, [str(prompt) for prompt in prompts])
