"""What training any model of the zoo takes on four kinds of GPU: docs/results/plan.csv, and the tables made of it.

    python tools/plan_table.py --trace        # trace the models that have no row yet, or --models PATTERN anew
    python tools/plan_table.py --write        # make the tables of docs/plan.md and docs/families/text2image.md

Tracing takes seconds a model and no memory; the table follows from the rows and the catalogue alone.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from gftzoo.adapters import freeze
from gftzoo.adapters.quantising import BYTES, quantised_layers
from gftzoo.catalogue.cards import ModelCard
from gftzoo.engine import Job, Wanted, plan
from gftzoo.engine.parallel.gpus import GPUS
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run.elsewhere import Outlook, outlook
from gftzoo.engine.run.estimate import GIB, Cost, training_cost
from gftzoo.engine.run.utilisation import ASSUMED, Utilisation, measured
from gftzoo.errors import GftzooError
from gftzoo.layers.initialisation import Empty
from gftzoo.model import Model
from gftzoo.zoo import list_models

ROOT = Path(__file__).parent.parent
ROWS, PAGE = ROOT / "docs" / "results" / "plan.csv", ROOT / "docs" / "plan.md"
PIPELINES = ROOT / "docs" / "families" / "text2image.md"
MEASURED = ROOT / "docs" / "results" / "gpu" / "training.csv"  # of tools/gpu_report.py
CARDS = ("h100", "a100-40", "l40s", "4090")
ADAPTED_ON = ("h100", "4090")  # 80 and 24 GB
BEGIN, END = "<!-- table -->", "<!-- end of the table -->"
PLACE = Place(torch.device("cuda"), torch.bfloat16)


@dataclass(frozen=True)
class Row:
    """What was traced of a model with its GFT recipe: bytes and FLOPs of one image; empty where that cannot be."""

    model: str
    parameters: int
    trained: int
    state_bytes: float
    kept_bytes: float | None
    recomputed_bytes: float | None
    flops_per_image: float | None
    halvable: int = 0
    quantisable: int = 0

    def cost(self, job: Job, place: Place, world: int) -> Cost:
        """The cost of a step of the job, as a trace would find it."""
        config = job.config
        state = self.state_bytes
        if config.halves_base:
            few = self.quantisable if config.quantises_base else 0
            state -= 2.0 * (self.halvable - few) + (4.0 - BYTES["4bit"]) * few
        elif not config.activation_checkpointing:  # autocast's copies of the frozen base
            state += 2.0 * self.halvable
        each = self.recomputed_bytes if config.activation_checkpointing else self.kept_bytes
        activations = None if each is None else each * max(config.batch_size // (config.accumulate * world), 1)
        return Cost(self.parameters, state, activations, self.flops_per_image, self.trained, self.halvable)


def job_of(model: str) -> Job:
    """The GFT recipe of a model, on data of its own size."""
    return plan(Wanted(model, "gft", unseen=True))


def trace(model: str) -> Row:
    """Traces a model's step as its recipe has it, and with its activations recomputed."""
    job = job_of(model).changed(accumulate=1, batch_size=1)
    kept, again = (
        training_cost(job.changed(activation_checkpointing=recomputed), PLACE) for recomputed in (False, True)
    )
    return Row(
        model, kept.parameters, kept.trained, again.state_bytes,
        kept.activation_bytes, again.activation_bytes, kept.flops_per_image, kept.halvable, quantisable(job),
    )  # fmt: skip


def quantisable(job: Job) -> int:
    """Numbers of a LoRA's frozen base that 4 bits take."""
    config = job.config
    if config.train != "lora":
        return 0
    with Empty():
        model = Model(config.card, job.family.build_network(config.card), None, job.family)
    freeze(model, config.train, config.lora)
    layers = quantised_layers(job.family.blocks(model.network), "4bit")
    return sum(layer.weight.numel() for _, _, layer in layers)


def read_rows() -> dict[str, Row]:
    """The rows of the CSV by model."""
    if not ROWS.is_file():
        return {}
    kinds = {field.name: int if field.type == "int" else float for field in fields(Row)} | {"model": str}
    with ROWS.open(encoding="utf-8") as file:
        lines = [
            {key: kinds[key](value) if value else None for key, value in line.items()} for line in csv.DictReader(file)
        ]
    return {line["model"]: Row(**line) for line in lines}


def write_rows(rows: dict[str, Row]) -> None:
    """The CSV, in the order of the zoo."""
    ROWS.parent.mkdir(parents=True, exist_ok=True)
    with ROWS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(rows[card.name]) for card in list_models() if card.name in rows)


def cell(found: Outlook) -> str:
    """What one GPU makes of a run: samples at once, and GPU-hours."""
    if not found.fits:
        return f"needs {found.fit.cost.step_bytes / GIB:,.0f} GiB"
    recomputed = " r" if found.fit.job.config.activation_checkpointing else ""
    hours = "?" if found.gpu_hours is None else f"{float(f'{found.gpu_hours:.2g}'):,g} h"
    return f"{found.fit.micro_batch}{recomputed}, {hours}"


def reached(job: Job, card: str) -> Utilisation:
    """The share of the peak that was measured on a card, once there are rows of one, and is assumed else."""
    return measured(MEASURED, job.config, GPUS[card]) if MEASURED.is_file() else ASSUMED


def line(row: Row) -> list[str]:
    """A row of the table."""
    job = job_of(row.model)
    config = job.config
    flops = "?" if row.flops_per_image is None else f"{row.flops_per_image / 1e9:,.4g}"
    cells = [cell(outlook(job, GPUS[card], utilisation=reached(job, card), trace=row.cost)) for card in CARDS]
    return [
        f"`{row.model}`", f"{row.parameters / 1e6:,.4g}", f"{config.steps:,} x {config.batch_size:,}", flops, *cells
    ]  # fmt: skip


def table(rows: dict[str, Row], cards: list[ModelCard]) -> str:
    """The table of the documentation for some models."""
    head = ["model", "parameters, M", "steps x batch", "GFLOPs an image", *CARDS]
    lines = [line(rows[card.name]) for card in cards if card.name in rows]
    return lines_of([head, ["---"] * len(head), *lines])


def adapter_line(row: Row) -> list[str]:
    """A row of the table of adapters: what a LoRA of a pipeline holds, and how many pictures fit beside it."""
    job = job_of(row.model)
    half, few = (job.changed(lora=job.config.lora.model_copy(update={"base": base})) for base in ("half", "4bit"))
    held = row.cost(half, PLACE, 1)
    each = "?" if row.recomputed_bytes is None else f"{row.recomputed_bytes / GIB:.2g}"
    cells = []
    for base, card in ((half, ADAPTED_ON[0]), (half, ADAPTED_ON[1]), (few, ADAPTED_ON[1])):
        found = outlook(base, GPUS[card], trace=row.cost)
        unknown = found.fits and row.recomputed_bytes is None
        cells.append("fits" if unknown else cell(found).split(",", 1)[0])
    return [
        f"`{row.model}`", f"{row.parameters / 1e6:,.0f}", f"{row.trained / 1e6:,.1f}",
        f"{row.state_bytes / GIB:,.1f}", f"{held.state_bytes / GIB:,.1f}", each, *cells,
    ]  # fmt: skip


def adapter_table(rows: dict[str, Row]) -> str:
    """The memory of the GFT recipe, a LoRA in bf16 on a base in bf16 or 4 bits, of every pipeline in the catalogue."""
    head = ["model", "parameters, M", "trained, M", "weights and optimizer, base in fp32, GiB"]
    head += ["the same, base in bf16, GiB", "a picture more, GiB"]
    head += [f"pictures at once on {GPUS[card].gib:.0f} GB" for card in ADAPTED_ON]
    head += [f"on {GPUS[ADAPTED_ON[1]].gib:.0f} GB, base in 4 bits"]
    cards = [card for card in list_models(family="text2image") if card.name in rows]
    return lines_of([head, ["---"] * len(head), *(adapter_line(rows[card.name]) for card in cards)])


def lines_of(cells: list[list[str]]) -> str:
    """The lines of a table."""
    return "\n".join("| " + " | ".join(words) + " |" for words in cells)


def adapter_page(text: str, rows: dict[str, Row]) -> str:
    """The pipelines' page with its table made anew."""
    before, after = text.split(BEGIN, maxsplit=1)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n{adapter_table(rows)}\n{END}{after}"


def page(text: str, rows: dict[str, Row]) -> str:
    """The page with its table made anew."""
    before, after = text.split(BEGIN, maxsplit=1)[0], text.split(END)[1]
    where = "where nothing was measured" if MEASURED.is_file() else "assumed"
    said = f"One GPU each, {ASSUMED.share:.0%} of the dense bf16 peak {where}, latents from a cache."
    untraced = ", ".join(f"`{card.name}`" for card in list_models() if card.name not in rows)
    rest = f"\nNot traced yet, `gftzoo train MODEL --gft --dry-run --gpu h100` tells: {untraced}.\n" if untraced else ""
    return f"{before}{BEGIN}\n{said}\n\n{table(rows, list_models())}\n{rest}{END}{after}"


def trace_missing(pattern: str | None) -> None:
    """Adds a row for each model that has none, or for those that are named; rows are kept as they come."""
    rows = read_rows()
    for card in list_models(pattern or "*"):
        if pattern is None and card.name in rows:
            continue
        try:
            rows[card.name] = trace(card.name)
        except GftzooError as error:
            print(f"{card.name}: {error}", file=sys.stderr)
            continue
        write_rows(rows)
        print(rows[card.name], flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", action="store_true", help="trace models without a row")
    parser.add_argument("--models", help="with --trace: a shell pattern of models to trace anew")
    parser.add_argument("--write", action="store_true", help="write the tables into the documentation")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.trace:
        trace_missing(arguments.models)
    if arguments.write:
        for path, made in ((PAGE, page), (PIPELINES, adapter_page)):
            path.write_text(made(path.read_text(encoding="utf-8"), read_rows()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
