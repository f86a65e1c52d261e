"""Experiments of many training runs: hyperparameter search, and tables over configs and seeds."""
