"""Merge, export and check: a checkpoint in, a model folder out."""
