"""Numbers that the official code (FoundationVision/VAR @78b9539) computed, and the card of its tiny networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from gftzoo_var.tokenizer import MultiScaleVQ
from golden import Golden, open_golden
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.contract.tokenizer import Tokenizer
from gftzoo.loading.files import import_model
from gftzoo.model import Model


def per_scale(golden: Golden, name: str) -> Tensor:
    """Codes of all scales, which the file keeps apart, as one tensor (B, L)."""
    scales = range(len(golden.config["vae"]["v_patch_nums"]))
    return torch.cat([golden.outputs[f"{name}/{scale}"] for scale in scales], dim=1)


def read_golden(name: str) -> Golden:
    return open_golden(Path(__file__).parent / "goldens" / f"{name}.safetensors")


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
    return MultiScaleVQ.load(tiny_card(golden.config).tokenizer, str(path))


def official_model(
    golden: Golden, folder: Path, part: str | None = None, tokenizer: Tokenizer | None = None, **card: Any
) -> Model:
    """The golden's network, loaded from a file as the official ones are: a bare state dict with buffers."""
    path = folder / "var.pth"
    torch.save(golden.weights if part is None else golden.part(part), path)
    model = import_model(tiny_card(golden.config).change(**card), path, tokenizer=tokenizer)
    model.network.eval()
    return model
