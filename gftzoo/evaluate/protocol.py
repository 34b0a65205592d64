"""Scoring a model by a protocol: which images are drawn, which features they get and what they are compared with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from gftzoo.data import Source, open_source
from gftzoo.errors import UsageError, nearest
from gftzoo.evaluate.features import FeatureNetwork, Inception, feature_network
from gftzoo.evaluate.images import file_batches, image_count, to_uint8
from gftzoo.evaluate.records import (
    Measure,
    ScoreRecord,
    Subject,
    guidance_fields,
    library_versions,
    network_sha256,
)
from gftzoo.evaluate.references import Reference, check_reference, open_reference, scored_split
from gftzoo.evaluate.scoring import FeatureStream, score, summarize
from gftzoo.guidance import Guidance
from gftzoo.model import Model
from gftzoo.plugins import find_family
from gftzoo.sampling import image_seeds, sample_batches
from gftzoo.zoo import Frozen, ModelCard

SMALLEST = 2048  # images below which a covariance of InceptionV3's features says little
SHUFFLE = 2020  # seed of the order in which images of a folder are split, torch-fidelity's default


class Protocol(Frozen):
    """Everything about a measurement that is decided beforehand."""

    name: str
    features: str = Field(description="feature network, see `feature_network`")
    reference: str = Field(description="statistics or images to compare with, see `open_reference`")
    images: int = Field(50_000, gt=1)
    splits: int = 10
    neighbours: int = 3
    keep: int = Field(10_000, description="features kept for kernel distance, precision and recall")
    few: bool = Field(False, description="score even fewer images than statistics of InceptionV3 need")


def choose_protocol(
    name: str,
    card: ModelCard | None = None,
    *,
    data: str | None = None,
    features: str | None = None,
    reference: str | None = None,
    images: int | None = None,
    few: bool = False,
) -> Protocol:
    """The named protocol, with what the user changed.

    `adm`: InceptionV3, 50,000 class-balanced images, against the statistics file of the data (give `reference`).
    Like ADM's evaluator except for precision and recall, which use 10,000 kept features where that has all in half
    precision; the number is in the record.
    `embedded`: 2,000 images against the held-out split of the model's own data (`scored_split`), with a classifier
    trained on its train split, or EfficientNet-Lite0 where that has captions and no classes. It needs no network and no
    files.

    Raises:
        UsageError: unknown name, or no reference.
    """
    if name not in ("adm", "embedded"):
        raise UsageError(f"unknown protocol {name!r}{nearest(name, ('adm', 'embedded'))}; valid are adm, embedded.")
    size = {"images": images} if images is not None else {}
    if name == "adm":
        if reference is None:
            raise UsageError(
                "protocol adm compares with a statistics file; give ADM's npz of the data set with "
                "--reference VIRTUAL_imagenet256_labeled.npz."
            )
        return Protocol(name=name, features=features or "inception", reference=reference, few=few, **size)
    source = data or (card.data if card else None)
    if source is None and not (features and reference):
        raise UsageError("protocol embedded needs the data the model was trained on; name it with --data SOURCE.")
    network = features or ("efflite0" if card and not has_classes(card, str(source)) else f"embedded:{source}")
    against = reference or f"data:{source}"
    return Protocol(name=name, features=network, reference=against, few=few, **{"images": 2000, **size})


def has_classes(card: ModelCard, data: str) -> bool:
    """Whether a classifier can tell what the model was asked for; captions may fall into classes as well."""
    return card.condition == "class" or bool(open_source(data).class_names)


@dataclass
class Timing:
    """Seconds per image of the fastest batch: what the hardware can do, whatever else the machine does meanwhile."""

    fastest: float = field(default=float("inf"))

    def lap(self, started: float, images: int) -> None:
        self.fastest = min(self.fastest, (time.perf_counter() - started) / images)


class Evaluator:
    """A protocol ready to be applied to models and images: its feature network and its reference.

    Args:
        protocol: what to measure.
        network: a feature network of one's own, in place of the one that the protocol names.
        feature_weights: the file of the feature network, where it is not in its usual place.
        device: where features are computed.
        resolution: side to which images of a data source are brought; the model's.
    """

    def __init__(
        self,
        protocol: Protocol,
        *,
        network: FeatureNetwork | None = None,
        feature_weights: str | Path | None = None,
        device: torch.device | str = "cpu",
        resolution: int | None = None,
    ) -> None:
        check_reference(protocol.reference)  # before a feature network is trained
        self.protocol = protocol
        self.network = (network or feature_network(protocol.features, feature_weights)).to(device)
        self.reference: Reference = open_reference(protocol.reference, self.network, resolution, protocol.keep)

    def measure(self, images: int, class_plan: str) -> Measure:
        """The measure of a set of `images` images; UsageError if they are too few for the feature network."""
        if isinstance(self.network, Inception) and images < SMALLEST and not self.protocol.few:
            raise UsageError(
                f"FID of {images} images is mostly bias; use at least {SMALLEST}, another feature network, or --few."
            )
        return Measure(
            protocol=self.protocol.name,
            distance_name=self.network.distance_name,
            features=self.network.name,
            features_sha256=self.network.weights_sha256,
            reference=self.reference.name,
            reference_sha256=self.reference.sha256,
            images=images,
            class_plan=class_plan,
            splits=self.protocol.splits,
            neighbours=self.protocol.neighbours,
            kept_features=min(self.protocol.keep, images),
        )

    def score_model(
        self,
        model: Model,
        guidance: Guidance,
        *,
        seed: int = 0,
        batch_size: int = 64,
        settings: Mapping[str, Any] | None = None,
        objective: str | None = None,
        on_batch: Callable[[int], None] | None = None,
    ) -> ScoreRecord:
        """Samples the protocol's images, batch after batch, each rank its share, and scores them.

        Args:
            model: with its tokenizer, on its device.
            guidance: how it is steered.
            seed: image i is a function of (seed, i), whatever batch size and ranks.
            batch_size: images a forward pass.
            settings: of the family's sampler.
            objective: what the model was trained for, kept in the record; None takes what its weights say.
            on_batch: called with the number of images drawn by this rank after each batch, for progress.

        Raises:
            GftzooError: the model produced a non-finite number, or does not take the guidance or a setting.
        """
        total = self.protocol.images
        conditions, plan = conditions_for(model.card, total, self.protocol.reference)
        labels = labels_for(model.card, total, self.protocol.reference)
        measure = self.measure(total, plan)
        stream = FeatureStream(self.network, total, self.protocol.splits, None, self.protocol.keep)
        positions = rank_positions(total)
        timing = Timing()
        chosen = [conditions[position] for position in positions]
        batches = sample_batches(
            model, chosen, guidance, image_seeds(seed, positions), batch_size, **dict(settings or {})
        )
        start, started = 0, time.perf_counter()
        for images_BCHW in batches:
            rows = slice(start, start + len(images_BCHW))
            uint8_BCHW = to_uint8(images_BCHW)  # waits for the device
            timing.lap(started, len(images_BCHW))
            known = None if labels is None else [labels[position] for position in positions[rows]]
            stream.add(uint8_BCHW, positions[rows], known)
            if on_batch is not None:
                on_batch(len(images_BCHW))
            start, started = rows.stop, time.perf_counter()
        return ScoreRecord(
            measure=measure,
            subject=subject_of(model, guidance, settings or {}, seed, objective),
            scores=score(stream.summary(), self.reference.summary, self.protocol.neighbours),
            passes=guidance.passes,
            seconds_per_image=timing.fastest,
            versions=library_versions([find_family(model.card.family).distribution]),
        )

    def score_images(self, path: str | Path) -> ScoreRecord:
        """Scores images that are there already: a folder, or an npz in ADM's layout."""
        path = Path(path)
        total = image_count(path)
        measure = self.measure(total, "as in the files")
        shuffle = SHUFFLE if path.is_dir() else None  # folders are often sorted by class
        summary = summarize(self.network, file_batches(path), total, self.protocol.splits, shuffle, self.protocol.keep)
        return ScoreRecord(
            measure=measure,
            subject=Subject(model=path.name),
            scores=score(summary, self.reference.summary, self.protocol.neighbours),
            versions=library_versions(),
        )


def evaluate(
    subject: Model | str | Path,
    protocol: str = "embedded",
    *,
    guidance: Guidance | None = None,
    data: str | None = None,
    features: str | None = None,
    reference: str | None = None,
    images: int | None = None,
    few: bool = False,
    feature_weights: str | Path | None = None,
    seed: int = 0,
    batch_size: int = 64,
    settings: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
) -> ScoreRecord:
    """Scores a model, or images in a folder or npz, by a protocol; see `choose_protocol` and `Evaluator`."""
    model = subject if isinstance(subject, Model) else None
    card = model.card if model else None
    chosen = choose_protocol(protocol, card, data=data, features=features, reference=reference, images=images, few=few)
    where = device or (model.device if model else "cpu")
    resolution = card.resolution if card else None
    evaluator = Evaluator(chosen, feature_weights=feature_weights, device=where, resolution=resolution)
    if model is None:
        return evaluator.score_images(str(subject))
    return evaluator.score_model(
        model, guidance or model.guidance(), seed=seed, batch_size=batch_size, settings=settings
    )


def conditions_for(card: ModelCard, total: int, reference: str) -> tuple[Sequence[int | str], str]:
    """The condition of each image and the name of the plan: all classes in turn, or captions of the reference."""
    if card.condition == "class":
        # In turn, so that every split of the Inception Score sees all classes.
        return [position % card.classes for position in range(total)], f"balanced over {card.classes} classes, in turn"
    source = caption_source(card, reference)
    rows = spread_rows(len(source), total)
    return [source.condition_of(row) for row in rows], f"captions of {reference}, in turn"


def labels_for(card: ModelCard, total: int, reference: str) -> list[int] | None:
    """The class of each image: of a caption, the group it falls into; None where captions have no groups."""
    if card.condition == "class":
        return [position % card.classes for position in range(total)]
    source = caption_source(card, reference)
    return [source.class_of(row) for row in spread_rows(len(source), total)] if source.class_names else None


def caption_source(card: ModelCard, reference: str) -> Source:
    """Where captions come from: the data that the images are compared with."""
    if not reference.startswith("data:"):
        raise UsageError(
            f"{card.name} needs captions to be scored with; give a data source as --reference data:SOURCE."
        )
    name = reference.removeprefix("data:")
    return open_source(name, scored_split(name))


def spread_rows(length: int, total: int) -> list[int]:
    """`total` of `length` rows: all in turn, or, of more than are wanted, evenly spaced ones."""
    return [position % length if total >= length else position * length // total for position in range(total)]


def rank_positions(total: int) -> range:
    """The positions of this process's images; all of them without torch.distributed."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank = torch.distributed.get_rank() if distributed else 0
    world = torch.distributed.get_world_size() if distributed else 1
    return range(rank, total, world)


def subject_of(
    model: Model, guidance: Guidance, settings: Mapping[str, Any], seed: int, objective: str | None = None
) -> Subject:
    """Everything about a model that its images depend on."""
    first: Tensor = next(model.network.parameters())
    tokenizer = model.card.tokenizer
    entry = model.provenance.get("entry")
    return Subject(
        model=model.card.name,
        weights_sha256=network_sha256(model.network),
        entry=None if entry is None else str(entry),
        objective=objective or model.provenance.get("objective"),
        tokenizer=f"{tokenizer.id} (scale {tokenizer.scale:g}, shift {tokenizer.shift:g}, /{tokenizer.downsample})",
        **guidance_fields(guidance),
        sampler=model.family.sampler_settings(model.card, **settings).model_dump(mode="json"),
        dtype=str(first.dtype).removeprefix("torch."),
        tf32=torch.backends.cuda.matmul.allow_tf32 if first.is_cuda else None,
        device=torch.cuda.get_device_name(first.device) if first.is_cuda else first.device.type,
        seed=seed,
    )
