"""What `gftzoo train --dry-run` shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from gftzoo.cli.known import known
from gftzoo.cli.ranks import say
from gftzoo.cli.shipped import shipped_cost, step_question
from gftzoo.engine import Job
from gftzoo.engine.parallel.place import Place, choose_place
from gftzoo.engine.run import estimate
from gftzoo.engine.run.adapting import in_way
from gftzoo.engine.run.estimate import Cost
from gftzoo.engine.run.fitting import Fit, fitted
from gftzoo.engine.run.packages import missing_package


def show_cost(job: Job, measure: bool = False) -> None:
    """Prints what the run would cost on its device; no weights are built.

    With `measure` the time, too, from a few steps that are taken, and what other ways to train would cost.
    """
    place = choose_place(job.config.device, job.config.precision)
    fit = fitted(job, place, trace=traced)
    job, device, cost, config = fit.job, place.device, fit.cost, fit.job.config
    needed = cost.total_bytes(device) / estimate.GIB
    others = other_ways(job, place) if measure else {}
    seconds, reason = step_time(job, place, cost, measure)
    show_lines(
        facts(fit)
        | {
            "memory in all": f"{needed:.2f} GiB of {fit.room / estimate.GIB:.1f} free",
            "steps": f"{config.steps:,}",
            "images": f"{config.steps * config.batch_size:,}",
            "time per step": f"{seconds:.3g} s on {device}" if seconds else reason,
            "time in all": f"{duration(seconds * config.steps)} and samples, checkpoints" if seconds else reason,
        }
    )
    missing = missing_package(config)
    if missing is not None:
        say(f"This run would not start here: {missing}")
    for name, (other, cost, memory) in others.items():
        taken, reason = step_time(other, place, cost, measure, share=0.2)
        say(f"{name:>40}  {memory}, {f'{taken:.3g} s per step' if taken else f'time {reason}'}")


def show_lines(lines: Mapping[str, str]) -> None:
    """A table of two columns, the names to the right."""
    for name, value in lines.items():
        say(f"{name:>40}  {value}")


def facts(fit: Fit) -> dict[str, str]:
    """What is known of a run wherever it runs, and how it takes its batch."""
    cost, unknown = fit.cost, "not traceable"
    activations = unknown if cost.activation_bytes is None else f"{cost.activation_bytes / estimate.GIB:.3f} GiB"
    flops = unknown if cost.flops_per_image is None else f"{cost.flops_per_image / 1e9:.2f} GFLOPs"
    recomputed = ", activations recomputed" if fit.job.config.activation_checkpointing else ""
    return {
        "parameters": f"{cost.parameters:,}",
        "of which train": f"{cost.trained:,}",
        "weights, gradients, optimizer, average": f"{cost.state_bytes / estimate.GIB:.3f} GiB",
        "micro-batch": f"{fit.micro_batch} of {fit.job.config.batch_size}{recomputed}",
        "activations per micro-batch": activations,
        "training FLOPs per image": flops,
    }


def traced(job: Job, place: Place, world: int = 1) -> Cost:
    """The cost of a step, which comes with the package, or is known of such a step before, or is traced now."""
    config = job.config
    question = step_question(config, place.device.type, str(place.half), world)
    found = shipped_cost(question, config.card)
    if found is None:
        name = f"cost {config.model} {config.activation_checkpointing}"
        found = known(name, question, lambda: asdict(estimate.training_cost(job, place, world)))
    return Cost(**found)


def step_time(job: Job, place: Place, cost: Cost, measure: bool, share: float = 1.0) -> tuple[float | None, str]:
    """The seconds of a step, if they are to be measured and can be, and otherwise why they are not told."""
    if not cost.fits(place.device):
        return None, "does not fit"
    if not measure:
        return None, "not measured, add --measure"
    from gftzoo.engine.run.trial import seconds_per_step  # with mmengine, slow to import

    return seconds_per_step(job, place, share), "not measured, the tokenizer is not here (-o tokenizer_path=...)"


def other_ways(job: Job, place: Place) -> dict[str, tuple[Job, Cost, str]]:
    """The same batch where all trains, or factors of LoRA's, or the slope of the temperature alone, and its cost."""
    found = {}
    for way in ("all", "lora", "temperature"):
        other = in_way(job, way)
        if way != job.config.train and other is not None:
            cost = estimate.training_cost(other, place)
            memory = f"{cost.total_bytes(place.device) / estimate.GIB:.2f} GiB"
            found[f"with train={way}"] = other, cost, f"{cost.trained:,} train, {memory}"
    return found


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
