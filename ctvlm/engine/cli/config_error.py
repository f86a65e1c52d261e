"""The error of configs and their options."""

from ctvlm.utils.errors import CTVLMError


class ConfigError(CTVLMError):
    """A config that cannot be read or is invalid, or an option that does not fit the config."""
