"""Guidance curves: one model scored at many temperatures or CFG scales, as records, CSV and plots. Resumable."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gftzoo.atomic import written_whole
from gftzoo.captions import asked, steered
from gftzoo.contract.guidance import ByClassifier, ClassifierFree, Guidance, Temperature
from gftzoo.errors import GftzooError, UsageError
from gftzoo.evaluate.drawing import conditions_for
from gftzoo.evaluate.evaluator import Evaluator
from gftzoo.evaluate.records import ScoreRecord, compare, score_names
from gftzoo.evaluate.subjects import subject_of
from gftzoo.group import all_gather_object, is_main_process
from gftzoo.model import Model
from gftzoo.pictures import labelled_rows
from gftzoo.printing import LONGEST_NAME, plain
from gftzoo.sampling import image_seeds, sample_batches

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_VALUES = 1000  # of a sweep; each is a whole measurement


def parse_values(text: str) -> list[float]:
    """Numbers of a sweep: `1:0.2:9` is 9 values from 1 to 0.2, evenly spaced; `1,0.8,0.5` is those.

    Raises UsageError for anything else.
    """
    try:
        if ":" not in text:
            values = [float(part) for part in text.split(",")]
        else:
            first, last, count = text.split(":")
            number = min(int(count), MOST_VALUES + 1)
            step = (float(last) - float(first)) / (number - 1) if number > 1 else 0.0
            values = [round(float(first) + i * step, 10) for i in range(number)]
        if not values or not all(math.isfinite(value) for value in values):
            raise ValueError
    except ValueError:
        raise UsageError(
            f"{text!r} is no list of values; write first:last:count as in 1:0.2:9, or values as in 1,0.8,0.5."
        ) from None
    if len(values) > MOST_VALUES:
        raise UsageError(f"{text[:60]!r} has more than {MOST_VALUES:,} values; give fewer.")
    return values


def label(guidance: Guidance) -> str:
    """A short name for rows and files: `unguided`, `beta=0.5`, `cfg=2`, `cfg=2-linear`, `classifier=1`."""
    if isinstance(guidance, ByClassifier):
        return f"classifier={guidance.scale:g}"
    if not isinstance(guidance, Temperature | ClassifierFree):
        return "unguided"
    text = f"beta={guidance.value:g}" if isinstance(guidance, Temperature) else f"cfg={guidance.scale:g}"
    return text if guidance.schedule == "constant" else f"{text}-{guidance.schedule}"


def sweep(
    evaluator: Evaluator,
    model: Model,
    guidances: Sequence[Guidance],
    folder: Path,
    *,
    seed: int = 0,
    batch_size: int = 64,
    settings: Mapping[str, Any] | None = None,
    objective: str | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> list[ScoreRecord]:
    """Scores the model at every guidance, one record file each in `folder`; a record that is there is not redone.

    A file counts only if it is the same measurement of the same weights, sampler and seed.
    """
    records = []
    conditions_plan = conditions_for(model.card, evaluator.protocol.images, evaluator.protocol.reference)[1]
    measure = evaluator.measure(evaluator.protocol.images, conditions_plan)
    for guidance in guidances:
        path = folder / f"{label(guidance)}-seed{seed}.json"
        subject = subject_of(model, guidance, settings or {}, seed, objective)
        record = all_gather_object(_existing(path))[0]  # the main process decides, which writes them
        if record is None or record.measure != measure or record.subject != subject:
            record = evaluator.score_model(
                model,
                guidance,
                seed=seed,
                batch_size=batch_size,
                settings=settings,
                objective=objective,
                on_batch=on_batch,
            )
            if is_main_process():
                record.write(path)
        records.append(record)
    return records


def _existing(path: Path) -> ScoreRecord | None:
    try:
        return ScoreRecord.read(path)
    except GftzooError:
        return None


def rows(records: Sequence[ScoreRecord]) -> list[dict[str, Any]]:
    """One flat row per record, for a CSV."""
    return [
        {
            "model": record.subject.model,
            "objective": record.subject.objective or "",
            "guidance": record.subject.guidance,
            "strength": record.subject.strength,
            "schedule": record.subject.schedule,
            "seed": record.subject.seed,
            "passes": record.passes,
            "seconds_per_image": record.seconds_per_image,
            **record.scores.model_dump(),
            "images": record.measure.images,
            "features": record.measure.features,
            "reference": record.measure.reference,
            "weights_sha256": (record.subject.weights_sha256 or "")[:12],
        }
        for record in records
    ]


def write_csv(records: Sequence[ScoreRecord], path: Path) -> None:
    """Writes `rows(records)`, whole or not at all; DiskError where the disk does not take it."""
    table = rows(records)
    with written_whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)


def plot_curves(curves: Mapping[str, Sequence[ScoreRecord]], path: Path) -> None:
    """The diversity-fidelity curves of several runs in one figure, a PNG.

    Frechet distance against Inception Score (of prompts the CLIP score, where there is one), precision against recall,
    and Frechet distance against seconds per image.
    """
    from matplotlib.figure import Figure  # slow to import, for the one who draws

    everything = [record for records in curves.values() for record in records]
    compare(everything)  # refuses to draw unlike scores into one figure
    names = score_names(everything[0])
    figure = Figure(figsize=(13.5, 4.2), layout="constrained")
    axes = figure.subplots(1, 3)
    # of prompts, as their papers draw it; of classes the Inception Score
    fidelity = "clip_score" if all(record.scores.clip_score is not None for record in everything) else "inception_score"
    panels = (
        (fidelity, "frechet", names[fidelity], names["frechet"]),
        ("recall", "precision", "recall", "precision"),
        ("seconds_per_image", "frechet", "seconds per image", names["frechet"]),
    )
    for axis, (x, y, x_name, y_name) in zip(axes, panels, strict=True):
        for name, records in curves.items():
            draw_curve(axis, records, x, y, name)
        axis.set(xlabel=x_name, ylabel=y_name)
        axis.grid(alpha=0.3)
    axes[0].legend()
    with written_whole(path) as partial:
        figure.savefig(partial, dpi=120, format="png")


def draw_curve(axis: Any, records: Sequence[ScoreRecord], x: str, y: str, name: str) -> None:
    """One line through the points of a sweep, each with its strength beside it."""
    points = [(_value(record, x), _value(record, y), record.subject.strength) for record in records]
    drawn = [(a, b, strength) for a, b, strength in points if a is not None and b is not None]
    label = plain(name, LONGEST_NAME).replace("$", r"\$")  # between two of them stands mathematics to matplotlib
    axis.plot([a for a, _, _ in drawn], [b for _, b, _ in drawn], "o-", label=label)
    for a, b, strength in drawn:
        axis.annotate(
            "1" if strength is None else f"{strength:g}", (a, b), fontsize=7, xytext=(3, 3), textcoords="offset points"
        )


def _value(record: ScoreRecord, name: str) -> float | None:
    return record.seconds_per_image if name == "seconds_per_image" else getattr(record.scores, name)


def strip(
    model: Model, guidances: Sequence[Guidance], conditions: Sequence[int | str], seed: int = 0, **settings: Any
) -> Image:
    """The same seeds at every guidance, one row each, with what was asked for below."""
    seeds = image_seeds(seed, range(len(conditions)))
    pictures = [
        (steered(g), torch.cat(list(sample_batches(model, conditions, g, seeds, 64, **settings)))) for g in guidances
    ]
    below = [f"{asked(model.card, condition)}\nseed {seed} #{index}" for index, condition in enumerate(conditions)]
    return labelled_rows(pictures, len(conditions), below, f"{model.card.name}, {model.weights_in_words}")
