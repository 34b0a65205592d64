"""CLIP score and prompt agreement: torchmetrics' numbers, whatever the batches, and in the record of a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torchmetrics.multimodal.clip_score import CLIPScore
from toy_model import SIDE, toy_model
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast

from gftzoo.contract.hookspecs import hookimpl
from gftzoo.data import sources
from gftzoo.data.arrays import ArraySource
from gftzoo.errors import GftzooError, UsageError
from gftzoo.evaluate import Evaluator, choose_protocol
from gftzoo.evaluate.agreement import PromptAgreement, PromptEncoder
from gftzoo.evaluate.features import FeatureNetwork, Features
from gftzoo.evaluate.records import score_names

WORDS = ["a", "red", "blue", "green", "apple", "moon", "tree"]
PROMPTS = ["a red apple", "a blue moon", "a green tree", "a red apple", "a blue tree"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model in miniature, in transformers' layout."""
    folder = tmp_path_factory.mktemp("clip") / "tiny-clip"
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<pad>", "<s>", "</s>", *WORDS])}, "<pad>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=8
    )
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    text = {**sizes, "vocab_size": 10, "max_position_embeddings": 8, "eos_token_id": 2, "bos_token_id": 1}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 8, "patch_size": 4}, projection_dim=6)
    model = CLIPModel(config)
    model.visual_projection.weight.data.neg_()  # pictures and prompts of the tests are then alike, and not averse
    model.save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessor(size=8, crop_size=8), tokenizer).save_pretrained(folder)
    return folder


def pictures() -> torch.Tensor:
    return torch.randint(0, 256, (5, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_the_score_is_torchmetrics_whatever_the_batches(clip: Path) -> None:
    encoder = PromptEncoder(str(clip))
    plain: Any = SimpleNamespace(  # transformers 5 gives embeddings in a record, which torchmetrics does not know
        config=encoder.model.config,
        to=lambda device: plain,
        get_image_features=lambda pixels: encoder.model.get_image_features(pixels).pooler_output,
        get_text_features=lambda ids, mask: encoder.model.get_text_features(ids, mask).pooler_output,
    )
    oracle = CLIPScore(lambda: (plain, encoder.processor))
    oracle.update(pictures(), PROMPTS)
    found = []
    for order in ([[0, 1, 2, 3, 4]], [[4, 2], [0], [3, 1]]):
        agreement = PromptAgreement(encoder, PROMPTS)
        for positions in order:
            agreement.update(pictures()[positions], positions)
        found.append(agreement.compute())
    assert found[0] == pytest.approx(found[1])
    assert found[0]["clip_score"] == pytest.approx(float(oracle.compute()), rel=1e-5) and found[0]["clip_score"] > 0


def test_a_picture_agrees_with_the_prompt_that_is_nearest(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pictures embedded as their prompts all agree, and of those that show the next prompt none does."""
    encoder = PromptEncoder(str(clip))
    for shown, share in ((0, 1.0), (1, 0.0)):
        agreement = PromptAgreement(encoder, PROMPTS[:3])
        embedded = encoder.prompts([PROMPTS[(row + shown) % 3] for row in range(3)])
        monkeypatch.setattr(encoder, "pictures", lambda images, embedded=embedded: embedded)
        agreement.update(pictures()[:3], range(3))
        assert agreement.compute()["prompt_agreement"] == share


class Prompts:
    """Prompts as grey levels, by their length."""

    @hookimpl
    def encode_condition(self, conditions: list[str]) -> torch.Tensor:
        return torch.tensor([len(prompt) % 10 for prompt in conditions])


class Means(FeatureNetwork):
    """The mean of each colour."""

    name, weights_sha256, dimensions = "means", "0" * 64, 3

    def __init__(self) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    def extract(self, images_BCHW: torch.Tensor) -> Features:
        return Features(images_BCHW.float().mean((2, 3)))


def test_it_is_in_the_record_and_refused_without_prompts(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, SIDE, SIDE), np.uint8)
    known = {"captioned": lambda _, split: ArraySource("captioned", pixels, [PROMPTS[i % 5] for i in range(6)])}
    find = sources._find
    monkeypatch.setattr(sources, "_find", lambda kind: known.get(kind) or find(kind))
    model, _ = toy_model(temperature=False)
    card = model.card.change(condition="text", classes=0)
    protocol = choose_protocol("coco", card, data="captioned", images=6, few=True, prompt_encoder=str(clip))
    assert (protocol.name, protocol.features, protocol.reference) == ("coco", "inception", "all:captioned")
    assert choose_protocol("coco", card, data="captioned").images == 30_000
    evaluator = Evaluator(protocol, network=Means(), resolution=SIDE)
    measure = evaluator.measure(6, "captions")
    assert measure.prompt_encoder == "tiny-clip" and len(measure.prompt_encoder_sha256 or "") == 64
    with pytest.raises(UsageError, match="toy draws classes and is asked with no prompt; leave --prompt-encoder out"):
        evaluator.score_model(model, model.guidance())
    model.family.manager.register(Prompts())
    record = evaluator.score_model(replace(model, card=card.change(classes=10)), model.guidance(), batch_size=4)
    assert record.scores.clip_score is not None and 0 <= (record.scores.prompt_agreement or 0) <= 1
    assert score_names(record)["clip_score"] == "CLIP-tiny-clip"
    with pytest.raises(UsageError, match="set of images without prompts"):
        evaluator.score_images(tmp_path)
    with pytest.raises(UsageError, match=r"name it with --data jsonl:val2014\.jsonl"):
        choose_protocol("coco", card)
    with pytest.raises(GftzooError, match=r"could not be loaded.*--prompt-encoder PATH"):
        PromptEncoder(str(tmp_path))
