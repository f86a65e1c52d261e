"""What the command-line tools share: configs and their options, the terminal, error messages, result tables."""
