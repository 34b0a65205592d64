"""What a reader under test is, and a process that reads its damaged inputs under limits of time and memory."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Literal

from fuzzing.mutate import mutated
from gftzoo.errors import GftzooError

SECONDS, BYTES = 5.0, 2**30  # that one input may take
START = 120.0  # seconds until a process has imported what it needs
Kind = Literal["read", "refused", "unexpected", "hang", "memory", "crash"]


class SilentChangeError(Exception):
    """A damaged input changed what was read of a good one."""


class Target(ABC):
    """A reader: valid inputs for it, and what is done with a damaged one in so many seconds."""

    @property
    def seconds(self) -> float:
        return SECONDS

    def prepare(self, folder: Path) -> None:
        """Makes what inputs need beside them; called once in each process."""

    @abstractmethod
    def seeds(self) -> list[tuple[str, bytes]]:
        """Valid inputs with the suffixes of their files."""

    @abstractmethod
    def read(self, path: Path) -> None:
        """Reads an input, in the prepared folder, to its end.

        Raises GftzooError where it is refused, SilentChangeError where it spoils something else; anything else is a
        fault of the reader.
        """


@dataclass(frozen=True)
class Outcome:
    """What became of an input."""

    index: int
    kind: Kind
    detail: str = ""


def input_of(target: Target, seed: int, index: int) -> tuple[str, bytes]:
    """The suffix and content of input number `index`; the first ones are the undamaged seeds."""
    seeds = target.seeds()
    suffix, data = seeds[index % len(seeds)]
    if index < len(seeds):
        return suffix, data
    return suffix, mutated(Random(f"{seed} {index}"), data, [content for _, content in seeds])  # noqa: S311 (to be repeated)


def run(target: Target, seed: int, count: int) -> Iterator[Outcome]:
    """The outcomes of `count` inputs; a process that hangs or dies is replaced by a new one."""
    index = 0
    while index < count:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=work, args=(theirs, target, seed, index, count))
        process.start()
        theirs.close()
        wait = START
        try:
            while index < count:
                if not ours.poll(wait):
                    yield Outcome(index, "hang", f"more than {target.seconds:g} s")
                    index += 1
                    break
                outcome = ours.recv()
                yield outcome
                index, wait = outcome.index + 1, target.seconds
        except EOFError:
            process.join()
            yield Outcome(index, "crash", f"exit code {process.exitcode}")
            index += 1
        process.kill()
        process.join()


def work(pipe: Connection, target: Target, seed: int, first: int, last: int) -> None:
    """Reads inputs one after the other, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        target.prepare(Path(folder))
        limit_memory()
        for index in range(first, last):
            suffix, data = input_of(target, seed, index)
            path = Path(folder) / f"input{suffix}"
            path.write_bytes(data)
            pipe.send(outcome_of(target, path, index))
            path.unlink(missing_ok=True)


def limit_memory() -> None:
    """So much more than the process has now."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    held = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (held + BYTES, resource.RLIM_INFINITY))


def outcome_of(target: Target, path: Path, index: int) -> Outcome:
    """Reads an input and says what became of it."""
    try:
        target.read(path)
    except GftzooError as error:
        said = str(error)
        if not said.replace("\n", "").isprintable():
            return Outcome(index, "unexpected", f"control characters in {said!r}")
        return Outcome(index, "refused", f"{type(error).__name__}: {said}")
    except MemoryError:
        return Outcome(index, "memory", traceback.format_exc(limit=-4))
    except Exception:
        return Outcome(index, "unexpected", traceback.format_exc(limit=-8))
    return Outcome(index, "read")
