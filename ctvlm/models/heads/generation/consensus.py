"""Of several texts drawn for one case, the one that the others agree with."""

from __future__ import annotations

from collections.abc import Sequence


def most_agreed(texts: Sequence[str]) -> int:
    """Index of the text whose mean sentence BLEU against the others is highest, the first of equals.

    Minimum Bayes risk decoding (Eikema and Aziz, COLING 2020): the most probable report is short and says little; this
    one is a typical draw of those that the model holds likely. sacrebleu counts.
    """
    from sacrebleu.metrics import BLEU  # a second to import, and only for this

    scorer = BLEU(effective_order=True)

    def agreement(text: str) -> float:
        with_all = sum(scorer.sentence_score(text, [other]).score for other in texts)
        return with_all - scorer.sentence_score(text, [text]).score

    return texts.index(max(dict.fromkeys(texts), key=agreement))
