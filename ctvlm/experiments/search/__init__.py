"""Hyperparameter search. Importing ``trials`` or ``report`` needs Optuna."""

from ctvlm.experiments.search.search_space import Choice, Range, Search, option_text, read_search

__all__ = ["Choice", "Range", "Search", "option_text", "read_search"]
