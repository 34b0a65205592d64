"""Evaluation: `evaluate` scores a model or images by a protocol, `sweep` does so along a guidance curve.

metrics and streaming hold the mathematics, features the networks, references what is compared with, records the result.
Each name is imported when it is first asked for: who writes images needs no torchmetrics, slower to import than torch.
"""

from typing import TYPE_CHECKING

from gftzoo.lazy import resolver

_HOME = {
    "Evaluator": "gftzoo.evaluate.evaluator",
    "Protocol": "gftzoo.evaluate.protocol",
    "ScoreRecord": "gftzoo.evaluate.records",
    "choose_protocol": "gftzoo.evaluate.protocol",
    "compare": "gftzoo.evaluate.records",
    "evaluate": "gftzoo.evaluate.evaluator",
    "parse_values": "gftzoo.evaluate.sweep",
    "plot_curves": "gftzoo.evaluate.sweep",
    "strip": "gftzoo.evaluate.sweep",
    "write_csv": "gftzoo.evaluate.sweep",
}
__all__ = list(_HOME)

if TYPE_CHECKING:
    from gftzoo.evaluate.evaluator import Evaluator as Evaluator
    from gftzoo.evaluate.evaluator import evaluate as evaluate
    from gftzoo.evaluate.protocol import Protocol as Protocol
    from gftzoo.evaluate.protocol import choose_protocol as choose_protocol
    from gftzoo.evaluate.records import ScoreRecord as ScoreRecord
    from gftzoo.evaluate.records import compare as compare
    from gftzoo.evaluate.sweep import parse_values as parse_values
    from gftzoo.evaluate.sweep import plot_curves as plot_curves
    from gftzoo.evaluate.sweep import strip as strip
    from gftzoo.evaluate.sweep import write_csv as write_csv

__getattr__ = resolver(__name__, _HOME)
