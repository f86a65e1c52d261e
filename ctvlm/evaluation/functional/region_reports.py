"""Comparison of two reports region by region."""

from __future__ import annotations

from collections.abc import Collection, Iterable


def region_texts(steps: Iterable[tuple[str, Collection[int]]]) -> dict[int, str]:
    """Region id to the joined texts of the steps (text, region ids) that mention it, in order."""
    texts_of: dict[int, list[str]] = {}
    for text, regions in steps:
        for region in sorted(set(regions)):
            texts_of.setdefault(region, []).append(text.strip())
    return {region: " ".join(texts) for region, texts in texts_of.items()}


def paired_region_texts(
    predicted: Iterable[tuple[str, Collection[int]]], reference: Iterable[tuple[str, Collection[int]]]
) -> list[tuple[int, str, str]]:
    """(region, generated text, reference text) of each region that the reference mentions.

    The generated text is empty if the generated report does not mention the region. Regions that only the generated
    report mentions are excluded; ``mention_scores`` counts them.
    """
    generated, expected = region_texts(predicted), region_texts(reference)
    return [(region, generated.get(region, ""), expected[region]) for region in sorted(expected)]


def mention_scores(hits: float, generated: float, expected: float) -> dict[str, float]:
    """Precision, recall and F1 of the mentioned regions from counts of (case, region) pairs.

    All NaN if no reference mentions a region; precision is 0 if no generated report does.

    Args:
        hits, generated, expected: number of pairs in both reports, in the generated reports, in the references.
    """
    if not expected:
        return dict.fromkeys(("mention_precision", "mention_recall", "mention_f1"), float("nan"))
    return {
        "mention_precision": float(hits / generated) if generated else 0.0,
        "mention_recall": float(hits / expected),
        "mention_f1": float(2 * hits / (generated + expected)),
    }
