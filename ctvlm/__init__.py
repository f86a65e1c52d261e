"""ctvlm: a plugin-based toolkit for 3D CT vision-language learning."""

from ctvlm.version import __version__

__all__ = ["__version__"]
