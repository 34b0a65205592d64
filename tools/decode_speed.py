"""What drawing codes costs: GFT's one pass against CFG's two, and the cache against a loop without one.

    python tools/decode_speed.py llamagen-b --resolution 128 --batch 16
    python tools/decode_speed.py rq-nano --cached-only

The loop without a cache is LlamaGen's; other models need --cached-only. Random weights; the ways are run in turn,
several times, and the median of each is taken, of processor time (on a GPU, of the time on the clock). The codes of GFT
with and without a cache are compared, so that both do the same work.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from gftzoo_llamagen.sampler import SamplerOptions
from torch import Tensor

from gftzoo.contract.guidance import ClassifierFree, Guidance, Temperature
from gftzoo.generator import SampleGenerator
from gftzoo.model import Model
from gftzoo.zoo import get_card


def network_of(name: str, resolution: int | None, temperature: bool, device: str) -> Model:
    card = get_card(name).change(temperature=temperature)
    torch.manual_seed(0)
    model = Model.fresh(card.change(resolution=resolution or card.resolution)).to(device)
    for parameter in model.network.parameters():
        if parameter.ndim > 1 and not parameter.any():  # read-outs start at zero, and would draw all codes alike
            torch.nn.init.normal_(parameter, std=0.02)
    if model.family.options().reads_tokenizer:
        model.tokenizer = model.family.build_tokenizer(card.tokenizer, None).to(device)
    model.network.eval()
    return model


def classes(model: Model, batch: int) -> Tensor:
    return torch.arange(batch, device=model.device) % model.card.classes


@torch.no_grad()
def cached(model: Model, guidance: Guidance, batch: int) -> Tensor:
    generator, options = SampleGenerator(range(batch), model.device), model.family.sampler_settings(model.card)
    return model.family.temperature_sampler(model, classes(model, batch), guidance, options, generator)


@torch.no_grad()
def without_cache(model: Model, guidance: Guidance, batch: int) -> Tensor:
    """Every code reads the whole sequence before it again."""
    network, condition = model.network, classes(model, batch)
    condition_G = guidance.expand(condition, model.null_condition(condition))
    beta_G = guidance.beta(len(condition_G), device=model.device)
    uniform_BN = SampleGenerator(range(batch), model.device).uniform(network.codes)
    codes_BN = torch.zeros(batch, 0, dtype=torch.int64, device=model.device)
    for n in range(network.codes):
        padded_BL = torch.nn.functional.pad(codes_BN, (0, 1))  # the last code is predicted and not read
        logits_GV = network(guidance.repeat(padded_BL), condition_G, beta_G)[:, -1]
        code_B = SamplerOptions().draw(guidance.combine(logits_GV), uniform_BN[:, n])
        codes_BN = torch.cat([codes_BN, code_B[:, None]], 1)
    return codes_BN


def medians(ways: dict[str, Callable[[], Tensor]], rounds: int, gpu: bool) -> dict[str, float]:
    clock = time.perf_counter if gpu else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            begin = clock()
            way()
            if gpu:
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(clock() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="llamagen-nano")
    parser.add_argument("--resolution", type=int, help="pixels; default: the model's own")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="also the compiled step")
    parser.add_argument("--cached-only", action="store_true", help="not the loop without a cache, which takes long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    job = parser.parse_args()
    torch.set_num_threads(job.threads)
    plain, gft = (network_of(job.model, job.resolution, t, job.device) for t in (False, True))
    beta, scale, batch = Temperature(0.5), ClassifierFree(2.0), job.batch
    ways: dict[str, Callable[[], Tensor]] = {
        "GFT": lambda: cached(gft, beta, batch),
        "CFG": lambda: cached(plain, scale, batch),
    }
    print(f"{job.model}, {gft.card.grid**2} positions, batch {batch}, {job.device}, {job.threads} thread(s)")
    if not job.cached_only:
        same = torch.equal(cached(gft, beta, batch), without_cache(gft, beta, batch))
        print(f"codes with and without cache are {'the same' if same else 'NOT the same'}")
        ways["GFT without cache"] = lambda: without_cache(gft, beta, batch)
        ways["CFG without cache"] = lambda: without_cache(plain, scale, batch)
    if job.compile:
        fast_plain, fast_gft = (replace(model).compile() for model in (plain, gft))  # of the same network
        ways["GFT compiled"] = lambda: cached(fast_gft, beta, batch)
        ways["CFG compiled"] = lambda: cached(fast_plain, scale, batch)
    seconds = medians(ways, job.rounds, job.device.startswith("cuda"))
    for name, value in seconds.items():
        print(f"{name:20} {1000 * value / batch:9.1f} ms/image  {value / seconds['CFG']:6.2f} of CFG")


if __name__ == "__main__":
    main()
