"""Checks of the contract: each tests one sentence of a hook's documentation, and quotes it when it is broken."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass

from gftzoo.contract.hookspecs import GenerativeFamily
from gftzoo.testing.subject import Subject


@dataclass(frozen=True)
class Check:
    """One test of a family.

    Attributes:
        name: of the check, with hyphens.
        hook: whose documentation makes the promise.
        sentence: the promise, word for word.
        measure: raises Broken with the numbers, or returns them where all is well.
        slow: takes tens of seconds (compilation, other processes).
    """

    name: str
    hook: str
    sentence: str
    measure: Callable[[Subject], str]
    slow: bool = False

    @property
    def title(self) -> str:
        """What the check establishes, in words: the first line of its documentation."""
        return (inspect.getdoc(self.measure) or self.name).split("\n", 1)[0]


CHECKS: list[Check] = []
SENTENCE = re.compile(r"\S.*?\.(?=\s|$)")


def promises(hook: str, words: str, *, slow: bool = False) -> Callable[[Callable[[Subject], str]], Check]:
    """Makes a check of a function and adds it to CHECKS; it tests the sentence of the hook in which `words` stand."""
    (sentence,) = (found for found in SENTENCE.findall(spoken(hook)) if words in found)

    def decorate(measure: Callable[[Subject], str]) -> Check:
        check = Check(measure.__name__.replace("_", "-"), hook, sentence, measure, slow)
        CHECKS.append(check)
        return check

    return decorate


def spoken(hook: str) -> str:
    """A hook's documentation on one line."""
    return " ".join((inspect.getdoc(getattr(GenerativeFamily, hook)) or "").split())
