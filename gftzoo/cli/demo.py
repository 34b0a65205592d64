"""What `gftzoo demo` does."""

from __future__ import annotations

from typing import Any

from gftzoo.cli.sample import load_for_sampling
from gftzoo.cli.sweep import unused_labels
from gftzoo.demo.drawing import Limits, Wish, by_name, draw, wanted
from gftzoo.demo.page import build, serve
from gftzoo.errors import UsageError
from gftzoo.printing import say

LOCAL = ("127.0.0.1", "localhost", "::1")


def demo(
    models: tuple[str, ...],
    host: str,
    port: int | None,
    password: str | None,
    most_images: int,
    most_steps: int,
    queue: int,
    **options: Any,
) -> None:
    """Draw from one or more MODELS (runs, names with --weights, hub:OWNER/NAME) on a page in the browser."""
    if len(set(models)) < len(models):
        raise UsageError("a model is named twice; both sheets can show one model, so name each once.")
    loaded = {
        label: load_for_sampling(name, {**options, "adapter": None, "compile": False})
        for name, label in zip(models, unused_labels(models), strict=True)
    }
    shown, limits = by_name(loaded), Limits(most_images, most_steps)
    for each in shown.values():  # what cannot be drawn is told of now, and the first visitor waits for no import
        draw(each, Wish(wanted(each, [], "warm-up", 1), 1.0, steps=1 if each.steps else None), limits)
    page = build(shown, limits)
    names = ", ".join(loaded)
    say(f"Drawing from {names} at http://{host}:{port or '7860 (or the next free port)'}; Ctrl-C ends it.", err=True)
    if host not in LOCAL and not password:
        say("Everybody who reaches this machine can draw; --password asks for one.", err=True)
    serve(page, host=host, port=port, queue=queue, password=password)
