"""What is said of an image that a model drew: below it on a sheet, and in the text chunks of its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gftzoo import __version__
from gftzoo.adapters import tensors_sha256
from gftzoo.contract.guidance import ByClassifier, ClassifierFree, Guidance, Temperature
from gftzoo.precision import name_of
from gftzoo.printing import plain

if TYPE_CHECKING:
    from gftzoo.catalogue.cards import ModelCard
    from gftzoo.contract.model import Model


def steered(guidance: Guidance) -> str:
    """How a sampler is steered, in words: `beta 0.5`, `CFG 2, linear`, `classifier 1`, `unguided`."""
    if isinstance(guidance, ByClassifier):
        return f"classifier {guidance.scale:g}"
    if not isinstance(guidance, Temperature | ClassifierFree):
        return "unguided"
    text = f"beta {guidance.value:g}" if isinstance(guidance, Temperature) else f"CFG {guidance.scale:g}"
    return text if guidance.schedule == "constant" else f"{text}, {guidance.schedule}"


def asked(card: ModelCard, condition: int | str) -> str:
    """What an image was asked to show: the name of a class, its index where it has none, or the prompt."""
    if card.condition == "text":
        return str(condition)
    index = card.class_index(condition)
    return card.class_names[index] if card.class_names else f"class {index}"


def caption(card: ModelCard, condition: int | str, guidance: Guidance, seed: int, index: int) -> str:
    """Below an image: what it shows, and in a short line of its own how it is drawn again."""
    steering = steered(guidance).replace("beta", "\N{GREEK SMALL LETTER BETA}")
    return f"{plain(asked(card, condition), 200)}\n{steering}, seed {seed} #{index}"


def about_model(model: Model) -> dict[str, str]:
    """The text chunks that all images of one model share: its name, its weights with their hash, and the precision."""
    return {
        "Software": f"gftzoo {__version__}",
        "model": model.card.name,
        "weights": str(model.provenance.get("entry", model.provenance.get("weights", ""))),
        "weights_sha256": tensors_sha256(model.network.state_dict()),
        "precision": name_of(model.half),
    }


def about_image(card: ModelCard, condition: int | str, guidance: Guidance, seed: int, index: int) -> dict[str, str]:
    """The text chunks of one image: with the model's own they say all that it follows from but the sampler's settings.

    The image is a function of `seed` and of its `index` in what was drawn.
    """
    chunks = {"prompt" if card.condition == "text" else "class": asked(card, condition)}
    if isinstance(guidance, Temperature):
        chunks["beta"] = f"{guidance.value:g}"
    elif isinstance(guidance, ClassifierFree):
        chunks["cfg"] = f"{guidance.scale:g}"
    elif isinstance(guidance, ByClassifier):
        chunks["classifier_scale"] = f"{guidance.scale:g}"
        chunks["classifier_sha256"] = tensors_sha256(guidance.classifier.state_dict())
    return {**chunks, "schedule": guidance.schedule, "seed": str(seed), "index": str(index)}
