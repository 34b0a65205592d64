"""Official files fitted to a network: MaskGIT's of Flax and their PyTorch conversions, MAGE's, MaskBit's.

Suffixes: K rows of a table, D width.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from gftzoo.catalogue.cards import ModelCard
from gftzoo.layers.finetuning import fit_classes, idle_embedding
from gftzoo.layers.sinusoid import SinusoidEmbedding
from gftzoo_maskgit.options import NetworkOptions

Tensors = dict[str, Tensor]
Rename = tuple[str, str]
TABLES = {
    "maskgit": ("word_embeddings.weight", "bias"),
    "mage": ("token_emb.word_embeddings.weight", "mlm_layer.bias"),
}
OFFICIAL_CLASSES = 1000
MAGE_FAKE_CLASS = 76  # the row of this class is MAGE's constant class token
# What MAGE's files carry without using it, inherited from MAE, and its tokenizer.
MAGE_UNUSED = re.compile(
    r"(patch_embed|vqgan)\..*|cls_token|mask_token|decoder_pred\..*|(decoder_)?pos_embed|token_emb\.position_ids"
)

# Flax's names, after `params.`, and those of transformers' BertForMaskedLM; the right side is ours.
FLAX: list[Rename] = [
    (r"Embed_0\.word_embeddings\.embedding", "word_embeddings.weight"),
    (r"Embed_0\.position_embeddings\.embedding", "position_embeddings"),
    (r"Embed_0\.embeddings_ln\.", "embeddings_ln."),
    (r"TransformerLayer_(\d+)\.Attention_0\.self_attention\.out\.", r"layers.\1.attn.proj."),
    (r"TransformerLayer_(\d+)\.Attention_0\.self_attention\.(query|key|value)\.", r"layers.\1.attn.\2."),
    (r"TransformerLayer_(\d+)\.Attention_0\.attention_output_ln\.", r"layers.\1.norm1."),
    (r"TransformerLayer_(\d+)\.Mlp_0\.intermediate_output\.", r"layers.\1.mlp.fc1."),
    (r"TransformerLayer_(\d+)\.Mlp_0\.layer_output\.", r"layers.\1.mlp.fc2."),
    (r"TransformerLayer_(\d+)\.Mlp_0\.layer_output_ln\.", r"layers.\1.norm2."),
    (r"MlmLayer_0\.mlm_dense\.", "head.fc."),
    (r"MlmLayer_0\.mlm_ln\.", "head.ln."),
    (r"MlmLayer_0\.mlm_bias\.bias", "bias"),
]
BERT: list[Rename] = [
    (r"bert\.embeddings\.position_embeddings\.weight", "position_embeddings"),
    (r"bert\.embeddings\.word_embeddings\.", "word_embeddings."),
    (r"bert\.embeddings\.LayerNorm\.", "embeddings_ln."),
    (r"bert\.encoder\.layer\.(\d+)\.attention\.self\.", r"layers.\1.attn."),
    (r"bert\.encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"layers.\1.attn.proj."),
    (r"bert\.encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.", r"layers.\1.norm1."),
    (r"bert\.encoder\.layer\.(\d+)\.intermediate\.dense\.", r"layers.\1.mlp.fc1."),
    (r"bert\.encoder\.layer\.(\d+)\.output\.dense\.", r"layers.\1.mlp.fc2."),
    (r"bert\.encoder\.layer\.(\d+)\.output\.LayerNorm\.", r"layers.\1.norm2."),
    (r"cls\.predictions\.transform\.dense\.", "head.fc."),
    (r"cls\.predictions\.transform\.LayerNorm\.", "head.ln."),
    (r"cls\.predictions\.bias", "bias"),
]
MASKBIT: list[Rename] = [
    (r"first_layer\.0\.", "first_ln."),
    (r"(input_proj|prediction_layer|tok_emb_list|bias)\.", r"tokens.\1."),
    (r"transformer\.layers\.(\d+)\.0\.mha\.in_proj_", r"layers.\1.attn.qkv."),
    (r"transformer\.layers\.(\d+)\.0\.mha\.out_proj\.", r"layers.\1.attn.proj."),
    (r"transformer\.layers\.(\d+)\.0\.norm\.", r"layers.\1.norm1."),
    (r"transformer\.layers\.(\d+)\.1\.net\.0\.", r"layers.\1.mlp.fc1."),
    (r"transformer\.layers\.(\d+)\.1\.net\.2\.", r"layers.\1.mlp.fc2."),
    (r"transformer\.layers\.(\d+)\.1\.norm\.", r"layers.\1.norm2."),
    (r"last_layer\.0\.", "last_layer.fc."),
    (r"last_layer\.2\.", "last_layer.ln."),
]


def fit_weights(card: ModelCard, tensors: Mapping[str, Tensor], options: NetworkOptions) -> Tensors:
    """The file's tensors for the network of `card`; a file of gftzoo's own stays as it is.

    A null class that is not in the file is made of what is: the mean of MaskGIT's classes, or MAGE's constant class
    token, from which all of MAGE's classes start. Another number of classes starts at the null class. An untied output
    starts as the table of codes, and a temperature as nothing.
    """
    if options.kind == "maskbit":
        fitted = fit_classes(from_maskbit(tensors), card.classes + 1, "class_emb.weight", "class_emb.weight")
    else:
        fitted = (from_maskgit if options.kind == "maskgit" else from_mage)(card, tensors)
        _fit_rows(fitted, card, *TABLES[options.kind])
        if not options.tied and "output.weight" not in fitted:
            _untie(fitted, card, *TABLES[options.kind])
    if card.temperature and options.embeds and not any(key.startswith("beta_embed.") for key in fitted):
        with torch.device("meta"):
            embedding = SinusoidEmbedding(options.width)
        fitted |= idle_embedding("beta_embed", embedding)
    return fitted


def from_maskgit(card: ModelCard, tensors: Mapping[str, Tensor]) -> Tensors:
    """Official MaskGIT under this network's names, with the mean of its classes for the null class."""
    if any(key.startswith("MlmLayer_0.") for key in tensors):
        found = {name: _turned(name, tensor) for name, tensor in renamed(tensors, FLAX).items()}
        found = {re.sub(r"\.(kernel|scale)$", ".weight", name): tensor for name, tensor in found.items()}
    elif any(key.startswith("bert.") for key in tensors):
        found = _from_bert(tensors)
    else:
        found = dict(tensors)
    found = _joined_qkv(found)
    table = found.get("word_embeddings.weight")
    if table is not None and table.ndim == 2 and "null_class" not in found:
        found["null_class"] = _class_rows(table, card).mean(0, keepdim=True)
    return found


def from_mage(card: ModelCard, tensors: Mapping[str, Tensor]) -> Tensors:
    """Official MAGE, whose constant class token becomes the null class, and every class.

    That token is the row of class 76, which would be a class and the null at once; the null has a row of its own here.
    The other rows were never trained.
    """
    found = {key: tensor for key, tensor in tensors.items() if not MAGE_UNUSED.fullmatch(key)}
    name = "token_emb.word_embeddings.weight"
    table = found.get(name)
    if table is None or table.ndim != 2 or "null_class" in found:
        return found
    classes = _class_rows(table, card)
    if len(classes) > MAGE_FAKE_CLASS:  # else it is of another tokenizer, which loading will say
        found["null_class"] = classes[MAGE_FAKE_CLASS : MAGE_FAKE_CLASS + 1].clone()
        found[name] = table.clone()
        _class_rows(found[name], card)[:] = found["null_class"]
    return found


def from_maskbit(tensors: Mapping[str, Tensor]) -> Tensors:
    """Official MaskBit under this network's names."""
    if not any(key.startswith("transformer.layers.") for key in tensors):
        return dict(tensors)
    return renamed({key: tensor for key, tensor in tensors.items() if key != "bits_to_indices"}, MASKBIT)


def renamed(tensors: Mapping[str, Tensor], names: Iterable[Rename]) -> Tensors:
    """Each tensor under the name that the first matching start of its own is replaced with; others keep theirs."""
    found = {}
    for key, tensor in tensors.items():
        new = key
        for old, replacement in names:
            if re.match(old, key):
                new = re.sub(f"^{old}", replacement, key)
                break
        found[new] = tensor
    return found


def _turned(name: str, tensor: Tensor) -> Tensor:
    """A Flax kernel, (in, out) with heads apart, as a matrix (out, in); biases of heads as one vector."""
    if name.endswith(".kernel") and tensor.ndim > 1:
        into = tensor.flatten(0, 1) if ".proj." in name else tensor.flatten(1)
        return into.T.contiguous()
    return tensor.flatten() if ".attn." in name else tensor


def _from_bert(tensors: Mapping[str, Tensor]) -> Tensors:
    """transformers' BertForMaskedLM: a table of one token type is added to every position."""
    left_out = ("bert.embeddings.token_type_embeddings.weight", "bert.embeddings.position_ids")
    tied = ("cls.predictions.decoder.weight", "cls.predictions.decoder.bias")
    found = renamed({key: tensor for key, tensor in tensors.items() if key not in (*left_out, *tied)}, BERT)
    types = tensors.get(left_out[0])
    if types is not None and _alike(types, found.get("position_embeddings")):
        found["position_embeddings"] = found["position_embeddings"] + types[:1]
    return found


def _joined_qkv(tensors: Mapping[str, Tensor]) -> Tensors:
    """Queries, keys and values, which stand apart in some files, as one matrix and one bias."""
    found = dict(tensors)
    for key in tensors:
        if ".attn.query." in key:
            names = [key.replace("query", part) for part in ("query", "key", "value")]
            if all(_alike(tensors.get(name), tensors[key]) for name in names):
                found[key.replace("query", "qkv")] = torch.cat([found.pop(name) for name in names])
    return found


def _alike(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether both are there, of one width and as many dimensions."""
    return one is not None and other is not None and one.ndim == other.ndim and one.shape[1:] == other.shape[1:]


def _class_rows(table_KD: Tensor, card: ModelCard) -> Tensor:
    """The rows of classes: behind the codes, before the mask."""
    return table_KD[card.tokenizer.codebook : -1]


def _fit_rows(tensors: Tensors, card: ModelCard, table: str, bias: str) -> None:
    """Another number of classes, all of them the null class, in place."""
    rows = (card.tokenizer.codebook or 0) + card.classes + 1
    official = (card.tokenizer.codebook or 0) + OFFICIAL_CLASSES + 1
    if table not in tensors or bias not in tensors or len(tensors[table]) not in {official} - {rows}:
        return  # it fits, or it is of another tokenizer, which loading will say
    codes, mask = tensors[table][: card.tokenizer.codebook], tensors[table][-1:]
    tensors[table] = torch.cat([codes, tensors["null_class"].expand(card.classes, -1), mask])
    values, ends = tensors[bias][..., : card.tokenizer.codebook], tensors[bias][..., -1:]
    between = values.new_zeros(*values.shape[:-1], card.classes)  # no class is ever predicted
    tensors[bias] = torch.cat([values, between, ends], -1)


def _untie(tensors: Tensors, card: ModelCard, table: str, bias: str) -> None:
    """An output of its own that reads what the table of codes did, in place."""
    if table in tensors and bias in tensors:
        tensors["output.weight"] = tensors[table][: card.tokenizer.codebook].clone()
        tensors["output.bias"] = tensors.pop(bias).flatten()[: card.tokenizer.codebook].clone()
