"""Readers under damaged input: a framework, and one target for each reader. Run by tools/fuzz.py."""
