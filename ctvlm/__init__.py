"""ctvlm: a plugin-based toolkit for 3D CT vision-language learning."""

from ctvlm import lazy_adafactor
from ctvlm.version import __version__

__all__ = ["__version__"]

# Here, because every module of ctvlm may be the first to import mmengine's optimizers.
lazy_adafactor.install()
