"""Comparison of models on the same cases: metrics, paired differences, cost."""
