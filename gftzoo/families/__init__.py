"""Families at work: found, loaded, held against the contract, and the typed door to their hooks."""
