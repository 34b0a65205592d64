"""Trains the small multi-scale tokenizer of var-nano on the embedded digits.

    python tools/train_var_tokenizer.py digits-scales

It reads the tokenizer's sizes from the catalogue, trains on the train split alone and writes the weights to the file
that the catalogue names, beside the plugin's code. One thread and fixed seeds: the same machine gives the same file.
The loss is the squared error of the picture, plus at every scale the distance between the map and what the codes so far
make of it, for the codes and (with weight 0.25) for the encoder. Codes that nothing uses move to where something is.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import gftzoo_var
import torch
from gftzoo_var.quantizer import Quantizer
from gftzoo_var.tokenizer import MultiScaleVQ
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from gftzoo.data import open_source
from gftzoo.data.sources import Split
from gftzoo.zoo import get_tokenizer_spec

COMMITMENT = 0.25
RESTART_EVERY = 50  # steps, in the first half of the training


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", nargs="?", default="digits-scales", help="a tokenizer of the catalogue")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.05, help="weight decay")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="default: the file that the catalogue names")
    return parser.parse_args()


def pictures(data: str, split: Split, channels: int) -> Tensor:
    """All images of a split (N, C, H, W), float32 in [-1, 1]."""
    source = open_source(data, split)
    assert source.size is not None
    return source.images(range(len(source)), source.size, channels).float() / 127.5 - 1


def quantise(quantizer: Quantizer, f_BEhh: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The map of the codes with the gradient of `f`, the loss, the codes (B, L) and what they stand for (B, L, E)."""
    rest_BEhh, made_BEhh = f_BEhh.detach(), torch.zeros_like(f_BEhh)
    loss = f_BEhh.new_zeros(())
    found, wanted = [], []
    for scale in range(len(quantizer.scales)):
        z_BEpp = quantizer.shrink(rest_BEhh, scale)
        found.append(quantizer.nearest(z_BEpp))
        wanted.append(z_BEpp.flatten(2).transpose(1, 2))
        added_BEhh = quantizer.contribution(quantizer.embedding(found[-1]), scale)
        made_BEhh, rest_BEhh = made_BEhh + added_BEhh, rest_BEhh - added_BEhh.detach()
        loss = loss + F.mse_loss(made_BEhh, f_BEhh.detach()) + COMMITMENT * F.mse_loss(made_BEhh.detach(), f_BEhh)
    straight_BEhh = f_BEhh + (made_BEhh - f_BEhh).detach()
    return straight_BEhh, loss / len(quantizer.scales), torch.cat(found, 1), torch.cat(wanted, 1)


@torch.no_grad()
def restart_unused(quantizer: Quantizer, uses_V: Tensor, wanted_BLE: Tensor) -> int:
    """Moves codes without use to vectors that were looked up, drawn at random; returns how many."""
    unused_U = (uses_V == 0).nonzero().squeeze(1)
    pool_NE = wanted_BLE.flatten(0, 1)
    quantizer.embedding.weight[unused_U] = pool_NE[torch.randperm(len(pool_NE))[: len(unused_U)]]
    return len(unused_U)


def train(tokenizer: MultiScaleVQ, images_NCHW: Tensor, job: argparse.Namespace) -> None:
    tokenizer.train().requires_grad_(True)
    optimizer = torch.optim.AdamW(tokenizer.parameters(), lr=job.lr, betas=(0.9, 0.99), weight_decay=job.decay)
    uses_V = torch.zeros(tokenizer.quantize.embedding.num_embeddings)
    moved = 0
    for step in range(job.steps):
        for group in optimizer.param_groups:
            group["lr"] = job.lr * min(1.0, (step + 1) / 100) * (0.51 + 0.49 * math.cos(math.pi * step / job.steps))
        batch = images_NCHW[torch.randint(len(images_NCHW), (job.batch,))]
        f_BEhh = tokenizer.quant_conv(tokenizer.encoder(batch))
        straight_BEhh, code_loss, codes_BL, wanted_BLE = quantise(tokenizer.quantize, f_BEhh)
        picture_loss = F.mse_loss(tokenizer.decoder(tokenizer.post_quant_conv(straight_BEhh)), batch)
        optimizer.zero_grad()
        (picture_loss + code_loss).backward()
        optimizer.step()
        uses_V += torch.bincount(codes_BL.flatten(), minlength=len(uses_V))
        if step % RESTART_EVERY == 0 and step < job.steps // 2:
            moved = restart_unused(tokenizer.quantize, uses_V, wanted_BLE)
            uses_V.zero_()
        if step % 500 == 499:
            print(f"step {step + 1}: pictures {picture_loss:.5f}, codes {code_loss:.5f}, moved {moved}", flush=True)
    tokenizer.eval().requires_grad_(False)


def report(tokenizer: MultiScaleVQ, images_NCHW: Tensor, name: str) -> None:
    codes_NL = tokenizer.encode(images_NCHW)
    error = F.mse_loss(tokenizer.decode(codes_NL).clamp(-1, 1), images_NCHW)
    used = len(codes_NL.unique())
    print(f"{name}: mean squared error {error:.5f} ({10 * math.log10(4 / error):.1f} dB), {used} codes in use")


def main() -> None:
    torch.set_num_threads(1)
    job = read_arguments()
    torch.manual_seed(job.seed)
    spec = get_tokenizer_spec(job.tokenizer)
    tokenizer = MultiScaleVQ(spec)
    train(tokenizer, pictures(job.data, "train", spec.image_channels), job)
    for split in ("train", "held-out"):
        report(tokenizer, pictures(job.data, split, spec.image_channels), split)
    assert spec.file is not None
    out = job.out or Path(gftzoo_var.__file__).parent / spec.file
    save_file({key: value.contiguous() for key, value in tokenizer.state_dict().items()}, out)
    print(f"{out}: {out.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main()
