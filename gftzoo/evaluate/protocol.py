"""A protocol: how many images are scored, with which features, and what they are compared with."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError

from gftzoo.catalogue.cards import Frozen, ModelCard, validation_sentence
from gftzoo.data import open_source
from gftzoo.errors import UsageError, nearest

NAMES = ("adm", "coco", "embedded")
MOST_IMAGES = 10_000_000  # what is known of each image fits the memory


class Protocol(Frozen):
    """Everything about a measurement that is decided beforehand."""

    name: str
    features: str = Field(description="feature network, see `feature_network`")
    reference: str = Field(description="statistics or images to compare with, see `open_reference`")
    images: int = Field(50_000, gt=1, le=MOST_IMAGES)
    splits: int = Field(10, gt=0, le=1000)
    neighbours: int = Field(3, gt=0, le=1000)
    keep: int = Field(10_000, gt=1, le=1_000_000, description="features kept for kernel distance, precision and recall")
    prompt_encoder: str | None = Field(None, description="CLIP model of the CLIP score, a folder")
    few: bool = Field(False, description="score even fewer images than the features have dimensions")


def choose_protocol(
    name: str,
    card: ModelCard | None = None,
    *,
    data: str | None = None,
    features: str | None = None,
    reference: str | None = None,
    images: int | None = None,
    few: bool = False,
    prompt_encoder: str | None = None,
) -> Protocol:
    """The named protocol, with what the user changed.

    `adm`: InceptionV3, 50,000 class-balanced images, against the statistics file of the data (give `reference`).
    Like ADM's evaluator except for precision and recall, which use 10,000 kept features where that has all in half
    precision; the number is in the record.
    `coco`: InceptionV3, 30,000 images of captions of COCO (give `data`, the validation set), against all its pictures
    in the model's size: the zero-shot FID of text-to-image papers.
    `embedded`: 2,000 images against the held-out split of the model's own data (`scored_split`), with a classifier
    trained on its train split, or EfficientNet-Lite0 where that has captions and no classes. It needs no network and no
    files.

    Raises:
        UsageError: unknown name, or no reference.
    """
    if name not in NAMES:
        raise UsageError(f"unknown protocol {name!r}{nearest(name, NAMES)}; valid are {', '.join(NAMES)}.")
    size: dict[str, Any] = {"few": few, "prompt_encoder": prompt_encoder}
    size |= {"images": images} if images is not None else {}
    if name == "coco":
        if data is None and reference is None:
            raise UsageError(
                "protocol coco draws the captions of COCO's validation set; name it with --data jsonl:val2014.jsonl."
            )
        against = reference or f"all:{data}"
        return _checked(name=name, features=features or "inception", reference=against, **{"images": 30_000, **size})
    if name == "adm":
        if reference is None:
            raise UsageError(
                "protocol adm compares with a statistics file; give ADM's npz of the data set with "
                "--reference VIRTUAL_imagenet256_labeled.npz."
            )
        return _checked(name=name, features=features or "inception", reference=reference, **size)
    source = data if data is not None else (card.data if card else None)
    if source is None and not (features and reference):
        raise UsageError("protocol embedded needs the data the model was trained on; name it with --data SOURCE.")
    network = features or ("efflite0" if card and not has_classes(card, str(source)) else f"embedded:{source}")
    against = reference or f"data:{source}"
    return _checked(name=name, features=network, reference=against, **{"images": 2000, **size})


def _checked(**values: Any) -> Protocol:
    try:
        return Protocol(**values)
    except ValidationError as error:
        raise UsageError(validation_sentence(f"protocol {values['name']}", error, Protocol)) from error


def has_classes(card: ModelCard, data: str) -> bool:
    """Whether a classifier can tell what the model was asked for; captions may fall into classes as well."""
    return card.condition == "class" or bool(open_source(data).class_names)
