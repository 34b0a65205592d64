"""A model made ready for others: weights, card, scores and pictures in one folder, as the Hugging Face Hub has them."""

from gftzoo.publishing.folder import Publication as Publication
from gftzoo.publishing.folder import read_scores as read_scores
from gftzoo.publishing.folder import write_publication as write_publication
