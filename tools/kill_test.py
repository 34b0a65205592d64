"""Whether training survives what can happen to it: `kill -9` at random moments, and a disk that fills up.

    python tools/kill_test.py --kills 30 --out docs/results/kill-test.csv
    unshare -rm python tools/kill_test.py --kills 0      # the full disk alone, without root

A nano run is killed again and again and resumed each time, until it is done; its weights, average, optimizer state and
losses must then be those of a run that was left alone, to the bit. It saves after every step, so that many kills hit a
save. A byte is then flipped in each file of its last checkpoint, again and again, which must be found every time. Then
the same run gets a small tmpfs, which must end it with one sentence and leave it resumable.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file

from gftzoo import checksums
from gftzoo.cli import main as gftzoo
from gftzoo.engine import checkpoints

KINDS = ("raw", "ema", "optimizer")


def fork(*words: str, output: Path) -> int:
    """Starts `gftzoo WORDS` in a process of its own, forked from this one, which has imported everything already."""
    child = os.fork()
    if child == 0:
        target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        os.dup2(target, 2)
        try:
            gftzoo(words)
        except SystemExit as stop:
            os._exit(int(stop.code or 0))
        finally:
            os._exit(70)
    return child


def call(*words: str, output: Path) -> int:
    """The exit code of `gftzoo WORDS`."""
    _, status = os.waitpid(fork(*words, output=output), 0)
    return os.waitstatus_to_exitcode(status)


def killed(child: int, run: Path, step: int, seconds: float) -> bool:
    """Kills a process that long after it saved a step; False if it had ended before."""
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return False
        if deadline is None and step_of(run) >= step:
            deadline = time.monotonic() + seconds
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def step_of(run: Path) -> int:
    newest = checkpoints.newest(run)
    return checkpoints.read_state(newest)["step"] if newest else 0


def same(a: Path, b: Path) -> bool:
    """Whether the last checkpoints and all recorded losses of two runs are equal to the bit."""
    ours, theirs = checkpoints.newest(a), checkpoints.newest(b)
    if ours is None or theirs is None or ours.name != theirs.name:
        return False
    for kind in KINDS:
        x, y = load_file(ours / f"{kind}.safetensors"), load_file(theirs / f"{kind}.safetensors")
        if x.keys() != y.keys() or not all(torch.equal(x[key], y[key]) for key in x):
            return False
    return losses(a) == losses(b)


def losses(run: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows]


def new_run(model: str, steps: int, runs: Path, name: str, every: int) -> list[str]:
    options = {"batch_size": 8, "ema_decay": 0.9, "log_every": 1, "sample_grid": "[1,1]", "checkpoint_every": every}
    pairs = [f"-o{key}={value}" for key, value in {**options, "keep_last": 3, "device": "cpu"}.items()]
    return ["train", model, "--gft", "--steps", str(steps), *pairs, "--runs", str(runs), "--name", name]


def kill_often(model: str, steps: int, kills: int, folder: Path, seed: int) -> list[dict[str, object]]:
    """One row for each kill; AssertionError if a run is lost."""
    moments, rows, run = random.Random(seed), [], folder / "killed"  # noqa: S311
    output = folder / "output.txt"
    start = new_run(model, steps, folder, "killed", every=1)
    while len(rows) < kills:
        words = ["train", "--resume", str(run)] if (run / "config.yaml").exists() else start
        before = step_of(run)
        # Moments after some steps, so that all kills fit into the run however fast the machine is, and some while the
        # process still starts.
        step = before + int(moments.uniform(-0.25, 1) * 1.4 * steps / kills)
        seconds = moments.uniform(0, 2 if step <= before else 0.2)
        begin = time.monotonic()
        if not killed(fork(*words, output=output), run, max(step, before), seconds):
            assert step_of(run) >= steps, f"a resumed run failed: {output.read_text()}"
            raise SystemExit(f"The run was done after {len(rows)} kills; use more --steps.")
        saving = any((run / "checkpoints").glob(".partial-*"))
        after = step_of(run)
        assert after >= before, f"the run fell back from step {before} to {after}"
        seconds = round(time.monotonic() - begin, 3)
        rows.append({"kill": len(rows) + 1, "seconds": seconds, "step": after, "during_a_save": saving})
        print(f"kill {len(rows):2} after {seconds:5.2f} s at step {after}{', during a save' * saving}", flush=True)
    if step_of(run) < steps:  # the last kill may have come after the last step
        assert call("train", "--resume", str(run), output=output) == 0, output.read_text()
    return rows


def flip_bytes(run: Path, times: int, seed: int) -> int:
    """The number of flipped bytes that were found; AssertionError for the first that was not."""
    places, found = random.Random(seed), 0  # noqa: S311
    newest = checkpoints.newest(run)
    assert newest is not None and checksums.sound(newest), "the last checkpoint is not sound"
    for path in sorted(path for path in newest.rglob("*") if path.is_file()):
        content = path.read_bytes()
        for _ in range(times):
            place, bit = places.randrange(len(content)), 1 << places.randrange(8)
            path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
            assert not checksums.sound(newest), f"byte {place} of {path} was flipped, and nothing found it"
            found += 1
        path.write_bytes(content)
    assert checksums.sound(newest)
    return found


@contextmanager
def small_disk(megabytes: float) -> Iterator[Path]:
    """A tmpfs of that size; CalledProcessError where mounting is not allowed."""
    folder = Path(tempfile.mkdtemp())
    size = f"size={int(megabytes * 1024)}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True, capture_output=True)  # noqa: S607
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)  # noqa: S607
        folder.rmdir()


def grow(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=256m", disk], check=True)  # noqa: S607


def fill_disk(model: str, steps: int, unbroken: Path, output: Path) -> str:
    """The sentence that a full disk ended the run with; AssertionError if anything is wrong."""
    newest = checkpoints.newest(unbroken)
    assert newest is not None
    size = sum(path.stat().st_size for path in newest.iterdir()) / 2**20
    with small_disk(2.7 * size + 0.2) as disk:
        run = disk / "run"
        assert call(*new_run(model, steps, disk, "run", every=2), output=output) == 1, output.read_text()
        sentence = last_line(output)
        assert "No space left" in sentence and "go on from step-00000004" in sentence, output.read_text()
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-00000002", "step-00000004"]
        ballast(disk)
        assert call("train", "--resume", str(run), output=output) == 1, output.read_text()
        assert "No space left" in last_line(output) and "Traceback" not in output.read_text(), output.read_text()
        (disk / "ballast").unlink()
        grow(disk)
        assert call("train", "--resume", str(run), output=output) == 0, output.read_text()
        assert same(run, unbroken), "the run resumed after a full disk is not the unbroken one"
    return sentence


def ballast(disk: Path) -> None:
    """Takes the room that is left."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096) == 4096:
                pass
        except OSError:
            return


def last_line(output: Path) -> str:
    return output.read_text().strip().splitlines()[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dit-nano")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--flips", type=int, default=50, help="bytes flipped in each file of a checkpoint")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--out", type=Path, help="CSV of the kills")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="kill-test-"))
    output = folder / "output.txt"
    whole = new_run(arguments.model, arguments.steps, folder, "unbroken", every=arguments.steps)
    assert call(*whole, output=output) == 0, output.read_text()
    if arguments.kills:
        rows = kill_often(arguments.model, arguments.steps, arguments.kills, folder, arguments.seed)
        assert same(folder / "killed", folder / "unbroken"), "the killed run is not the unbroken one"
        flips = flip_bytes(folder / "killed", arguments.flips, arguments.seed)
        print(f"{flips} bytes flipped in the files of its last checkpoint: all found.")
        saves = sum(bool(row["during_a_save"]) for row in rows)
        print(f"{len(rows)} kills, {saves} of them during a save: none lost the run, and all is equal to the bit.")
        if arguments.out:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            with arguments.out.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
    print("A full disk ended the run with:", fill_disk(arguments.model, arguments.steps, folder / "unbroken", output))
    print("Resumed with more room, it is the unbroken run to the bit.")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
