"""What `gftzoo train --dry-run --gpu NAME` shows."""

from __future__ import annotations

from pathlib import Path

from gftzoo.cli.cost import duration, facts, show_lines, traced
from gftzoo.cli.dry import Machine
from gftzoo.engine import Job
from gftzoo.engine.run.elsewhere import Outlook, outlook
from gftzoo.engine.run.estimate import GIB
from gftzoo.engine.run.utilisation import ASSUMED, Utilisation, measured


def show_outlook(job: Job, machine: Machine) -> None:
    """Prints whether a run fits GPUs that are not here, how long it would take them, and what they would cost."""
    plan = outlook(job, machine.gpu, machine.count, expected(job, machine), machine.price, traced)
    show_lines(facts(plan.fit) | memory(plan) | time(plan))


def expected(job: Job, machine: Machine) -> Utilisation:
    """The share of the peak that is given, measured by rows that are named, or assumed."""
    said = machine.utilisation
    if isinstance(said, Path):
        return measured(said, job.config, machine.gpu)
    return ASSUMED if said is None else Utilisation(said, "given")


def memory(plan: Outlook) -> dict[str, str]:
    """What of each GPU's memory a step takes."""
    needed, name = plan.fit.cost.step_bytes / GIB, plan.gpu.name
    gpus = name if plan.count == 1 else f"each of {plan.count} {name}"
    verdict = "fits" if plan.fits else "does not fit; shard it (--gpus N -o parallel=fsdp) or take a larger GPU"
    return {"memory in all": f"{needed:.2f} GiB of {plan.gpu.gib:g} on {gpus}: {verdict}"}


def time(plan: Outlook) -> dict[str, str]:
    """How long it takes, and from what that is known."""
    config = plan.fit.job.config
    lines = {"steps": f"{config.steps:,}", "images": f"{config.steps * config.batch_size:,}"}
    rate, hours = plan.images_per_second, plan.hours
    if rate is None or hours is None:
        why = "does not fit" if not plan.fits else "not known" if plan.gpu.teraflops else "not known; --gpu GiB,TFLOPS"
        return lines | {"time in all": why}
    share = plan.utilisation
    reached = f"{share.share:.0%} of {plan.gpu.teraflops:g} TFLOPS{' each' if plan.count > 1 else ''}, {share.known}"
    lines |= {
        "images per second": f"{rate:,.4g} ({reached})",
        "time in all": f"{hours:,.4g} hours ({duration(hours * 3600)}), and encoding, samples, checkpoints",
        "GPU-hours": f"{plan.gpu_hours:,.4g}",
    }
    if plan.cost is not None:
        lines["cost"] = f"{plan.cost:,.2f} at {plan.price:g} for a GPU and hour"
    return lines
