"""Numbers that the official codes computed, the cards of their tiny networks, and files as the official ones are.

google-research/maskgit @1db2359, LTH14/mage @1becb14, markweberdev/maskbit @5ea3d73, TencentARC/SEED-Voken @b9a17ea.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import torch
from gftzoo_maskgit.checkpoints import renamed
from golden import Golden, open_golden
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard, TokenizerSpec
from gftzoo.loading.files import import_model
from gftzoo.model import Model

CODES = TokenizerSpec(id="tiny", kind="pixel-code", channels=1, image_channels=1)


def read_golden(name: str) -> Golden:
    return open_golden(Path(__file__).parent / "goldens" / f"{name}.safetensors")


def write_flax(path: Path, arrays: Mapping[str, Tensor]) -> Path:
    """A file as `flax.serialization.to_bytes` writes it, from names joined by slashes."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *branches, leaf = name.split("/")
        node = tree
        for branch in branches:
            node = node.setdefault(branch, {})
        content = msgpack.packb([list(array.shape), "float32", array.numpy().tobytes()])
        node[leaf] = msgpack.ExtType(1, content)
    path.write_bytes(msgpack.packb(tree))
    return path


def tiny_card(side: int, codes: int, classes: int, **network: Any) -> ModelCard:
    """The card of a golden's network; dropout is zero there."""
    return ModelCard(
        name="tiny",
        family="maskgit",
        parameters=1,
        resolution=side,
        tokenizer=CODES.model_copy(update={"codebook": codes}),
        classes=classes,
        network={"dropout": 0.0, **network},
    )


def maskgit_card(config: dict[str, Any], **network: Any) -> ModelCard:
    shape = {"width": config["hidden"], "depth": config["layers"], "heads": config["heads"]}
    shape["mlp_ratio"] = config["mlp"] / config["hidden"]
    return tiny_card(config["latent"], config["codebook_size"], config["num_class"], **shape, **network)


def mage_card(config: dict[str, Any], **network: Any) -> ModelCard:
    arch = config["arch"]
    shape = {"width": arch["embed_dim"], "depth": arch["depth"], "heads": arch["num_heads"], "kind": "mage"}
    shape |= {f"decoder_{name}": arch[f"decoder_{key}"] for name, key in DECODER.items()}
    return tiny_card(round(config["tokens"] ** 0.5), config["n_embed"], 1000, mask="mage", **shape, **network)


DECODER = {"width": "embed_dim", "depth": "depth", "heads": "num_heads"}


def maskbit_card(config: dict[str, Any], **network: Any) -> ModelCard:
    bert = config["bert"]
    shape = {"width": bert["hidden_dim"], "depth": bert["depth"], "heads": bert["heads"], "kind": "maskbit"}
    shape |= {"mlp_ratio": bert["mlp_dim"] / bert["hidden_dim"], "splits": bert["codebook_splits"]}
    shape |= {"prenorm": bert["use_prenorm"], "tokens": "bits" if config["cls"] == "LFQBert" else "table"}
    shape |= {"mask": "each", "mask_schedule": "arccos", "loss": "all"}
    side = bert["img_size"] // bert["input_stride"]
    return tiny_card(side, bert["codebook_size"], bert["nclass"], **{**shape, **network})


def maskgit_model(golden: Golden, folder: Path, **network: Any) -> Model:
    """The golden's network from a Flax file without a suffix."""
    path = write_flax(folder / "maskgit_imagenet256_checkpoint", golden.weights)
    return ready(import_model(maskgit_card(golden.config, **network), path))


def mage_model(golden: Golden, folder: Path, **network: Any) -> Model:
    """The golden's network from an official container, tokenizer included.

    The official table of positions has 257 rows for any image; those that there are no codes for are cut off.
    """
    weights = dict(golden.weights)
    rows = golden.config["tokens"] + 1
    weights[POSITIONS] = weights[POSITIONS][:rows]
    torch.save({"model": weights, "epoch": 1599}, folder / "mage.pth")
    return ready(import_model(mage_card(golden.config, **network), folder / "mage.pth"))


POSITIONS = "token_emb.position_embeddings.weight"


def maskbit_model(golden: Golden, folder: Path, **network: Any) -> Model:
    """The golden's network from a bare state dict."""
    torch.save(golden.part("generator"), folder / "maskbit.bin")
    return ready(import_model(maskbit_card(golden.config, **network), folder / "maskbit.bin"))


def ready(model: Model) -> Model:
    model.network.eval()
    return model


class Recorded:
    """Recorded draws: values by Gumbel noise or by exponential numbers, and the noise of the confidence."""

    def __init__(self, noise: Tensor, gumbel: Tensor, exponential: bool) -> None:
        self.noise, self.numbers, self.exponential = iter(noise), iter(gumbel), exponential
        self.logits: list[Tensor] = []
        self.drawn: list[Tensor] = []

    def codes(self, logits_BMV: Tensor) -> Tensor:
        noise_BMV = next(self.noise).view_as(logits_BMV)
        noise_BMV = -noise_BMV.log() if self.exponential else noise_BMV
        self.logits.append(logits_BMV)
        self.drawn.append((logits_BMV.log_softmax(-1) + noise_BMV).argmax(-1))
        return self.drawn[-1]

    def gumbel(self) -> Tensor:
        return next(self.numbers).flatten(1)


class Masks:
    """A generator that gives recorded numbers in their order."""

    def __init__(self, *numbers: Tensor) -> None:
        self.numbers = iter(numbers)

    @property
    def host(self) -> Masks:
        """The same numbers, on the CPU."""
        return self

    def uniform(self, *shape: int) -> Tensor:
        found = next(self.numbers)
        assert tuple(found.shape[1:]) == shape
        return found


def gradient_norms(golden: Golden, prefix: str, names: list[tuple[str, str]]) -> dict[str, float]:
    """The recorded norms under our names; those of tensors that are one here are added in quadrature."""
    recorded = {key.removeprefix(prefix): norm for key, norm in golden.outputs.items() if key.startswith(prefix)}
    found: dict[str, float] = {}
    for key, norm in renamed(
        {key.replace("/", ".").removeprefix("params."): n for key, n in recorded.items()}, names
    ).items():
        name = re.sub(r"\.(query|key|value)\.", ".qkv.", re.sub(r"\.(kernel|scale)$", ".weight", key))
        found[name] = (found.get(name, 0.0) ** 2 + float(norm) ** 2) ** 0.5
    return found


def assert_gradients(model: Model, expected: Mapping[str, float], together: Mapping[str, str] | None = None) -> float:
    """The largest difference, over the expected norm where that is above 1; parameters without a norm have none.

    `together` names parameters that are part of another in the official code.
    """
    found: dict[str, float] = {}
    for name, parameter in model.network.named_parameters():
        if parameter.grad is not None and parameter.grad.abs().max() > 0:
            whole = (together or {}).get(name, name)
            found[whole] = (found.get(whole, 0.0) ** 2 + float(parameter.grad.norm()) ** 2) ** 0.5
    assert found.keys() == expected.keys()
    gaps = {name: abs(found[name] - norm) / max(1.0, norm) for name, norm in expected.items()}
    worst = max(gaps, key=lambda name: gaps[name])
    assert gaps[worst] <= 1e-4, (worst, found[worst], expected[worst])
    return gaps[worst]
