"""Tokenizers of MaskGIT, MAGE, MaskBit and Open-MAGVIT2: a convolutional autoencoder, and code vectors or signs."""

from gftzoo.tokenizers.quantised.tokenizer import ConvTokenizer as ConvTokenizer
from gftzoo.tokenizers.quantised.tokenizer import load_tokenizer as load_tokenizer
