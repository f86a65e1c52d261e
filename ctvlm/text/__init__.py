"""Text without a model: sentences, words, left and right."""

from ctvlm.text.laterality import swap_label_sides, swap_sides, unreliable_side
from ctvlm.text.scripts import is_latin, words
from ctvlm.text.sentences import plain_sentences, split_sentences

__all__ = [
    "is_latin",
    "plain_sentences",
    "split_sentences",
    "swap_label_sides",
    "swap_sides",
    "unreliable_side",
    "words",
]
