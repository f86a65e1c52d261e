"""The command line ``ctvlm COMMAND``.

Modules with the arguments of a command import torch and other large packages inside functions only, so that ``--help``
and usage errors answer at once.
"""

from ctvlm.cli.app import main, run_command

__all__ = ["main", "run_command"]
