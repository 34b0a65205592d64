"""What was found out of the zoo's own cards beforehand, and comes with the package. No torch here.

What `gftzoo info` says of them is in facts.json, and what a GFT step on the embedded demonstration costs in costs.json;
`python tools/shipped_facts.py --write` and `python tools/shipped_costs.py --write` make these files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gftzoo.catalogue.cards import ModelCard
from gftzoo.documents import read_json
from gftzoo.plugins.discovery import FAMILIES, WRAPPERS, active

if TYPE_CHECKING:
    from gftzoo.engine.config import TrainConfig

FACTS = Path(__file__).with_name("facts.json")
COSTS = Path(__file__).with_name("costs.json")
Fields = Mapping[str, Sequence[str]]  # of an option schema: the default as Python writes it, and the description


def shipped(card: ModelCard) -> dict[str, Any] | None:
    """What the family says of its card; None where the card, or what provides its family, is another than then.

    None too where a wrapper is installed, which may do anything at any call.
    """
    if any(active(WRAPPERS)) or not FACTS.is_file():
        return None
    kept = read_json(FACTS)
    found = kept["models"].get(card.name)
    if found is None or found["of"] != stamp(card):
        return None
    return {
        "sampler_options": spelt(kept["schemas"][found["sampler"]], card.sampler),
        "network_options": spelt(kept["schemas"][found["network"]], card.network),
        "exports": found["exports"],
        "training_step": found["training_step"],
    }


def stamp(card: ModelCard) -> str:
    """Changes with the card and with the version of the distribution that provides its family."""
    return _hash([_provided(card), card.model_dump(mode="json", exclude_defaults=True)])


def shipped_cost(question: Sequence[Any], card: ModelCard) -> dict[str, Any] | None:
    """The cost of a step that was asked for in these words (`step_question`); None where it is not known."""
    if any(active(WRAPPERS)) or not COSTS.is_file():
        return None
    found: dict[str, Any] | None = read_json(COSTS).get(step_stamp(question, card))
    return found


def step_stamp(question: Sequence[Any], card: ModelCard) -> str:
    """Changes with the question and with the version of the distribution that provides the card's family."""
    return _hash([_provided(card), question])


def step_question(config: TrainConfig, device: str, half: str, world: int) -> list[Any]:
    """What decides the cost of a step, as plain JSON: not when a run saves, how fast it learns, or what a card says.

    Args:
        config: of the run.
        device: kind of device that the network computes on.
        half: autocast's dtype; `None` computes in fp32.
        world: devices that share a batch.
    """
    return [config.model_dump(mode="json", exclude=COSTS_NOTHING), device, half, world]


# A new field is not among them: it is taken for one that decides, until somebody says otherwise.
COSTS_NOTHING: Any = {
    **dict.fromkeys(("model", "data", "weights", "entry", "tokenizer_path", "steps", "lr", "betas", "eps"), True),
    **dict.fromkeys(("weight_decay", "weight_decay_end", "clip_norm", "learning_rate", "horizon_is_length"), True),
    **dict.fromkeys(("ema_warmup", "hflip", "balance", "validation", "validation_images", "score", "patience"), True),
    **dict.fromkeys(("seed", "workers", "log_every", "checkpoint_every", "keep_last", "keep_every", "fits"), True),
    **dict.fromkeys(("save_on_signal", "sample_every", "sample_grid", "trackers", "precision", "device"), True),
    "card": dict.fromkeys(
        ("summary", "recipes", "scores", "checkpoints", "licence", "paper", "data", "sampler", "gft_schedule",
         "cfg_schedule", "class_names", "empty_classes"),
        True,
    ),
}  # fmt: skip


def _provided(card: ModelCard) -> list[list[str]]:
    """The distributions that provide the card's family, with their versions."""
    return [[plugin.distribution, plugin.version] for plugin in active(FAMILIES) if plugin.name == card.family]


def _hash(about: Any) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def spelt(fields: Fields, own: Mapping[str, Any]) -> dict[str, str]:
    """Every option with its default, the card's if it has one, and its description."""
    return {
        name: f"{repr(own[name]) if name in own else default}  {description}".rstrip()
        for name, (default, description) in fields.items()
    }
