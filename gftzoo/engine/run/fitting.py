"""A run made to fit its device: into how many micro-batches a batch is cut, and whether activations are recomputed.

Neither changes what a run computes, but for rounding and for the masks of a network's own dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run import estimate
from gftzoo.engine.run.estimate import GIB, Cost
from gftzoo.engine.run.job import Job
from gftzoo.group import all_gather_object

SHARE = 0.9  # of the free memory that a step is planned to take; estimates are right to about a tenth
Tracer = Callable[[Job, Place, int], Cost]
ENOUGH = 8  # samples of a micro-batch below which activations are recomputed first: small ones leave a device idle


@dataclass(frozen=True)
class Fit:
    """How a run takes its batch, and what that costs."""

    job: Job
    cost: Cost
    room: float  # bytes free on the device, the least over ranks
    world: int = 1

    @property
    def micro_batch(self) -> int:
        """Samples that go through the network at once on a device."""
        return micro_batch(self.job.config, self.world)

    def sentence(self, device: object) -> str:
        """What was chosen, for people."""
        config = self.job.config
        cut = f"in {config.accumulate} micro-batches of {self.micro_batch}" if config.accumulate > 1 else "at once"
        ranks = f" on each of {self.world} devices" if self.world > 1 else ""
        recomputed = ", activations recomputed" if config.activation_checkpointing else ""
        return (
            f"A batch of {config.batch_size} is taken {cut}{ranks}{recomputed}: "
            f"about {self.cost.step_bytes / GIB:.2f} of {self.room / GIB:.1f} GiB free on {device}."
        )


def micro_batch(config: TrainConfig, world: int) -> int:
    """Samples that go through the network at once on each of `world` devices."""
    return max(config.batch_size // (config.accumulate * world), 1)


def fitted(
    job: Job, place: Place, world: int = 1, room: float | None = None, trace: Tracer = estimate.training_cost
) -> Fit:
    """The run with the largest micro-batch that fits, and activations recomputed where it would get small.

    What the user fixed stays (`fits` of the configuration). Where nothing fits the least is returned, which
    `Cost.refuse_if_too_large` then refuses.

    Args:
        job: as it is wanted.
        place: of each device.
        world: devices that share the batch; every rank calls with the same.
        room: bytes free on each; None asks this process's device, and takes the least of all ranks.
        trace: finds the cost of a step.
    """
    if room is None:
        room = min(all_gather_object(estimate.available_bytes(place.device)))
    costs: dict[bool, Cost] = {}
    least: Fit | None = None
    for accumulate, recompute in _choices(job.config, world):
        if recompute not in costs:
            costs[recompute] = trace(job.changed(activation_checkpointing=recompute), place, world)
        chosen = job.changed(accumulate=accumulate, activation_checkpointing=recompute)
        fit = Fit(chosen, _scaled(costs[recompute], job.config, chosen.config, world), room, world)
        if fit.cost.step_bytes <= SHARE * room or fit.cost.activation_bytes is None:
            return fit
        least = fit if least is None or fit.cost.step_bytes < least.cost.step_bytes else least
    assert least is not None
    return least


def _choices(config: TrainConfig, world: int) -> Iterator[tuple[int, bool]]:
    """`accumulate` and `activation_checkpointing`, the fastest first."""
    share = max(config.batch_size // world, 1)
    cuts = [n for n in range(config.accumulate, share + 1) if share % n == 0] if "accumulate" in config.fits else []
    cuts = cuts or [config.accumulate]
    if config.activation_checkpointing or "activation_checkpointing" not in config.fits:
        yield from ((n, config.activation_checkpointing) for n in cuts)
        return
    large = [n for n in cuts if n == config.accumulate or share // n >= ENOUGH]
    yield from ((n, False) for n in large)
    yield from ((n, True) for n in cuts)


def _scaled(cost: Cost, of: TrainConfig, chosen: TrainConfig, world: int) -> Cost:
    """The cost of one way to cut the batch as that of another."""
    if cost.activation_bytes is None:
        return cost
    scale = micro_batch(chosen, world) / micro_batch(of, world)
    return replace(cost, activation_bytes=cost.activation_bytes * scale)
