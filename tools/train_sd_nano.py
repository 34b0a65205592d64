"""Makes the frozen parts of `sd-nano`: prompt tokenizer, text encoder and VAE, from the emoji and their names.

    python tools/train_sd_nano.py vae
    python tools/train_sd_nano.py text

They are what Stable Diffusion's are, only smaller: a CLIP tokenizer (byte-pair encoding), a CLIP text encoder trained
contrastively against a small image encoder, and an AutoencoderKL. All see the train split only. They go into
`gftzoo/pipelines/nano/`, in the layout of a diffusers pipeline. About 10 minutes each on one thread.

Suffixes: B batch, T tokens, D width.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import count

import torch
from diffusers import AutoencoderKL
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from gftzoo.data import Source, open_source
from gftzoo.foreign_folders import PIPELINES

PARTS = PIPELINES / "nano"
DATA, SIDE, TOKENS, MERGES = "emoji-captions", 32, 24, 2048
START, END = "<|startoftext|>", "<|endoftext|>"


def pictures(source: Source) -> Tensor:
    """All images (N, 3, H, W) in [-1, 1]."""
    return source.images(range(len(source)), SIDE, 3).float() / 127.5 - 1


def batches(rows: int, size: int, steps: int) -> list[Tensor]:
    """Row indices of every step, each row once a pass."""
    stream = torch.Generator().manual_seed(0)
    passes = (torch.randperm(rows, generator=stream) for _ in count())
    order = torch.cat([next(passes) for _ in range(steps * size // rows + 1)])
    return list(order[: steps * size].split(size))


def optimizer(module: nn.Module, lr: float, steps: int) -> tuple[torch.optim.AdamW, OneCycleLR]:
    """AdamW under a one-cycle schedule."""
    adam = torch.optim.AdamW(module.parameters(), lr=lr)
    return adam, OneCycleLR(adam, lr, total_steps=steps)


def train_vae(steps: int = 4000, size: int = 16) -> None:
    """32x32 pixels to 8x8 latents of 8 channels; prints the error on images it has not seen."""
    train, held_out = (pictures(open_source(DATA, split)) for split in ("train", "held-out"))
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64), layers_per_block=1, latent_channels=8, norm_num_groups=8,
        sample_size=SIDE, mid_block_add_attention=False,
    )  # fmt: skip
    adam, schedule = optimizer(vae, 3e-3, steps)
    for step, rows in enumerate(batches(len(train), size, steps), 1):
        x_BCHW = train[rows]
        x_BCHW = x_BCHW.flip(-1) if step % 2 else x_BCHW
        posterior = vae.encode(x_BCHW).latent_dist
        error = vae.decode(posterior.sample()).sample - x_BCHW
        loss = error.abs().mean() + error.square().mean() + 1e-5 * posterior.kl().mean()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        adam.step()
        schedule.step()
        if step % 200 == 0 or step == steps:
            report(vae.eval(), step, held_out)
            vae.train()
    with torch.no_grad():
        z = vae.encode(train).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / z.std().item(), 5))
    vae.half().save_pretrained(PARTS / "vae")
    say(f"latents: mean {z.mean():.3f}, scaling_factor {vae.config.scaling_factor}")


@torch.no_grad()
def report(vae: AutoencoderKL, step: int, held_out: Tensor) -> None:
    """PSNR on held-out images, in dB of a range of 2."""
    decoded = vae.decode(vae.encode(held_out[:256]).latent_dist.mean).sample.clamp(-1, 1)
    psnr = 10 * (4 / (decoded - held_out[:256]).square().mean()).log10()
    say(f"vae step {step}: PSNR {psnr:.2f} dB")


def train_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """A CLIP tokenizer whose merges come from the captions; any other text still splits into known pieces."""
    base = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = base.normalizer, base.pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=512 + MERGES, end_of_word_suffix="</w>", show_progress=False)
    learner.train_from_iterator(captions, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]][:MERGES]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in merges), START, END]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)
    tokenizer.save_pretrained(PARTS / "tokenizer")
    return tokenizer


class ImageEncoder(nn.Sequential):
    """Images (B, 3, 32, 32) to vectors (B, D)."""

    def __init__(self, width: int) -> None:
        def stage(inner: int, outer: int) -> list[nn.Module]:
            return [nn.Conv2d(inner, outer, 3, 2, 1), nn.GroupNorm(8, outer), nn.SiLU()]

        layers = [*stage(3, 32), *stage(32, 64), *stage(64, 128), nn.Flatten(), nn.Linear(128 * 16, width)]
        super().__init__(*layers)


def train_text(steps: int = 1500, size: int = 128, width: int = 96) -> None:
    """The text encoder, contrastively (CLIP, arXiv 2103.00020): a name should pick its picture among a batch's."""
    source = open_source(DATA, "train")
    images_NCHW, captions = pictures(source), [str(source.condition_of(i)) for i in range(len(source))]
    tokenizer = train_tokenizer(captions)
    ids_NT = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=TOKENS, projection_dim=width,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    text, image = CLIPTextModel(config), ImageEncoder(width)
    scale = nn.Parameter(torch.tensor(2.0))
    adam, schedule = optimizer(nn.ModuleList([text, image, nn.ParameterList([scale])]), 1e-3, steps)
    for step, rows in enumerate(batches(len(captions), size, steps), 1):
        t_BD = F.normalize(text(ids_NT[rows]).pooler_output, dim=1)
        i_BD = F.normalize(image(images_NCHW[rows] + 0.05 * torch.randn(1)), dim=1)
        logits_BB = scale.exp().clamp(max=100) * t_BD @ i_BD.T
        own = torch.arange(len(rows))
        loss = (F.cross_entropy(logits_BB, own) + F.cross_entropy(logits_BB.T, own)) / 2
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        if step % 100 == 0:
            say(f"text step {step}: loss {loss.item():.3f}, right {(logits_BB.argmax(1) == own).float().mean():.1%}")
    text.eval().half().save_pretrained(PARTS / "text_encoder")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["vae", "text"])
    torch.manual_seed(0)
    {"vae": train_vae, "text": train_text}[parser.parse_args().part]()
