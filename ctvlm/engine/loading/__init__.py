"""Errors of data loaders and of their workers, with the case."""
