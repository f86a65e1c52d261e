"""Experiments over many runs: hyperparameter search and tables over configs and seeds."""
