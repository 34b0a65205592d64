"""Feeds a reader with damaged files: `python tools/fuzz.py picture --inputs 2000`.

Every input is either read or refused with one of the project's own errors, within 5 seconds (those of runs: 2 minutes)
and 1 GiB, and spoils nothing beside it. Anything else is a failure, whose input is kept, and the exit code is 1. A
target is a class of `fuzzing.target.Target`; a new one gets a line in TARGETS.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections import Counter
from pathlib import Path

from fuzzing.target import Target, input_of, run

TARGETS = {
    "picture": "fuzzing.pictures:PictureTarget",
    "run": "fuzzing.training:RunTarget",
    "jsonl": "fuzzing.texts:LinesTarget",
    "tar": "fuzzing.texts:TarTarget",
    "registry": "fuzzing.registries:RegistryTarget",
    "config": "fuzzing.runs:ConfigTarget",
    "state": "fuzzing.runs:StateTarget",
    "safetensors": "fuzzing.weights:SafetensorsTarget",
    "torch": "fuzzing.weights:TorchTarget",
    "flax": "fuzzing.flax:FlaxTarget",
    "card": "fuzzing.weights:CardTarget",
    "manifest": "fuzzing.caches:CacheTarget",
    "npz": "fuzzing.arrays:NpzTarget",
}


def find_target(name: str) -> Target:
    module, _, attribute = TARGETS[name].partition(":")
    target: Target = getattr(importlib.import_module(module), attribute)()
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--inputs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"), help="folder for inputs that failed")
    parser.add_argument("--verbose", action="store_true", help="show refusals too")
    arguments = parser.parse_args()
    target = find_target(arguments.target)
    counts, valid = Counter[str](), len(target.seeds())
    for outcome in run(target, arguments.seed, arguments.inputs):
        refused_seed = outcome.kind == "refused" and outcome.index < valid
        kind = "refused though valid" if refused_seed else outcome.kind
        counts[kind] += 1
        if kind not in ("read", "refused"):
            suffix, data = input_of(target, arguments.seed, outcome.index)
            arguments.keep.mkdir(parents=True, exist_ok=True)
            kept = arguments.keep / f"{arguments.target}-{arguments.seed}-{outcome.index}{suffix}"
            kept.write_bytes(data)
            print(f"{kind}: {kept}\n{outcome.detail}")
        elif arguments.verbose and kind == "refused":
            print(f"{outcome.index}: {outcome.detail}")
    print(f"{arguments.target}: {', '.join(f'{count:,} {kind}' for kind, count in sorted(counts.items()))}")
    return 0 if set(counts) <= {"read", "refused"} else 1


if __name__ == "__main__":
    sys.exit(main())
