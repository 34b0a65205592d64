"""The runs and scores behind tools/guidance_table.py: trained once, sampled at every strength, kept by record."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import gftzoo
from gftzoo.contract.guidance import ClassifierFree, Guidance, Temperature, Unguided
from gftzoo.data import Split
from gftzoo.engine import TrainConfig, parse_options, resolve, train
from gftzoo.engine.checkpoints import newest
from gftzoo.errors import GftzooError
from gftzoo.evaluate.evaluator import Evaluator
from gftzoo.evaluate.protocol import choose_protocol
from gftzoo.evaluate.records import ScoreRecord
from gftzoo.evaluate.references import open_reference, scored_split
from gftzoo.evaluate.scoring import Scores, score
from gftzoo.evaluate.sweep import label, sweep
from gftzoo.model import Model

SCALES = (1.1, 1.25, 1.5, 2.0, 3.0, 4.0)
BETAS = (1.0, 0.9, 0.8, 0.66, 0.5, 0.4, 0.33)
BATCH = 250


class Tuning(NamedTuple):
    """How a conditional run is trained on: the objective, a recipe by its name, and options beside it."""

    objective: str
    options: Mapping[str, object] = MappingProxyType({})
    recipe: str | None = None


FINE_TUNED = {
    "gft": Tuning("gft"),
    "affine": Tuning("gft", {"network.temperature_input": "affine"}),
    # Of every layer: in attention alone it changes too little of so small a UNet.
    "lora": Tuning("gft", {"lora.targets": ".*"}, recipe="lora"),
    "distill": Tuning("distill"),
    "cca": Tuning("cca"),
    "adapter": Tuning("gft", {"train": "temperature"}),
    "conditional": Tuning("conditional"),  # further plain training: what the steps alone give
}


@dataclass(frozen=True)
class Job:
    """What is to be compared: the arguments of the command."""

    model: str
    data: str | None
    seeds: list[int]
    steps: int | None
    images: int
    schedules: list[str]
    options: list[str]
    sampler: list[str]
    out: Path
    work: Path
    finetune: list[str] | None = None
    finetune_steps: int | None = None
    half_steps: str | None = None
    recipe: str | None = None
    scales: Sequence[float] = SCALES
    betas: Sequence[float] = BETAS


def trained(job: Job, kind: str, seed: int, base: Path | None = None) -> tuple[Model, Path]:
    """The model trained with that objective and seed, from its run's folder if it is finished, and the folder.

    With the run `base`, fine-tuned from its weights; `kind` is then one of FINE_TUNED.
    """
    how = Tuning(kind, recipe=job.recipe if kind == "gft" else None) if base is None else FINE_TUNED[kind]
    options = {**parse_options(job.options), "seed": seed, "sample_every": 10**9, **how.options}
    steps, weights = (job.steps, None) if base is None else (job.finetune_steps, str(base))
    if base is not None and kind == "conditional":  # for as long and as fast as the fine-tune beside it
        beside = resolve(job.model, objective="gft", data=job.data, steps=steps, weights=weights)
        steps, options["lr"], options["learning_rate"] = beside.steps, beside.lr, beside.learning_rate
    config = resolve(
        job.model,
        objective=how.objective,
        data=job.data,
        recipe=how.recipe,
        steps=steps,
        weights=weights,
        options=options,
    )
    name = kind if base is None else f"{kind}-from-base"
    run = job.work / f"{job.model}-{name}-seed{seed}-{config.steps}"
    if not finished(run, config):
        if newest(run) is None:  # cut before its first checkpoint: nothing to go on from
            shutil.rmtree(run, ignore_errors=True)
        train(config, run, resume=newest(run) is not None)
        if not finished(run, config):  # asked to stop, it saves and returns
            raise GftzooError(f"{run} was stopped; the same command goes on from there.")
    return gftzoo.load(run), run


def finished(run: Path, config: TrainConfig) -> bool:
    """Whether the run is complete; GftzooError if it was trained with another configuration."""
    if not (run / "config.yaml").is_file():
        return False
    if decisive(TrainConfig.read(run)) != decisive(config):
        raise GftzooError(f"{run} was trained with another configuration; remove it, or give another --work.")
    checkpoint = newest(run)
    return checkpoint is not None and int(checkpoint.name.rpartition("-")[2]) >= config.steps


def decisive(config: TrainConfig) -> TrainConfig:
    """What decides a run: not what else the catalogue says of the model."""
    other: dict[str, object] = {"recipes": {}, "checkpoints": {}, "scores": (), "summary": ""}
    return config.model_copy(update={"card": config.card.model_copy(update=other)})


def guidances(
    objective: str, schedules: Sequence[str], scales: Sequence[float] = SCALES, betas: Sequence[float] = BETAS
) -> list[Guidance]:
    """Every row of an objective, weakest guidance first."""
    if objective.startswith("conditional"):
        guided = [ClassifierFree(scale, schedule) for schedule in schedules for scale in scales]  # type: ignore[arg-type]
        return [Unguided(), *guided]
    if objective.startswith(("cca", "lora")):  # its strength is fixed when it is trained
        return [Unguided()]
    strengths = [beta for beta in betas if beta < 1]
    return [Temperature(1.0), *(Temperature(b, schedule) for schedule in schedules for b in strengths)]  # type: ignore[arg-type]


def collect(job: Job) -> tuple[list[ScoreRecord], Scores, Model, Model]:
    """All records, the real-against-real floor and the two models of the first seed."""
    records: list[ScoreRecord] = []
    models: list[Model] = []
    evaluator: Evaluator | None = None
    for seed in job.seeds:
        for objective in ("conditional", "gft"):
            model, _ = trained(job, objective, seed)
            models.append(model)
            evaluator = evaluator or open_evaluator(job, model)
            records += scored(job, evaluator, model, objective, seed)
    assert evaluator is not None
    return records, floor(evaluator, models[0]), models[0], models[1]


def collect_fine_tuned(job: Job) -> list[ScoreRecord]:
    """The records of everything that --finetune asks for."""
    records: list[ScoreRecord] = []
    evaluator: Evaluator | None = None
    for seed in job.seeds:
        _, base = trained(job, "conditional", seed)
        for objective in job.finetune or ():
            model, _ = trained(job, objective, seed, base)
            evaluator = evaluator or open_evaluator(job, model)
            records += scored(job, evaluator, model, f"{objective}-from-base", seed)
    return records


def collect_equal_forwards(job: Job) -> list[ScoreRecord]:
    """The records of CFG at half the sampler's steps, which are as many forwards as GFT's."""
    assert job.half_steps is not None
    halved = replace(job, sampler=[*job.sampler, job.half_steps])
    records: list[ScoreRecord] = []
    for seed in job.seeds:
        model, _ = trained(job, "conditional", seed)
        records += scored(halved, open_evaluator(job, model), model, "conditional", seed, "-equal-forwards")
    return records


def open_evaluator(job: Job, model: Model) -> Evaluator:
    protocol = choose_protocol("embedded", model.card, data=job.data, images=job.images)
    return Evaluator(protocol, resolution=model.card.resolution)


def scored(
    job: Job, evaluator: Evaluator, model: Model, objective: str, seed: int, aside: str = ""
) -> list[ScoreRecord]:
    """The records of a model, one a guidance; `aside` sets them apart from others of the same model."""
    records: list[ScoreRecord] = []
    settings = dict(pair.split("=", 1) for pair in job.sampler)
    for guidance in guidances(objective, job.schedules, job.scales, job.betas):
        folder = job.work / f"records-{job.model}-{objective}{aside}-seed{seed}"
        done = sweep(
            evaluator, model, [guidance], folder,
            seed=seed, batch_size=BATCH, settings=settings, objective=objective,
        )  # fmt: skip
        print(f"seed {seed} {objective:12} {label(guidance):16} {summary(done[0])}", flush=True)
        records += done
    return records


def summary(record: ScoreRecord) -> str:
    scores = record.scores
    axis = axis_of([record])
    return f"FD {scores.frechet:7.3f}  {axis} {value(record, axis):6.1%}  {record.seconds_per_image or 0:.4f} s/image"


def axis_of(records: Sequence[ScoreRecord]) -> str:
    """What curves are drawn over: the classifier's accuracy, or precision where no classifier knows the conditions."""
    return "accuracy" if records[0].scores.accuracy is not None else "precision"


def value(record: ScoreRecord, name: str) -> float:
    return getattr(record.scores, name) or 0.0


def floor(evaluator: Evaluator, model: Model) -> Scores:
    """Real images against real images: the split that rows are not compared with against the one that they are."""
    protocol = evaluator.protocol
    other = other_split(protocol.reference)
    real = open_reference(protocol.reference, evaluator.network, model.card.resolution, protocol.keep, split=other)
    return score(real.summary, evaluator.reference.summary, protocol.neighbours)


def other_split(reference: str) -> Split:
    """The split of a data source that images are not compared with."""
    return "held-out" if scored_split(reference.removeprefix("data:")) == "train" else "train"
