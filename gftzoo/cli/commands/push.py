"""`gftzoo push`."""

from __future__ import annotations

from pathlib import Path

import click

from gftzoo.cli.lazy import completes, does


@click.command("push")
@click.argument("model", metavar="RUN", shell_complete=completes("runs"))
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--entry", type=click.Choice(["raw", "ema"]), help="Which weights, of both (default ema).")
@click.option("--bake", type=float, help="Push a plain network with this beta in its weights, too, as beta-VALUE/.")
@click.option(
    "--schedule", type=click.Choice(["constant"]), help="For a model whose temperature ramps: bake one value."
)
@click.option("--also", multiple=True, metavar="FORMAT", help="Push a format of `gftzoo info`, too (diffusers).")
@click.option(
    "--scores",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A score record of these weights, or a folder of such.",
)
@click.option("--licence", help="Of what is pushed, e.g. apache-2.0; default that of the weights it started from.")
@click.option("--private", is_flag=True, help="Make a new repository a private one.")
@click.option("--message", help="Of the commit.")
@click.option("--tokenizer-path", help="Local folder or file with the tokenizer's weights.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write what would be pushed into this folder, and push nothing."
)
@does("push:push")
def command() -> None:
    """Push RUN (a run, or a folder with a model) to the Hugging Face Hub as OWNER/NAME.

    Weights go as safetensors, with a model card: licence, base model, recipe, scores, samples. An adapter is merged.
    `gftzoo sample hub:OWNER/NAME`, `train --weights hub:OWNER/NAME` and `gftzoo.load` take it from there.
    """
