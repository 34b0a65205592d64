"""Tokenizers: those of the core, and what the ones of families share."""

from gftzoo.tokenizers.convolutional import ConvolutionalTokenizer as ConvolutionalTokenizer
from gftzoo.tokenizers.convolutional import square_side as square_side
from gftzoo.tokenizers.core import DiffusersVAE as DiffusersVAE
from gftzoo.tokenizers.core import PixelCode as PixelCode
from gftzoo.tokenizers.core import Pixels as Pixels
from gftzoo.tokenizers.core import build_core_tokenizer as build_core_tokenizer
from gftzoo.tokenizers.options import read_tokenizer_options as read_tokenizer_options
from gftzoo.tokenizers.options import weights_file as weights_file
