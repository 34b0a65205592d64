"""Numbers that the official code (FoundationVision/VAR @78b9539) computed, and the card of its tiny networks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gftzoo_var.tokenizer import load_tokenizer
from safetensors import safe_open
from torch import Tensor

from gftzoo.model import Model
from gftzoo.tokenizers import Tokenizer
from gftzoo.weights import import_model
from gftzoo.zoo import ModelCard, TokenizerSpec


@dataclass
class Golden:
    config: dict[str, Any]
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The weights of one of several models in the file."""
        return {k.removeprefix(f"{name}/"): v for k, v in self.weights.items() if k.startswith(f"{name}/")}

    def per_scale(self, name: str) -> Tensor:
        """Codes of all scales, which the file keeps apart, as one tensor (B, L)."""
        scales = range(len(self.config["vae"]["v_patch_nums"]))
        return torch.cat([self.outputs[f"{name}/{scale}"] for scale in scales], dim=1)


def read_golden(name: str) -> Golden:
    with safe_open(Path(__file__).parent / "goldens" / f"{name}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["golden"])["config"]
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "inputs": {}, "outputs": {}}
        for key in file.keys():  # noqa: SIM118 (no mapping)
            part, _, rest = key.partition("/")
            parts[part][rest] = file.get_tensor(key)
    return Golden(config, **parts)


def tiny_card(config: dict[str, Any]) -> ModelCard:
    """The card of a golden's network and tokenizer."""
    vae, var = config["vae"], config["var"]
    sizes = vae.get("ddconfig", {"ch_mult": (1, 1), "num_res_blocks": 1})
    halvings = len(sizes["ch_mult"]) - 1
    spec = TokenizerSpec(
        id="tiny",
        kind="multi-scale-vq",
        channels=vae["z_channels"],
        downsample=2**halvings,
        codebook=vae["vocab_size"],
        scales=tuple(vae["v_patch_nums"]),
        options={
            "width": vae.get("ch", 32),
            "multipliers": sizes["ch_mult"],
            "blocks": sizes["num_res_blocks"],
            "phis": vae.get("share_quant_resi", 4),
        },
    )
    return ModelCard(
        name="tiny",
        family="var",
        parameters=1,
        resolution=spec.downsample * vae["v_patch_nums"][-1],
        tokenizer=spec,
        classes=var["num_classes"],
        network={
            "depth": var["depth"],
            "width": var["embed_dim"],
            "heads": var["num_heads"],
            "mlp_ratio": var["mlp_ratio"],
            "shared_adaln": var["shared_aln"],
            "l2_attention": var["attn_l2_norm"],
        },
        cfg_schedule="linear",
    )


def official_tokenizer(golden: Golden, folder: Path) -> Tokenizer:
    """The golden's tokenizer, loaded from a file as the official one is: a bare state dict."""
    path = folder / "vae.pth"
    torch.save(golden.part("vae"), path)
    return load_tokenizer(tiny_card(golden.config).tokenizer, str(path))


def official_model(
    golden: Golden, folder: Path, part: str | None = None, tokenizer: Tokenizer | None = None, **card: Any
) -> Model:
    """The golden's network, loaded from a file as the official ones are: a bare state dict with buffers."""
    path = folder / "var.pth"
    torch.save(golden.weights if part is None else golden.part(part), path)
    model = import_model(tiny_card(golden.config).change(**card), path, tokenizer=tokenizer)
    model.network.eval()
    return model
