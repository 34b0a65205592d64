"""The training loop, plugged into mmengine's Runner through its public extension points."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from gftzoo.engine.config import TrainConfig
from gftzoo.engine.framework import BaseLoop
from gftzoo.engine.parallel.workers import loading
from gftzoo.engine.step.memory import cut, finer, forget, is_out_of_memory, too_large
from gftzoo.generator import seed_for
from gftzoo.group import all_gather_object

REPORTED = 10  # unreadable pictures that are told of, one by one


def reseed(*key: object) -> None:
    """Sets the global generators (network dropout draws from torch's) to a pure function of `key`.

    Those of torch one by one: `torch.manual_seed` leaves word for every kind of device that is not there, with a
    stack trace.
    """
    seed = seed_for(*key)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


class StepLoop(BaseLoop):
    """One iteration is one optimizer step of `accumulate` micro-batches.

    The position in the data and all randomness are functions of the step, so that a resumed run is the unbroken one.
    """

    def __init__(self, runner: Any, dataloader: DataLoader[Any], config: TrainConfig) -> None:
        super().__init__(runner, dataloader)
        self.config = config
        self.accumulate = config.accumulate
        self.parts = 1  # into which a loaded micro-batch is cut, once there was no memory for a whole one
        self.batch_size = config.batch_size
        self.stop_training = False
        self.gave_up = False
        self.unreadable: dict[str, None] = {}  # in the order in which they were met
        self._steps = config.steps
        self._iter = self._epoch = 0  # mmengine's Runner reads and writes these

    @property
    def iter(self) -> int:
        return self._iter

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def max_iters(self) -> int:
        return self._steps

    @property
    def max_epochs(self) -> int:
        return 1

    @property
    def complete(self) -> bool:
        """Whether the run is at its end, and not only stopped."""
        return self.gave_up or self._iter >= self._steps

    def give_up(self) -> None:
        """Ends the run behind this step, before it has all its steps."""
        self.stop_training = self.gave_up = True

    def start_at(self, step: int) -> None:
        """Goes on after `step` completed steps."""
        self._iter = step

    def run(self) -> nn.Module:
        runner = self.runner
        runner.call_hook("before_train")
        runner.call_hook("before_train_epoch")
        self.dataloader.sampler.seek(self._iter * self.batch_size)
        reseed("loader", runner.seed)
        runner.optim_wrapper.count_from(runner.model, self._iter, self._steps, self.accumulate)
        with loading(self.dataloader) as batches:
            while self._iter < self._steps and not self.stop_training:
                self.step(batches)
            self.count_unreadable()
            runner.call_hook("after_train_epoch")
            runner.call_hook("after_train")  # what is to be saved is saved before a process is waited for
        return runner.model

    def step(self, batches: Iterator[Any]) -> None:
        """One optimizer step."""
        runner = self.runner
        runner.model.train()
        micro_batches = [next(batches) for _ in range(self.accumulate)]
        self.tell_unreadable(problem for batch in micro_batches for problem in batch.pop("problems", ()))
        runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=micro_batches)
        losses = self.losses(micro_batches)
        outputs = {"loss": torch.stack(losses).mean()}
        runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=micro_batches, outputs=outputs)
        self._iter += 1

    def losses(self, micro_batches: Sequence[Any]) -> list[torch.Tensor]:
        """Those of a step, taken again in smaller parts where a device has no memory for it; GftzooError in the end."""
        while True:
            parts = [part for batch in micro_batches for part in cut(batch, self.parts)]
            try:
                return [self.micro_step(part, number) for number, part in enumerate(parts)]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                more = finer(len(micro_batches[0]["position"]), self.parts)
                if more is None or "accumulate" not in self.config.fits or self.runner.world_size > 1:
                    raise too_large(len(parts[0]["position"]), self.config.device) from error
            self.cut_finer(more)  # here, where the error and what it holds are gone

    def cut_finer(self, parts: int) -> None:
        """From now on every loaded micro-batch is taken in so many parts: the batch and its samples stay the same."""
        runner, self.parts = self.runner, parts
        wrapper = runner.optim_wrapper
        forget(wrapper.optimizer, next(runner.model.parameters()))
        wrapper.count_from(runner.model, self._iter, self._steps, self.accumulate * parts)
        chosen = self.config.model_copy(update={"accumulate": self.accumulate * parts})
        chosen.write(runner.run_folder)  # for a resume
        runner.logger.warning(
            f"no memory for a micro-batch at step {self._iter + 1}: it is repeated, and the run goes on, with "
            f"accumulate={chosen.accumulate}; the batch stays {self.batch_size}."
        )

    def tell_unreadable(self, problems: Iterable[str]) -> None:
        """Names the first pictures that could not be read; every loading process meets them anew."""
        for problem in problems:
            if problem not in self.unreadable and len(self.unreadable) < REPORTED:
                self.runner.logger.warning(f"skipped: {problem}")
            self.unreadable[problem] = None

    def count_unreadable(self) -> None:
        """Says how many pictures all ranks together could not read; every rank calls it."""
        count = len({problem for rank in all_gather_object(list(self.unreadable)) for problem in rank})
        if count:
            self.runner.logger.warning(f"{count:,} pictures could not be read and were passed over.")

    def micro_step(self, batch: Any, number: int) -> torch.Tensor:
        """Forward and backward of one micro-batch; the optimizer steps after the last of a step.

        A micro-batch has its place in the step, over micro-batches and ranks, and with it the same samples and the same
        dropout, whichever rank takes it.
        """
        model, runner = self.runner.model, self.runner
        reseed("step", runner.seed, self._iter, number * runner.world_size + runner.rank)
        loss: torch.Tensor = getattr(model, "module", model).train_step(batch, self.runner.optim_wrapper, model)
        return loss
