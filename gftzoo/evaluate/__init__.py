"""Evaluation: `evaluate` scores a model or images by a protocol, `sweep` does so along a guidance curve.

metrics and streaming hold the mathematics, features the networks, references what is compared with, records the result.
"""

from gftzoo.evaluate.evaluator import Evaluator, evaluate
from gftzoo.evaluate.protocol import Protocol, choose_protocol
from gftzoo.evaluate.records import ScoreRecord, compare
from gftzoo.evaluate.sweep import parse_values, plot_curves, strip, sweep, write_csv

__all__ = [
    "Evaluator",
    "Protocol",
    "ScoreRecord",
    "choose_protocol",
    "compare",
    "evaluate",
    "parse_values",
    "plot_curves",
    "strip",
    "sweep",
    "write_csv",
]
