"""A run as a whole: resolved from what is wanted, its cost known, built, and trained."""
