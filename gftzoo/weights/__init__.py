"""Weights in and out: safetensors of our own, official files of others. Nothing in a file is ever executed."""

from gftzoo.weights.choosing import Tensors as Tensors
from gftzoo.weights.fitting import check_fit as check_fit
from gftzoo.weights.fitting import load_weights as load_weights
from gftzoo.weights.folders import model_folder as model_folder
from gftzoo.weights.folders import own_weights as own_weights
from gftzoo.weights.folders import weights_in as weights_in
from gftzoo.weights.names import Entry as Entry
from gftzoo.weights.reading import read_tensors as read_tensors
from gftzoo.weights.reading import sha256 as sha256
from gftzoo.weights.saving import metadata_of as metadata_of
from gftzoo.weights.saving import read_card as read_card
from gftzoo.weights.saving import save_model as save_model
from gftzoo.weights.saving import trained_further as trained_further
from gftzoo.weights.saving import write_card as write_card
