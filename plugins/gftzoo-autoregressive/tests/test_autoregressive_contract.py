"""Every family of this package keeps the contract."""

from gftzoo.testing import CHECKS, conformance

test_contract = conformance(
    "rar-nano", "vqgan-nano", "vit-vqgan-nano", "open-magvit2-nano", "rq-nano", checks=[c for c in CHECKS if not c.slow]
)
