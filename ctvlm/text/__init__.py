"""Text processing without a model: sentences, words, laterality."""

from ctvlm.text.laterality import find_ambiguous_side, swap_label_sides, swap_sides
from ctvlm.text.opposites import Opposite, opposites
from ctvlm.text.scripts import is_latin, words
from ctvlm.text.sentences import plain_sentences, split_sentences

__all__ = [
    "Opposite",
    "is_latin",
    "opposites",
    "plain_sentences",
    "split_sentences",
    "swap_label_sides",
    "swap_sides",
    "find_ambiguous_side",
    "words",
]
