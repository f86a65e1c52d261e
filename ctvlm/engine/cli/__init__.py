"""Utilities of the command-line tools: configs and options, terminal output, error messages, result tables."""
