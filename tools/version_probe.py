"""One measurement of the gftzoo that is installed beside the interpreter, whichever version that is, as JSON.

    OTHER/bin/python tools/version_probe.py steps dit-nano:batch_size=4

`tools/benchmark.py --before` runs it by two interpreters in turn. All seconds are of the processor.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch
from torchvision.datasets import ImageFolder

import gftzoo
from gftzoo.cli import main
from gftzoo.data import open_source

LOOPS = ("gftzoo.engine.step.loop", "gftzoo.engine.loop")  # where a run's steps are, now and in the first version
WARM_UP, STEPS = 8, 8  # an epoch of few pictures, which are encoded once, comes first
DRAWINGS = 3


class Enough(BaseException):
    """Ends a run once its steps are measured."""


def seconds_of(job: Callable[[], object]) -> float:
    begin = time.process_time()
    job()
    return time.process_time() - begin


def steps(*runs: str) -> dict[str, float]:
    """Median seconds of a step of runs, with all that is part of it; `MODEL:KEY=VALUE:...` each, plain and GFT.

    `OBJECTIVE/MODEL:...` is of one of the two.
    """
    loop = next(import_module(name) for name in LOOPS if found(name)).StepLoop
    taken: list[float] = []
    step = loop.step

    def measured(*arguments: Any) -> None:
        taken.append(seconds_of(lambda: step(*arguments)))
        if len(taken) == WARM_UP + STEPS:
            raise Enough

    loop.step = measured
    seconds = {}
    for run, objective in product(runs, ("conditional", "gft")):
        name, *options = run.split(":")
        asked, _, model = name.rpartition("/")
        if asked not in {"", objective}:
            continue
        taken.clear()
        try:
            words = [word for option in options for word in ("-o", option)]
            main(["train", model, "--objective", objective, "--steps", "1000", *words])
        except (Enough, SystemExit):  # whichever it is to the command line
            seconds[f"{model} {objective}"] = statistics.median(taken[WARM_UP:])
    return seconds


def found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False


def sampling(*drawings: str) -> dict[str, float]:
    """Median seconds of a batch of images, one pass a step and two, by the version's own benchmark; `MODEL:BATCH`."""
    time.perf_counter = time.process_time  # the clock that it reads
    benchmark, seconds = own_benchmark(), {}
    for drawing in drawings:
        model, _, batch = drawing.partition(":")
        measured = benchmark.sampling(model, int(batch), DRAWINGS, "cpu")
        seconds |= {f"{model} {steered}": value for steered, value in measured.items()}
    return seconds


def own_benchmark() -> ModuleType:
    path = Path(gftzoo.__file__).parents[1] / "tools" / "benchmark.py"
    spec = importlib.util.spec_from_file_location("own_benchmark", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def opening(source: str) -> dict[str, float]:
    """Seconds of opening data, and of reading the same without a look at it, once the system has it in memory."""
    kind, _, path = source.partition(":")
    lines = Path(path)
    library: dict[str, Callable[[], object]] = {
        "imagefolder": lambda: ImageFolder(path),
        "jsonl": lambda: [json.loads(line) for line in lines.read_text(encoding="utf-8").split("\n") if line],
    }
    library[kind]()
    return {"library": seconds_of(library[kind]), "open": seconds_of(lambda: open_source(source))}


def run() -> NoReturn:
    torch.set_num_threads(1)
    what, *words = sys.argv[1:]
    result = {"steps": steps, "sampling": sampling, "opening": opening}[what](*words)
    print(json.dumps(result))
    sys.exit()


if __name__ == "__main__":
    run()
