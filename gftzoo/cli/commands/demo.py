"""`gftzoo demo`."""

from __future__ import annotations

import click

from gftzoo.cli.lazy import completes, does
from gftzoo.cli.options import PRECISION


@click.command("demo")
@click.argument("models", nargs=-1, required=True, shell_complete=completes("names_and_runs"))
@click.option("--weights", help="For a model's name: a checkpoint of its card (base, gft) or a local file.")
@click.option("--entry", type=click.Choice(["raw", "ema"]), help="Which weights, of both (default ema).")
@click.option("--tokenizer-path", help="Local folder or file with the tokenizer's weights.")
@click.option("--device", default="auto", help="auto, cpu, cuda, ...")
@PRECISION
@click.option("--host", default="127.0.0.1", help="0.0.0.0 lets others of your network in.")
@click.option("--port", type=click.IntRange(1, 65535), help="Default the first free one from 7860.")
@click.option("--password", envvar="GFTZOO_DEMO_PASSWORD", help="Of the user gftzoo; better in GFTZOO_DEMO_PASSWORD.")
@click.option("--most-images", default=32, type=click.IntRange(1, 512), help="Images of one drawing.")
@click.option("--most-steps", default=250, type=click.IntRange(1, 1000), help="Sampling steps of one drawing.")
@click.option("--queue", default=20, type=click.IntRange(1, 1000), help="Drawings that wait; further ones are refused.")
@does("demo:demo", package="gradio", extra="demo")
def command() -> None:
    """Draw from one or more MODELS (runs, names with --weights, hub:OWNER/NAME) on a page in the browser.

    Two sheets of the same seeds stand side by side: two temperatures, or two models; a slider redraws its sheet.
    """
