"""Division of texts into passes of similar length."""

from __future__ import annotations

from collections.abc import Sequence

# Cost of one more pass, as the number of tokens whose computation takes as long. Both are estimates; the one for other
# devices, on which a pass of a few tokens takes as long as a large one, was not measured on a GPU.
PASS_COST = {"cpu": 64}
PASS_COST_ELSEWHERE = 4000
# Of a pass that computes attention only, whose cost per token is lower.
PACKED_PASS_COST = {"cpu": 500}


def divide(lengths: Sequence[int], largest_pass: int, pass_cost: int) -> list[slice]:
    """Passes over texts sorted by length (shortest first), with the least padding and overhead.

    A pass costs its texts times the length of its longest text, plus ``pass_cost``. The sum over all passes is
    minimised exactly, by dynamic programming.

    Args:
        lengths: tokens of each text, not decreasing.
        largest_pass: maximum number of texts of a pass.
    """
    best = [0.0]
    start_of: list[int] = []
    for end in range(1, len(lengths) + 1):
        length = lengths[end - 1]
        starts = range(max(0, end - largest_pass), end)
        start = min(starts, key=lambda i: best[i] + (end - i) * length)
        best.append(best[start] + (end - start) * length + pass_cost)
        start_of.append(start)
    passes: list[slice] = []
    end = len(lengths)
    while end:
        passes.append(slice(start_of[end - 1], end))
        end = start_of[end - 1]
    return passes[::-1]


def pass_cost(device_type: str) -> int:
    """``PASS_COST`` of a device."""
    return PASS_COST.get(device_type, PASS_COST_ELSEWHERE)


def packed_pass_cost(device_type: str) -> int:
    """``PACKED_PASS_COST`` of a device."""
    return PACKED_PASS_COST.get(device_type, PASS_COST_ELSEWHERE)
