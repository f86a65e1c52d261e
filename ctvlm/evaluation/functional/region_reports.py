"""What two reports say of each region."""

from __future__ import annotations

from collections.abc import Collection, Iterable


def region_texts(steps: Iterable[tuple[str, Collection[int]]]) -> dict[int, str]:
    """Region id to everything that the steps (text, ids of their regions) say of it, in their order."""
    said: dict[int, list[str]] = {}
    for text, regions in steps:
        for region in sorted(set(regions)):
            said.setdefault(region, []).append(text.strip())
    return {region: " ".join(texts) for region, texts in said.items()}


def paired_region_texts(
    predicted: Iterable[tuple[str, Collection[int]]], reference: Iterable[tuple[str, Collection[int]]]
) -> list[tuple[int, str, str]]:
    """(region, generated text, reference text) of each region that the reference speaks of.

    A region of which nothing is generated is paired with the empty text, so that leaving it out scores nothing. What is
    generated of other regions is paired with nothing: ``mention_scores`` counts it.
    """
    said, expected = region_texts(predicted), region_texts(reference)
    return [(region, said.get(region, ""), expected[region]) for region in sorted(expected)]


def mention_scores(hits: float, generated: float, expected: float) -> dict[str, float]:
    """Precision, recall and F1 of the regions spoken of, from counts of (case, region) pairs.

    Args:
        hits, generated, expected: pairs in both reports, in the generated ones, in the references.

    All NaN without a reference that speaks of a region; precision is 0 where nothing is generated.
    """
    if not expected:
        return dict.fromkeys(("mention_precision", "mention_recall", "mention_f1"), float("nan"))
    return {
        "mention_precision": float(hits / generated) if generated else 0.0,
        "mention_recall": float(hits / expected),
        "mention_f1": float(2 * hits / (generated + expected)),
    }
