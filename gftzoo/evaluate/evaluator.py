"""A protocol applied: models are sampled and scored, images are read and scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gftzoo.contract.guidance import Guidance
from gftzoo.errors import UsageError
from gftzoo.evaluate.agreement import PromptAgreement, PromptEncoder, agreement_with
from gftzoo.evaluate.drawing import conditions_for, labels_for
from gftzoo.evaluate.features import FeatureNetwork
from gftzoo.evaluate.images import file_batches, image_count, is_folder, to_uint8
from gftzoo.evaluate.networks import feature_network
from gftzoo.evaluate.protocol import Protocol, choose_protocol
from gftzoo.evaluate.records import Measure, ScoreRecord, library_versions
from gftzoo.evaluate.references import Reference, check_reference, open_reference
from gftzoo.evaluate.scoring import FeatureStream, score, summarize
from gftzoo.evaluate.subjects import Subject, subject_of
from gftzoo.families.finding import find_family
from gftzoo.group import rank_positions
from gftzoo.model import Model
from gftzoo.sampling import image_seeds, sample_batches

SHUFFLE = 2020  # seed of the order in which images of a folder are split, torch-fidelity's default


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
        clip = protocol.prompt_encoder
        self.prompts = None if clip is None else PromptEncoder(clip, device)
        self.reference: Reference = open_reference(protocol.reference, self.network, resolution, protocol.keep)

    def measure(self, images: int, class_plan: str) -> Measure:
        """The measure of a set of `images` images; UsageError if they are too few for the feature network."""
        fewest = self.network.dimensions  # below, the covariance of the features is singular
        if images < fewest and not self.protocol.few:
            raise UsageError(
                f"{self.network.distance_name} of {images} images is mostly bias; use at least {fewest}, "
                "a feature network of fewer dimensions, or --few."
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
            prompt_encoder=self.prompts and self.prompts.name,
            prompt_encoder_sha256=self.prompts and self.prompts.sha256,
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
        agreement = agreement_with(self.prompts, conditions, model.card.name)
        stream = FeatureStream(self.network, total, self.protocol.splits, None, self.protocol.keep)
        positions = rank_positions(total)
        chosen = [conditions[position] for position in positions]
        batches = sample_batches(
            model, chosen, guidance, image_seeds(seed, positions), batch_size, **dict(settings or {})
        )
        timing = taken_in(stream, batches, positions, labels, on_batch, agreement)
        scores = score(stream.summary(), self.reference.summary, self.protocol.neighbours)
        return ScoreRecord(
            measure=measure,
            subject=subject_of(model, guidance, settings or {}, seed, objective),
            scores=scores.model_copy(update=agreement.compute() if agreement else {}),
            passes=guidance.passes,
            seconds_per_image=timing.fastest,
            versions=library_versions([find_family(model.card.family).distribution]),
        )

    def score_images(self, path: str | Path) -> ScoreRecord:
        """Scores images that are there already: a folder, or an npz in ADM's layout."""
        path = Path(path)
        if self.prompts is not None:
            raise UsageError(f"{str(path)!r} is a set of images without prompts; leave --prompt-encoder out.")
        total = image_count(path)
        measure = self.measure(total, "as in the files")
        shuffle = SHUFFLE if is_folder(path) else None  # folders are often sorted by class
        summary = summarize(self.network, file_batches(path), total, self.protocol.splits, shuffle, self.protocol.keep)
        return ScoreRecord(
            measure=measure,
            subject=Subject(model=path.name),
            scores=score(summary, self.reference.summary, self.protocol.neighbours),
            versions=library_versions(),
        )


def taken_in(
    stream: FeatureStream,
    batches: Iterable[Tensor],
    positions: Sequence[int],
    labels: Sequence[int] | None,
    on_batch: Callable[[int], None] | None,
    agreement: PromptAgreement | None = None,
) -> Timing:
    """Puts the features of images at `positions` into the stream as they are drawn; how long each batch took."""
    timing = Timing()
    start, started = 0, time.perf_counter()
    for images_BCHW in batches:
        rows = slice(start, start + len(images_BCHW))
        uint8_BCHW = to_uint8(images_BCHW)  # waits for the device
        timing.lap(started, len(images_BCHW))
        known = None if labels is None else [labels[position] for position in positions[rows]]
        stream.add(uint8_BCHW, positions[rows], known)
        if agreement is not None:
            agreement.update(uint8_BCHW, positions[rows])
        if on_batch is not None:
            on_batch(len(images_BCHW))
        start, started = rows.stop, time.perf_counter()
    return timing


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
    prompt_encoder: str | None = None,
    feature_weights: str | Path | None = None,
    seed: int = 0,
    batch_size: int = 64,
    settings: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
) -> ScoreRecord:
    """Scores a model, or images in a folder or npz, by a protocol; see `choose_protocol` and `Evaluator`."""
    model = subject if isinstance(subject, Model) else None
    card = model.card if model else None
    chosen = choose_protocol(
        protocol, card, data=data, features=features, reference=reference, images=images, few=few,
        prompt_encoder=prompt_encoder,
    )  # fmt: skip
    where = device or (model.device if model else "cpu")
    resolution = card.resolution if card else None
    evaluator = Evaluator(chosen, feature_weights=feature_weights, device=where, resolution=resolution)
    if model is None:
        return evaluator.score_images(str(subject))
    return evaluator.score_model(
        model, guidance or model.guidance(), seed=seed, batch_size=batch_size, settings=settings
    )
