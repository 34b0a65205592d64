"""What a run would take on GPUs that are not here: memory by the estimate, time by FLOPs and a share of the peak."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gftzoo.engine.parallel.gpus import Gpu
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run.estimate import GIB, training_cost
from gftzoo.engine.run.fitting import SHARE, Fit, Tracer, fitted
from gftzoo.engine.run.job import Job
from gftzoo.engine.run.utilisation import ASSUMED, Utilisation
from gftzoo.errors import UsageError

TAKEN = 0.7  # GiB that a driver and its libraries hold before anything is computed


@dataclass(frozen=True)
class Outlook:
    """A run on `count` GPUs of a kind."""

    fit: Fit
    gpu: Gpu
    count: int
    utilisation: Utilisation
    price: float | None = None  # of a GPU for an hour

    @property
    def fits(self) -> bool:
        """Whether a step finds room on each GPU."""
        return self.fit.cost.step_bytes <= SHARE * self.fit.room

    @property
    def images_per_second(self) -> float | None:
        """Of all GPUs together; None where FLOPs or peak are not known."""
        flops = self.fit.cost.flops_per_image
        if not flops or self.gpu.teraflops is None or not self.fits:
            return None
        if self.fit.job.config.activation_checkpointing:  # every forward with a gradient once more
            forwards = self.fit.job.objective.forwards
            flops *= 1 + forwards.with_gradient / forwards.units
        return self.count * self.gpu.teraflops * 1e12 * self.utilisation.share / flops

    @property
    def hours(self) -> float | None:
        """Of training, without samples and checkpoints."""
        rate, config = self.images_per_second, self.fit.job.config
        return None if rate is None else config.steps * config.batch_size / rate / 3600

    @property
    def gpu_hours(self) -> float | None:
        """Of all GPUs together."""
        return None if self.hours is None else self.hours * self.count

    @property
    def cost(self) -> float | None:
        """In the currency of the price."""
        return None if self.price is None or self.gpu_hours is None else self.price * self.gpu_hours


def outlook(
    job: Job,
    gpu: Gpu,
    count: int = 1,
    utilisation: Utilisation = ASSUMED,
    price: float | None = None,
    trace: Tracer = training_cost,
) -> Outlook:
    """The run on so many GPUs of a kind; nothing of them is asked, no weights are built.

    UsageError where the batch does not divide among them.
    """
    config = job.config
    if config.batch_size % count:
        raise UsageError(f"batch_size {config.batch_size} does not divide by {count} GPUs; use a multiple of {count}.")
    half = {"auto": torch.bfloat16, "bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision)
    place, room = Place(torch.device("cuda"), half), max(gpu.gib - TAKEN, 0.0) * GIB
    return Outlook(fitted(job, place, count, room, trace), gpu, count, utilisation, price)
