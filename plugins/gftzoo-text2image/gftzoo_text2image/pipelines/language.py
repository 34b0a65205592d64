"""Z-Image, Qwen-Image and Lumina 2: transformers on the hidden states of a language model, as long as the prompt is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gftzoo_text2image.pipelines.pipeline import (
    PatchedFlow,
    Pipeline,
    Shapes,
    Text,
    lengths,
    linear_shift,
    pack,
    unpack,
)


class ZImage(PatchedFlow):
    """`ZImagePipeline`: its time goes from noise to picture, and so does what it predicts."""

    network = "ZImageTransformer2DModel"
    head = "all_final_layer.2-1.linear"
    unpacks = True
    off = {"guidance_scale": 0.0}

    def shapes(self, config: Mapping[str, Any], tokens: int) -> Shapes:
        return {"text": (tokens, config["cap_feat_dim"]), "mask": (tokens,)}

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        texts, _ = pipeline.encode_prompt(list(prompts), do_classifier_free_guidance=False, max_sequence_length=tokens)
        masks = [text.new_ones(len(text)) for text in texts]
        return {"text": pad_sequence(texts, batch_first=True), "mask": pad_sequence(masks, batch_first=True)}

    def predict(self, network: Any, x_BChw: Tensor, t_B: Tensor, text: Text, scale_B: Tensor | None = None) -> Tensor:
        words = [row[:length] for row, length in zip(text["text"], lengths(text["mask"]), strict=True)]
        found = network(list(x_BChw.unsqueeze(2)), (1000 - t_B) / 1000, words, return_dict=False)[0]
        return -pad_sequence(list(found), batch_first=True).squeeze(2)


class QwenImage(PatchedFlow):
    """`QwenImagePipeline`: packed patches; the prompt stands behind a system message that is cut off again."""

    network = "QwenImageTransformer2DModel"
    temperature = "guidance"
    off = {"true_cfg_scale": 1.0}

    def shapes(self, config: Mapping[str, Any], tokens: int) -> Shapes:
        return {"text": (tokens, config["joint_attention_dim"]), "mask": (tokens,)}

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        text, mask = pipeline.encode_prompt(list(prompts), max_sequence_length=tokens)
        return {"text": text, "mask": text.new_ones(text.shape[:2]) if mask is None else mask}

    def predict(self, network: Any, x_BChw: Tensor, t_B: Tensor, text: Text, scale_B: Tensor | None = None) -> Tensor:
        h, w = (side // 2 for side in x_BChw.shape[-2:])
        longest = max(lengths(text["mask"]))
        found = network(
            pack(x_BChw),
            encoder_hidden_states=text["text"][:, :longest],
            encoder_hidden_states_mask=text["mask"][:, :longest],
            timestep=t_B / 1000,
            img_shapes=[[(1, h, w)]] * len(x_BChw),
            guidance=scale_B,
            return_dict=False,
        )[0]
        return unpack(found, x_BChw.shape)


class Lumina2(Pipeline):
    """`Lumina2Pipeline`: its time goes from noise to picture, and so does what it predicts."""

    network = "Lumina2Transformer2DModel"
    head = "norm_out.linear_2"
    tokens = 256
    gives_times = True

    def shapes(self, config: Mapping[str, Any], tokens: int) -> Shapes:
        return {"text": (tokens, config["cap_feat_dim"]), "mask": (tokens,)}

    def encode(self, pipeline: Any, prompts: Sequence[str], tokens: int) -> dict[str, Tensor]:
        text, mask, _, _ = pipeline.encode_prompt(list(prompts), False, max_sequence_length=tokens)
        return {"text": text, "mask": mask}

    def predict(self, network: Any, x_BChw: Tensor, t_B: Tensor, text: Text, scale_B: Tensor | None = None) -> Tensor:
        mask = text["mask"].long()
        if mask.is_meta:  # the network asks it how long each prompt is
            mask = torch.ones(mask.shape, dtype=torch.long, device="cpu")
        return -network(x_BChw, 1 - t_B / 1000, text["text"], mask, return_dict=False)[0]

    def shift(self, scheduler: Mapping[str, Any], config: Mapping[str, Any], side: int, steps: int) -> float:
        return linear_shift(scheduler, config["in_channels"])  # the stock pipeline takes the channels for the sequence
