"""The table that compares guidance-free training with classifier-free guidance, for any model on embedded data.

    python tools/guidance_table.py dit-nano

For every seed it trains the model twice on the same data for the same steps, once with the plain conditional objective
and once with GFT; samples both at several strengths; and scores the images against held-out real ones with a classifier
trained on the train split. It writes DIR/table.csv, table.md, curves.png and strip.png. What is done already
(a finished run, a scored row) is not done again. Everything runs on one thread.

With --finetune it also fine-tunes every conditional run for the objectives named (gft if none is) and writes the
scores of those to finetuned.csv; tools/results_page.py shows them beside the others.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from benchmark import medians

import gftzoo
from gftzoo.contract.guidance import ClassifierFree, Guidance, Temperature, Unguided
from gftzoo.data import Split
from gftzoo.engine import TrainConfig, resolve, train
from gftzoo.engine.checkpoints import newest
from gftzoo.errors import GftzooError
from gftzoo.evaluate.drawing import conditions_for
from gftzoo.evaluate.evaluator import Evaluator
from gftzoo.evaluate.frontier import Point, compare_at_equal_x
from gftzoo.evaluate.protocol import choose_protocol
from gftzoo.evaluate.records import ScoreRecord
from gftzoo.evaluate.references import open_reference, scored_split
from gftzoo.evaluate.scoring import Scores, score
from gftzoo.evaluate.sweep import draw_curve, label, strip, sweep, write_csv
from gftzoo.model import Model
from gftzoo.pictures import save
from gftzoo.sampling import image_seeds

SCALES = (1.25, 1.5, 2.0, 3.0, 4.0)
BETAS = (1.0, 0.8, 0.66, 0.5, 0.4, 0.33)
BATCH = 250
FINE_TUNED = ("gft", "distill", "cca")


@dataclass(frozen=True)
class Job:
    """The command's arguments."""

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


def read_arguments() -> Job:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model of the catalogue, e.g. dit-nano")
    parser.add_argument("--data", help="data source with classes; default: the model's own")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, help="training steps of each run; default: the recipe's")
    parser.add_argument("--images", type=int, default=1500, help="images per row")
    parser.add_argument("--schedules", nargs="+", default=["constant"], choices=["constant", "linear"])
    parser.add_argument("-o", dest="options", action="append", default=[], help="key=value, as in gftzoo train")
    parser.add_argument("-s", dest="sampler", action="append", default=[], help="key=value, setting of the sampler")
    parser.add_argument("--out", type=Path, help="folder of the results; default docs/results/MODEL")
    parser.add_argument("--work", type=Path, default=Path("runs/guidance-table"), help="folder of runs and records")
    parser.add_argument("--finetune", nargs="*", choices=FINE_TUNED, help="also fine-tune the conditional runs")
    parser.add_argument("--finetune-steps", type=int, help="their training steps; default: the recipe's")
    found = parser.parse_args()
    found.finetune = ["gft"] if found.finetune == [] else found.finetune
    found.out = found.out or Path("docs/results") / found.model
    return Job(**vars(found))


def trained(job: Job, objective: str, seed: int, base: Path | None = None) -> tuple[Model, Path]:
    """The model trained with that objective and seed, from its run's folder if it is finished, and the folder.

    With the run `base`, fine-tuned from its weights.
    """
    from gftzoo.engine import parse_options

    options = {**parse_options(job.options), "seed": seed, "sample_every": 10**9}
    steps, weights = (job.steps, None) if base is None else (job.finetune_steps, str(base))
    config = resolve(job.model, objective=objective, data=job.data, steps=steps, weights=weights, options=options)
    name = objective if base is None else f"{objective}-from-base"
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


def guidances(objective: str, schedules: Sequence[str]) -> list[Guidance]:
    """Every row of an objective, weakest guidance first."""
    if objective == "conditional":
        guided = [ClassifierFree(scale, schedule) for schedule in schedules for scale in SCALES]  # type: ignore[arg-type]
        return [Unguided(), *guided]
    if objective.startswith("cca"):  # its strength is fixed when it is trained
        return [Unguided()]
    strengths = [beta for beta in BETAS if beta < 1]
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


def open_evaluator(job: Job, model: Model) -> Evaluator:
    protocol = choose_protocol("embedded", model.card, data=job.data, images=job.images)
    return Evaluator(protocol, resolution=model.card.resolution)


def scored(job: Job, evaluator: Evaluator, model: Model, objective: str, seed: int) -> list[ScoreRecord]:
    """The records of a model, one a guidance."""
    records: list[ScoreRecord] = []
    settings = dict(pair.split("=", 1) for pair in job.sampler)
    for guidance in guidances(objective, job.schedules):
        folder = job.work / f"records-{job.model}-{objective}-seed{seed}"
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


Key = tuple[str, float | None, str]


def grouped(records: Sequence[ScoreRecord]) -> dict[Key, list[ScoreRecord]]:
    """Records of the same row, one per seed."""
    groups: dict[Key, list[ScoreRecord]] = {}
    for record in records:
        subject = record.subject
        groups.setdefault((subject.guidance, subject.strength, subject.schedule), []).append(record)
    return groups


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and, over two or more seeds, sample standard deviation."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


NAMES = {"unguided": "unguided", "cfg": "CFG", "beta": "GFT"}


def sampling_seconds(job: Job, plain: Model, gft: Model) -> dict[str, float]:
    """Seconds per image of each kind of guidance, of one batch, in turn, so that a busy machine slows all alike."""
    conditions, _ = conditions_for(plain.card, BATCH, f"data:{job.data or plain.card.data}")
    settings = dict(pair.split("=", 1) for pair in job.sampler)
    kinds: dict[str, tuple[Model, Guidance]] = {
        "unguided": (plain, Unguided()),
        "cfg": (plain, ClassifierFree(2.0, job.schedules[-1])),  # type: ignore[arg-type]
        "beta": (gft, Temperature(0.5, job.schedules[-1])),  # type: ignore[arg-type]
    }
    seeds = image_seeds(0, range(len(conditions)))

    def batch(model: Model, guidance: Guidance) -> Callable[[], object]:
        return lambda: model.sample_latents(conditions, guidance, seeds, **settings)

    found = medians({kind: batch(*work) for kind, work in kinds.items()}, rounds=5)
    return {kind: seconds / len(conditions) for kind, seconds in found.items()}


def table(records: Sequence[ScoreRecord], real: Scores, seconds: Mapping[str, float]) -> str:
    """The Markdown table; the best distance of CFG and of GFT is bold. `seconds` per image are those of a kind."""
    groups = grouped(records)
    lines = [
        f"| guidance | strength | {distance_title(records[0])} | accuracy % | IS-like | precision | recall "
        "| forwards per step | ms per image | time, unguided = 1 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    best = {
        kind: min((k for k in groups if k[0] == kind), key=lambda k: mean_fd(groups[k])) for kind in ("cfg", "beta")
    }
    for key, group in groups.items():
        kind, strength, schedule = key
        shown = "" if strength is None else f"{'w' if kind == 'cfg' else 'beta'} = {strength:g}"
        distance = spread([r.scores.frechet for r in group])
        lines.append(
            f"| {NAMES[kind]} | {shown}{'' if schedule == 'constant' else f' ({schedule})'} "
            f"| {f'**{distance}**' if key in best.values() else distance} "
            f"| {score_cells([r.scores for r in group])} "
            f"| {group[0].passes} | {1000 * seconds[kind]:.2f} | {seconds[kind] / seconds['unguided']:.2f} |"
        )
    other = "held-out split" if " train (" in records[0].measure.reference else "train split"
    lines.append(f"| real images | {other} | {real.frechet:.2f} | {score_cells([real])} | | | |")
    return "\n".join(lines)


def score_cells(group: Sequence[Scores]) -> str:
    """Accuracy, IS-like, precision and recall; a score that there is not leaves its cell empty."""
    cells = []
    for name, scale, digits in (("accuracy", 100, 1), ("inception_score", 1, 2), ("precision", 1, 2), ("recall", 1, 2)):
        found = [getattr(scores, name) for scores in group]
        cells.append("" if None in found else spread([scale * score for score in found], digits))
    return " | ".join(cells)


def distance_title(record: ScoreRecord) -> str:
    known = record.scores.accuracy is not None
    return "FID (features of a small classifier)" if known else record.measure.distance_name


def mean_fd(group: Sequence[ScoreRecord]) -> float:
    return statistics.fmean(record.scores.frechet for record in group)


def curve(records: Sequence[ScoreRecord], objective: str, seed: int, schedule: str) -> list[ScoreRecord]:
    """One seed's curve, from no guidance to the strongest."""
    return [
        r
        for r in records
        if (r.subject.objective, r.subject.seed) == (objective, seed)
        and (r.subject.schedule == schedule or r.subject.strength in (None, 1.0))
    ]


def points(records: Sequence[ScoreRecord], objective: str, seeds: Sequence[int], schedule: str) -> list[Point]:
    """The curve of the mean over `seeds`: (accuracy or precision, distance) of each strength."""
    axis = axis_of(records)
    curves = [curve(records, objective, seed, schedule) for seed in seeds]
    return [
        (statistics.fmean(value(r, axis) for r in row), statistics.fmean(r.scores.frechet for r in row))
        for row in zip(*curves, strict=True)
    ]


def at_equal_accuracy(records: Sequence[ScoreRecord], seeds: Sequence[int], schedule: str) -> str:
    """GFT's distance minus CFG's at equal accuracy (or precision), over the range that both mean curves cover."""
    axis = axis_of(records)
    who = f"Equal {axis}, {f'seed {seeds[0]}' if len(seeds) == 1 else f'mean of {len(seeds)} seeds'}, {schedule}"
    found = compare_at_equal_x(*(points(records, objective, seeds, schedule) for objective in ("gft", "conditional")))
    if found is None:
        return f"{who}: the two curves share no {axis}."
    return (
        f"{who} ({100 * found.at[0]:.1f} to {100 * found.at[-1]:.1f} %): GFT minus CFG is "
        f"{found.mean:+.2f} on average, at most {max(found.gaps):+.2f}; GFT is not above CFG at "
        f"{100 * found.share_not_above:.0f} % of the range."
    )


def claims(records: Sequence[ScoreRecord], seeds: Sequence[int], schedules: Sequence[str]) -> list[str]:
    """What the table shows, in sentences that say so too where it does not."""
    groups = grouped(records)
    unguided = mean_fd(groups["unguided", None, "constant"])
    best_cfg = min(mean_fd(group) for key, group in groups.items() if key[0] == "cfg")
    best_gft = min(mean_fd(group) for key, group in groups.items() if key[0] == "beta")
    lines = [
        f"Best GFT {best_gft:.2f} against best CFG {best_cfg:.2f}: GFT is "
        f"{'not above' if best_gft <= best_cfg else 'ABOVE'} CFG, with one forward per step for two.",
        f"Best GFT is {best_gft / unguided:.2f}x the unguided {unguided:.2f}.",
    ]
    for schedule in schedules:
        groups_of_seeds = [list(seeds), *([seed] for seed in seeds)] if len(seeds) > 1 else [list(seeds)]
        lines += [at_equal_accuracy(records, group, schedule) for group in groups_of_seeds]
    return lines


def plot(records: Sequence[ScoreRecord], real: Scores, job: Job) -> None:
    """Distance against accuracy (or precision), both curves, every seed."""
    from matplotlib.figure import Figure

    axis_name = axis_of(records)
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axis = figure.subplots()
    for objective, name, colour in (("conditional", "CFG", "tab:blue"), ("gft", "GFT", "tab:orange")):
        for schedule in job.schedules:
            for seed in job.seeds:
                shown = f"{name} {schedule}" if len(job.schedules) > 1 else name
                name_once = shown if seed == job.seeds[0] else f"_{shown} {seed}"
                draw_curve(axis, curve(records, objective, seed, schedule), axis_name, "frechet", name_once)
                axis.lines[-1].set(color=colour, linestyle="-" if schedule == "constant" else "--", markersize=4)
    axis.axhline(real.frechet, color="grey", linestyle=":", label="real images")
    axis.set(xlabel=axis_name, ylabel=records[0].measure.distance_name, title=f"{job.model}: guidance curves")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(job.out / "curves.png", dpi=130)


def write(job: Job, records: list[ScoreRecord], real: Scores, plain: Model, gft: Model) -> None:
    job.out.mkdir(parents=True, exist_ok=True)
    write_csv(records, job.out / "table.csv")
    measure, sampler = records[0].measure, records[0].subject.sampler
    entries = sorted({record.subject.entry or "raw" for record in records})
    notes = [
        f"{job.model}, {len(job.seeds)} seeds (mean ± standard deviation), {measure.images} images per row, "
        f"{measure.class_plan}; weights: {', '.join(entries)}; sampler: {sampler}.",
        f"Feature network: {measure.features}; reference: {measure.reference}. Times are of one batch of each kind of "
        "guidance on one CPU thread, measured in turn, median of five.",
        *claims(records, job.seeds, job.schedules),
    ]
    text = (
        table(records, real, sampling_seconds(job, plain, gft))
        + "\n\n"
        + "\n".join(f"- {note}" for note in notes)
        + "\n"
    )
    (job.out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    plot(records, real, job)
    shown, _ = conditions_for(plain.card, min(10, plain.card.classes or 10), f"data:{job.data or plain.card.data}")
    settings = dict(pair.split("=", 1) for pair in job.sampler)
    for model, name in ((plain, "strip-cfg.png"), (gft, "strip.png")):
        objective = "gft" if model.card.temperature else "conditional"
        save(strip(model, guidances(objective, job.schedules[:1]), shown, **settings), job.out / name)


def main() -> int:
    torch.set_num_threads(1)
    job = read_arguments()
    try:
        collected = collect(job)
        write(job, *collected)
        if job.finetune:
            write_csv(collect_fine_tuned(job), job.out / "finetuned.csv")
    except GftzooError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
