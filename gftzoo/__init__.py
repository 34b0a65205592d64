"""gftzoo: a model zoo of visual generators trained and sampled without guidance.

Importing this module is light; torch comes with the first `load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gftzoo.lazy import resolver
from gftzoo.plugins.discovery import hide_malformed

__version__ = "0.1.0"

_HOME = {
    "GftzooError": "gftzoo.errors",
    "Model": "gftzoo.model",
    "ModelCard": "gftzoo.zoo",
    "get_card": "gftzoo.zoo",
    "hookimpl": "gftzoo.contract.hookspecs",
    "list_models": "gftzoo.zoo",
    "load": "gftzoo.loading",
}
__all__ = ["__version__", *_HOME]  # noqa: PLE0604 (names are resolved lazily below)

if TYPE_CHECKING:
    from gftzoo.catalogue.cards import ModelCard as ModelCard
    from gftzoo.contract.hookspecs import hookimpl as hookimpl
    from gftzoo.errors import GftzooError as GftzooError
    from gftzoo.loading import load as load
    from gftzoo.model import Model as Model
    from gftzoo.zoo import get_card as get_card
    from gftzoo.zoo import list_models as list_models


hide_malformed()  # before pydantic or torch is imported: a distribution of anyone's with broken metadata ends them


__getattr__ = resolver(__name__, _HOME)
