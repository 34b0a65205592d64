"""The table that compares guidance-free training with classifier-free guidance, for any model on embedded data.

    python tools/guidance_table.py dit-nano

For every seed it trains the model twice on the same data for the same steps, once with the plain conditional objective
and once with GFT; samples both at several strengths; and scores the images against held-out real ones with a classifier
trained on the train split. It writes DIR/table.csv, table.md, curves.png and strip.png. What is done already
(a finished run, a scored row) is not done again. Everything runs on one thread.

With --finetune it also fine-tunes every conditional run for the objectives named (gft if none is) and writes the
scores of those to finetuned.csv; with --half-steps it scores CFG once more at as many forwards as GFT, in
equal-forwards.csv. tools/results_page.py shows them beside the others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from benchmark import medians
from guidance_claims import claims, table
from guidance_runs import (
    BATCH,
    BETAS,
    FINE_TUNED,
    SCALES,
    Job,
    collect,
    collect_equal_forwards,
    collect_fine_tuned,
    guidances,
)
from results_curves import draw
from results_summary import title

from gftzoo.contract.guidance import ClassifierFree, Guidance, Temperature, Unguided
from gftzoo.errors import GftzooError
from gftzoo.evaluate.drawing import conditions_for
from gftzoo.evaluate.records import ScoreRecord
from gftzoo.evaluate.scoring import Scores
from gftzoo.evaluate.sweep import strip, write_csv
from gftzoo.model import Model
from gftzoo.pictures import save
from gftzoo.sampling import image_seeds


def read_arguments() -> Job:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model of the catalogue, e.g. dit-nano")
    parser.add_argument("--data", help="data source with classes; default: the model's own")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, help="training steps of each run; default: the recipe's")
    parser.add_argument("--recipe", help="of GFT from scratch; default: the model's gft")
    parser.add_argument("--images", type=int, default=1500, help="images per row")
    parser.add_argument("--schedules", nargs="+", default=["constant"], choices=["constant", "linear"])
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES, help="of CFG, beside no guidance")
    parser.add_argument("--betas", type=float, nargs="+", default=BETAS, help="of GFT, 1 among them")
    parser.add_argument("-o", dest="options", action="append", default=[], help="key=value, as in gftzoo train")
    parser.add_argument("-s", dest="sampler", action="append", default=[], help="key=value, setting of the sampler")
    parser.add_argument("--out", type=Path, help="folder of the results; default docs/results/MODEL")
    parser.add_argument("--work", type=Path, default=Path("runs/guidance-table"), help="folder of runs and records")
    parser.add_argument("--finetune", nargs="*", choices=FINE_TUNED, help="also fine-tune the conditional runs")
    parser.add_argument("--finetune-steps", type=int, help="their training steps; default: the recipe's")
    parser.add_argument("--half-steps", help="key=value of half the sampler's steps: CFG also at GFT's forwards")
    found = parser.parse_args()
    found.finetune = ["gft"] if found.finetune == [] else found.finetune
    found.out = found.out or Path("docs/results") / found.model
    return Job(**vars(found))


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


SAMPLES = """GFT, a row for each beta, and CFG, a row for each scale; the same seeds in every row.

![samples of GFT](strip.png)
![samples of CFG](strip-cfg.png)"""
CURVES = "![guidance curves](curves.png)"


def write(job: Job, records: list[ScoreRecord], real: Scores, plain: Model, gft: Model) -> None:
    job.out.mkdir(parents=True, exist_ok=True)
    write_csv(records, job.out / "table.csv")
    measure, sampler = records[0].measure, records[0].subject.sampler
    seeds = f"{len(job.seeds)} seeds (mean ± standard deviation)" if len(job.seeds) > 1 else "one seed"
    entries = sorted({record.subject.entry or "raw" for record in records})
    notes = [
        f"{job.model}, {seeds}, {measure.images} images per row, "
        f"{measure.class_plan}; weights: {', '.join(entries)}; sampler: {sampler}.",
        f"Feature network: {measure.features}; reference: {measure.reference}. Times are of one batch of each kind of "
        "guidance on one CPU thread, measured in turn, median of five.",
        *claims(records, job.seeds, job.schedules),
    ]
    rows = table(records, real, sampling_seconds(job, plain, gft))
    text = (
        "\n\n".join([f"# {title(job.out.name)}", SAMPLES, rows, "\n".join(f"- {note}" for note in notes), CURVES])
        + "\n"
    )
    (job.out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    shown, _ = conditions_for(plain.card, min(10, plain.card.classes or 10), f"data:{job.data or plain.card.data}")
    settings = dict(pair.split("=", 1) for pair in job.sampler)
    for model, name in ((plain, "strip-cfg.png"), (gft, "strip.png")):
        objective = "gft" if model.card.temperature else "conditional"
        rows = guidances(objective, job.schedules[:1], job.scales, job.betas)
        save(strip(model, rows, shown, **settings), job.out / name)


def main() -> int:
    torch.set_num_threads(1)
    job = read_arguments()
    try:
        collected = collect(job)
        write(job, *collected)
        if job.finetune:
            write_csv(collect_fine_tuned(job), job.out / "finetuned.csv")
        if job.half_steps is not None:
            write_csv(collect_equal_forwards(job), job.out / "equal-forwards.csv")
        draw(job.out)
    except GftzooError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
