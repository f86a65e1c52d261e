"""Name of the region scheme that is used where none is given."""

DEFAULT_SCHEME = "thorax_abdomen_20"
