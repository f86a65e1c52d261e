"""Division of texts into passes."""

import itertools

import pytest
from hypothesis import given, settings, strategies as st

from ctvlm.models.text_encoders.passes import divide


def cost(lengths, passes, pass_cost):
    return sum((part.stop - part.start) * lengths[part.stop - 1] + pass_cost for part in passes)


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 8), st.integers(0, 40))
def test_no_division_is_cheaper(lengths, largest, pass_cost):
    lengths = sorted(lengths)
    passes = divide(lengths, largest, pass_cost)
    assert [i for part in passes for i in range(part.start, part.stop)] == list(range(len(lengths)))
    assert all(part.stop - part.start <= largest for part in passes)
    costs = []
    for inner in itertools.product([False, True], repeat=max(len(lengths) - 1, 0)):
        ends = [i + 1 for i, cut in enumerate(inner) if cut] + [len(lengths)]
        parts = [slice(start, end) for start, end in zip([0, *ends], ends)]
        if all(part.stop - part.start <= largest for part in parts):
            costs.append(cost(lengths, parts, pass_cost))
    assert cost(lengths, passes, pass_cost) == min(costs)


@pytest.mark.parametrize(("pass_cost", "passes"), [(0, 2), (1000, 1)])
def test_expensive_passes_are_fewer(pass_cost, passes):
    assert len(divide([2] * 10 + [40] * 2, 32, pass_cost)) == passes
