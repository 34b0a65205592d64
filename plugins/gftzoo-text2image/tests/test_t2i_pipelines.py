"""Every pipeline trains a LoRA, and whatever is exported runs in the stock pipeline, guidance off, as in gftzoo."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gftzoo_text2image.network import pipeline_of
from peft import PeftModel
from stock import PROMPTS, STEPS, stock_images, stock_pipeline
from tiny_pipelines import TINY, tokens_of
from torch import Tensor

from gftzoo import engine
from gftzoo.engine.parallel.place import Place
from gftzoo.engine.run.estimate import training_cost
from gftzoo.errors import UsageError
from gftzoo.exporting import export
from gftzoo.layers.lora_options import LoraOptions
from gftzoo.loading import load
from gftzoo.model import Model

SIDES = {"ldm": 64, "sdxl": 64, "sana": 32}
Run = tuple[Path, Path]  # of the pipeline, and of the run on it


def options_of_test(name: str, way: str = "lora") -> dict[str, Any]:
    tokens = tokens_of(name)
    sizes = {"resolution": SIDES.get(name, 16)} | ({} if tokens is None else {"network.tokens": tokens})
    quick = {
        "batch_size": 2,
        "ema_decay": None,
        "sample_every": 10**6,
        "sample_grid": [1, 1],
        "learning_rate.warmup": 0,
    }
    factors = {"lora.rank": 2, "lora.alpha": 4} if way == "lora" else {}
    return {**sizes, **quick, **factors, "train": way, "lr": 0.01, "log_every": 1}


@pytest.fixture(scope="module")
def trained(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A run of some steps on a tiny pipeline, trained once."""
    root, runs = tmp_path_factory.mktemp("runs"), dict[str, Run]()

    def run(name: str) -> Run:
        if name not in runs:
            folder = tiny(name)
            job = engine.plan(engine.Wanted(f"diffusers:{folder}", steps=20, options=options_of_test(name)))
            runs[name] = folder, engine.train(job, root / name)
        return runs[name]

    return run


def ours(model: Model) -> Tensor:
    return model.sample(PROMPTS, steps=STEPS)


def far(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())


@pytest.mark.parametrize("name", TINY)
def test_a_trained_pipeline_runs_where_the_stock_one_does(
    name: str, trained: Callable[[str], Run], tmp_path: Path
) -> None:
    source, run = trained(name)
    model = load(run)
    assert model.baked_beta == 0.33 and not model.card.temperature
    wanted = ours(model)
    base = stock_pipeline(source)
    untrained = stock_images(base, model.card)
    assert far(wanted, untrained) > 1e-2, "training moved nothing"

    export(model, "diffusers", tmp_path / "merged")
    assert far(wanted, stock_images(stock_pipeline(tmp_path / "merged"), model.card)) < 1e-3

    export(model, "lora", tmp_path / "lora")
    if hasattr(base, "load_lora_weights"):
        base.load_lora_weights(tmp_path / "lora")
    else:  # diffusers leaves it to peft
        part = pipeline_of(model.card).component
        setattr(base, part, PeftModel.from_pretrained(getattr(base, part), tmp_path / "lora").merge_and_unload())
    assert far(wanted, stock_images(base, model.card)) < 1e-3


@pytest.mark.parametrize("name", ["sd", "sd2", "sdxl", "flux2", "qwen", "z-image"])
def test_files_of_other_programs(name: str, trained: Callable[[str], Run], tmp_path: Path) -> None:
    """kohya's names by diffusers' converter, and, of UNets, one checkpoint by `from_single_file`."""
    source, run = trained(name)
    model = load(run)
    wanted = ours(model)
    export(model, "kohya", tmp_path / "kohya")
    stock = stock_pipeline(source)
    stock.load_lora_weights(tmp_path / "kohya" / "lora.safetensors")
    assert far(wanted, stock_images(stock, model.card)) < 1e-3

    if not hasattr(stock, "unet"):
        with pytest.raises(UsageError, match=r"a single file is made of Stable Diffusion and SDXL.*--to lora"):
            export(model, "single-file", tmp_path / "single")
        return
    export(model, "single-file", tmp_path / "single")
    file = tmp_path / "single" / "model.safetensors"
    single = type(stock).from_single_file(str(file), config=str(source), local_files_only=True)
    single.set_progress_bar_config(disable=True)
    single.scheduler = stock.scheduler
    assert far(wanted, stock_images(single, model.card)) < 1e-3


@pytest.mark.parametrize(("name", "way"), [("sd", "lora"), ("sd3", "lora"), ("flux-schnell", "temperature")])
def test_an_affine_temperature_is_folded_for_the_stock_pipeline(
    name: str, way: str, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    options = {**options_of_test(name, way), "lr": 0.02}
    job = engine.plan(engine.Wanted(f"diffusers:{tiny(name)}", recipe="affine", steps=10, options=options))
    model = load(engine.train(job, tmp_path / "run"))
    wanted, plain = (model.sample(PROMPTS, steps=STEPS, beta=beta) for beta in (0.5, 1.0))
    assert far(wanted, plain) > 1e-3, "the slope was not trained"
    with pytest.raises(UsageError, match=r"slope no pipeline knows.*--beta 0\.5"):
        export(model, "diffusers", tmp_path / "refused")
    export(model.bake(0.5), "diffusers", tmp_path / "folded")
    assert far(wanted, stock_images(stock_pipeline(tmp_path / "folded"), model.card)) < 1e-3


def test_a_base_in_half_precision_trains_the_same(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    losses, memory = [], []
    for base in ("full", "half"):
        options = {**options_of_test("sd3"), "precision": "bf16", "lora.base": base}
        job = engine.plan(engine.Wanted(f"diffusers:{tiny('sd3')}", steps=3, options=options))
        lines = (engine.train(job, tmp_path / base) / "metrics.jsonl").read_text().splitlines()
        losses.append([found["loss"] for line in lines if "loss" in (found := json.loads(line))])
        memory.append(training_cost(job, bf16 := Place(torch.device("cpu"), torch.bfloat16)).state_bytes)
    assert losses[0] == losses[1] and len(losses[0]) == 3
    again = training_cost(job.changed(lora=LoraOptions(rank=2, alpha=4), activation_checkpointing=True), bf16)
    # Beside an fp32 base autocast keeps copies for the backward pass, unless they are made again there.
    assert (memory[0] - memory[1], memory[0] - again.state_bytes) == (4 * again.halvable, 2 * again.halvable)
    assert memory[1] < 0.6 * memory[0]
    with pytest.raises(UsageError, match="computes in fp32; add -o precision=bf16"):
        engine.train(job.changed(precision="fp32"), tmp_path / "refused")
