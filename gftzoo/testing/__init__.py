"""The conformance kit: whether a family keeps the contract, and which sentence of it is broken if not.

    gftzoo check-plugin acme

or, in a plugin's own tests:

    from gftzoo.testing import conformance

    test_acme = conformance("acme")
"""

from gftzoo.testing import conditions, losses, predictions, running, sampling, temperature  # they fill CHECKS
from gftzoo.testing.broken import Broken
from gftzoo.testing.contract import CHECKS, Check
from gftzoo.testing.report import Finding, examine
from gftzoo.testing.subject import Subject, subject_of
from gftzoo.testing.suite import conformance

__all__ = [
    "CHECKS",
    "Broken",
    "Check",
    "Finding",
    "Subject",
    "conditions",
    "conformance",
    "examine",
    "losses",
    "predictions",
    "running",
    "sampling",
    "subject_of",
    "temperature",
]
