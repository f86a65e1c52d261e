"""Choose one of several texts sampled for the same case."""

from __future__ import annotations

from collections.abc import Sequence


def most_agreed(texts: Sequence[str]) -> int:
    """Index of the text with the highest mean sentence BLEU (sacrebleu) against the others; the first of equals.

    Minimum Bayes risk decoding (Eikema and Aziz, COLING 2020). The most probable report is short and general; this one
    is a typical sample of the model.
    """
    from sacrebleu.metrics import BLEU  # slow to import, and only needed here

    scorer = BLEU(effective_order=True)

    def agreement(text: str) -> float:
        with_all = sum(scorer.sentence_score(text, [other]).score for other in texts)
        return with_all - scorer.sentence_score(text, [text]).score

    return texts.index(max(dict.fromkeys(texts), key=agreement))
