"""What `gftzoo cache` does: a data source encoded once, for training without its tokenizer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gftzoo import engine, pictures, printing
from gftzoo.cli.naming import named
from gftzoo.cli.ranks import say
from gftzoo.cli.sharing import AGAIN
from gftzoo.cli.telling import say_colour
from gftzoo.data import open_source
from gftzoo.data.caching import CacheWriter
from gftzoo.data.checking import decode_entries, staleness, verify_hashes
from gftzoo.data.encoding import EncodingModel
from gftzoo.data.manifest import Manifest
from gftzoo.data.planning import plan_cache
from gftzoo.engine.parallel.place import choose_device
from gftzoo.errors import UsageError
from gftzoo.group import told_of_the_end

OPTIONS = ("device", "resolution", "text_encoder", "tokenizer", "tokenizer_path")  # what an encoding depends on


class Tell(Protocol):
    """Takes note of so many more images."""

    def __call__(self, images: int, /) -> None: ...


def cache(
    src: str | None, out: Path | None, model: str | None, check: Path | None, picture: Path | None, **choices: Any
) -> None:
    """Encode the data SRC into the folder OUT for MODEL: latents or codes, and text features of captions.

    Goes on where it was stopped; under torchrun the ranks share the shards. Train from it with --data cache:OUT.
    """
    if check is not None:
        if src or out or model:
            raise UsageError("--check looks at a finished cache and takes no SRC, OUT or --model; give it alone.")
        verify(check, picture or check.with_name(f"{check.name}.png"), choices["options"])
        return
    if src is None or out is None or model is None:
        raise UsageError("name the data, the folder and the model, e.g. `gftzoo cache digits out --model dit-nano`.")
    write(str(named(src, choices["background"], choices["allow_outside"])), out, model, choices)


def write(src: str, out: Path, name: str, choices: dict[str, Any]) -> None:
    """Plans the cache and writes this rank's shards."""
    job = engine.plan(engine.Wanted(name, data=src, options=engine.parse_options(choices["options"], OPTIONS)))
    config, source = job.config, open_source(src, choices["split"])
    tokenizer = job.family.build_tokenizer(config.card.tokenizer, config.tokenizer_path)
    model = EncodingModel(config.card, tokenizer, job.family, choose_device(config.device), choices["precision"])
    plan = plan_cache(
        model,
        source,
        split=choices["split"],
        flip=choices["flip"],
        ten_crop=choices["crops"] == "10",
        half=choices["half"],
        shard_rows=choices["shard_rows"],
        batch_size=choices["batch"],
    )
    for line in source.left_out:
        say(f"{line}.", err=True)
    say_colour(source, config.card)
    if source.several:
        say("Pictures have several captions: the first of each is encoded; train from the pictures to draw of all.")
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    say(f"Encoding {plan.images:,} images of {src} into {out}: {describe(plan)}.", err=True)
    writer = CacheWriter(model, source, plan, out)
    mine = sum(len(writer.rows(number)) for number in range(rank, plan.shard_count, world))
    with told_of_the_end(AGAIN), progress(f"encoding {src}", mine) as tell:
        writer.tell = tell
        manifest = writer.run(rank, world)
    if manifest is not None:
        finished(out, manifest)


def describe(plan: Manifest) -> str:
    """What is stored of an image, in words."""
    views = "" if plan.views == 1 else f"{plan.views} views each, "
    shape = "x".join(str(side) for side in plan.shape)
    text = f" and text features of {'x'.join(map(str, plan.text_shape))}" if plan.text_shape else ""
    return f"{views}{plan.content} of {shape} as {plan.dtype} by tokenizer {plan.tokenizer.id!r}{text}"


def finished(out: Path, manifest: Manifest) -> None:
    """Says what came of it; any rank may be the one that completes a cache."""
    skipped = [*manifest.unreadable, *(problem for shard in manifest.shards for problem in shard.skipped)]
    for problem in skipped[:10]:
        printing.say(f"skipped: {problem}", err=True)
    rows, size = sum(s.rows for s in manifest.shards), sum(s.bytes for s in manifest.shards)
    left_out = f", {len(skipped):,} unreadable ones skipped" if skipped else ""
    printing.say(
        f"Done: {out} holds {rows:,} images in {len(manifest.shards):,} shards, {size / 1e6:,.1f} MB{left_out}. "
        f"Train from it with `gftzoo train {manifest.model} --gft --data {quote(f'cache:{out}')}`.",
        err=True,
    )


@contextmanager
def progress(task: str, total: int) -> Iterator[Tell]:
    """A bar on a terminal, ten plain lines elsewhere."""
    if sys.stderr.isatty() and os.environ.get("RANK", "0") == "0":
        columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            number = bar.add_task(escape(printing.plain(task, 60)), total=total)
            yield lambda images: bar.advance(number, images)
        return
    done = 0

    def line(images: int) -> None:
        nonlocal done
        before, done = done, done + images
        if before * 10 // max(total, 1) != done * 10 // max(total, 1):
            say(f"{done:,} of {total:,} images", err=True)

    yield line


def verify(folder: Path, picture: Path, options: tuple[str, ...]) -> None:
    """Compares every shard with its hash and draws ten entries."""
    source = open_source(f"cache:{folder}", "all")
    path = engine.parse_options(options, ("tokenizer_path",)).get("tokenizer_path")
    with progress(f"verifying {folder}", len(source)) as tell:
        verify_hashes(source, tell)
    images, conditions = decode_entries(source, path, 10)
    pictures.save(pictures.grid(images, 5, conditions, f"{folder}, decoded"), picture)
    names = ", ".join(conditions)
    say(f"{len(source):,} entries with the right hashes; {picture} shows {names}.", err=True)
    stale = staleness(source)
    if stale is not None:
        say(stale, err=True)
