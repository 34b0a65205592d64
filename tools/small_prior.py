"""A prior for `tools/sampling_speed.py karlo-decoder`: Karlo's, with one layer and random weights.

    python tools/small_prior.py FOLDER
    python tools/sampling_speed.py karlo-decoder -s prior=FOLDER -s prior_steps=1 -s steps=1 --batch 1 4

unCLIP's decoder draws of embeddings, and what its own passes cost does not depend on which.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gftzoo.families.finding import load_family
from gftzoo.model import Model
from gftzoo.zoo import get_card


def write(folder: Path, **network: Any) -> None:
    """The prior, and beside it mean and deviation of embeddings, where a pipeline of diffusers has them.

    Args:
        network: options of the prior's network, in the place of Karlo's.
    """
    card = get_card("karlo-prior")
    inside = folder / "prior"
    inside.mkdir(parents=True)
    width = card.tokenizer.channels
    statistics = {"clip_mean": torch.zeros(1, width), "clip_std": torch.ones(1, width)}
    save_file(statistics, inside / "diffusion_pytorch_model.safetensors")
    tokenizer = {**card.tokenizer.model_dump(), "repo": str(folder.absolute()), "file": None}
    card = card.change(network={**card.network, "layers": 1, **network}, tokenizer=tokenizer, checkpoints={})
    torch.manual_seed(0)
    family = load_family(card.family)
    Model(card, family.build_network(card), None, family).save(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
