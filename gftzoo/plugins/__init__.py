"""Plugins: found by entry-point metadata without importing anything, loaded one by one, each guarded from the rest."""
