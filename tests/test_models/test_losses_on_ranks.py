"""Loss and every gradient on k ranks equal those of one process that holds the whole batch."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from ctvlm.models.space import step_attention
from ctvlm.registry import LOSSES
from ctvlm.structures import MeanTerms, Pairs
from tests.ranks import on_ranks

P, N = 6, 7
# Uneven on purpose: ranks hold different numbers of cases, regions and steps, one of them no region.
RANKS = {2: [[0, 1, 2], [3, 4, 5, 6, 7]], 4: [[0, 1], [2], [3, 4, 5], [6, 7]]}
REGIONS_PER_CASE = [3, 1, 0, 4, 2, 5, 1, 2]
STEPS_PER_CASE = [2, 3, 1, 0, 4, 2, 2, 1]
CASES = len(REGIONS_PER_CASE)
LOCAL = dict(local_loss=True, similar=0.2)
LOSSES_TESTED = [
    ("volume", dict(type="CrossModalContrastiveLoss")),
    ("volume", dict(type="CrossModalContrastiveLoss", **LOCAL)),
    ("volume", dict(type="SigmoidContrastiveLoss", similar=0.2)),
    ("volume", dict(type="SigmoidContrastiveLoss", local_loss=True)),
    ("region", dict(type="RegionAlignmentLoss", similar=0.2)),
    ("region", dict(type="RegionAlignmentLoss", cross_region=False, local_loss=True)),
    ("region", dict(type="SigmoidContrastiveLoss", cross_region=False, **LOCAL)),
    ("step", dict(type="StepAlignmentLoss")),
    ("step", dict(type="StepAlignmentLoss", local_loss=True)),
    ("focus", dict(type="AttentionFocusLoss")),
    ("order", dict(type="StepOrderLoss", embed_dims=P)),
    ("opposite", dict(type="OppositeTextLoss")),
    ("prompts", dict(type="PromptClassificationLoss")),
    ("masked", dict(type="MaskedReconstructionLoss")),
    ("segmentation", dict(type="SegmentationLoss")),
    (
        "all",
        dict(type="MultiTaskLoss", names=["volume", "region", "segmentation"], weights=dict(region=0.5), learned=True),
    ),
]


def batch():
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return dict(
        image=random(CASES, P),
        text=random(CASES, P),
        ids=torch.tensor([0, 1, 1, 2, 3, 0, 4, 5]),
        region=[random(n, P) for n in REGIONS_PER_CASE],
        region_text=[random(n, P) for n in REGIONS_PER_CASE],
        region_ids=[torch.arange(n) % 3 for n in REGIONS_PER_CASE],
        region_text_ids=[torch.arange(n) % 3 + 7 * (i % 3) for i, n in enumerate(REGIONS_PER_CASE)],
        patches=random(CASES, N, P),
        steps=random(CASES, max(STEPS_PER_CASE), P),
        step_mask=torch.tensor([[s < n for s in range(max(STEPS_PER_CASE))] for n in STEPS_PER_CASE]),
        step_ids=torch.arange(CASES * max(STEPS_PER_CASE)).view(CASES, -1) % 9,
        shares=random(CASES, N, P).softmax(dim=-1),
        known=torch.arange(CASES * N).view(CASES, N) % 3 > torch.tensor([[0], [2], [-1], [0], [1], [0], [2], [-1]]),
    )


def loss_of(level, layers, module, cases):
    """The loss over some cases, all features through shared weights so that they have gradients to compare."""
    data = batch()
    visual, textual = layers
    if level == "all":
        found = {name: loss_of(name, layers, part, cases) for name, part in module.parts.items()}
        return sum(module(found).values())
    if level == "volume":
        return module(Pairs(visual(data["image"][cases]), textual(data["text"][cases]), data["ids"][cases]))
    if level == "region":
        region = torch.cat([data["region"][i] for i in cases])
        text = torch.cat([data["region_text"][i] for i in cases])
        text_ids = torch.cat([data["region_text_ids"][i] for i in cases])
        ids = torch.cat([data["region_ids"][i] for i in cases])
        return module(Pairs(visual(region), textual(text), text_ids, ids))
    if level == "segmentation":
        terms = module.terms(visual(data["patches"][cases]), data["shares"][cases], data["known"][cases])
        return module(MeanTerms(terms))
    if level == "opposite":
        mask = torch.tensor([[True, case % 2 == 0] for case in cases])
        others = textual(data["steps"][cases][:, :2])
        return module(MeanTerms(module.terms(visual(data["image"][cases]), textual(data["text"][cases]), others, mask)))
    if level == "prompts":
        prompts = F.normalize(textual(data["text"]), dim=-1)  # of four findings
        labels = torch.tensor([[0.0, 1.0, math.nan, float(case % 2)] for case in cases], dtype=torch.float64)
        return module(MeanTerms(module.terms(visual(data["image"][cases]), prompts[:4], prompts[4:], labels)))
    if level == "masked":
        chosen = data["known"][cases]
        return module(
            MeanTerms(module.terms(visual(data["patches"][cases][chosen]), 300 * data["shares"][cases][chosen]))
        )
    steps, patches = textual(data["steps"][cases]), visual(data["patches"][cases])
    attention = step_attention(steps, patches, 10.0, torch.ones(len(cases), N, dtype=torch.bool))
    mask = data["step_mask"][cases]
    if level == "focus":
        terms = module.terms(attention, F.one_hot(data["step_ids"][cases] % N, N) * mask[..., None])
        return module(MeanTerms(terms))
    if level == "order":
        return module(MeanTerms(module.terms(attention @ patches, mask)))
    return module(Pairs((attention @ patches)[mask], steps[mask], data["step_ids"][cases][mask]))


def run(level, cfg, cases):
    torch.manual_seed(1)
    layers = torch.nn.ModuleList([torch.nn.Linear(P, P), torch.nn.Linear(P, P)]).double()
    module = LOSSES.build(dict(cfg)).double()
    if level == "all":
        types = ("SigmoidContrastiveLoss", "RegionAlignmentLoss", "SegmentationLoss")
        module.parts = {
            name: LOSSES.build(dict(type=t)).double() for name, t in zip(module.weights, types, strict=True)
        }
        module.extra = torch.nn.ModuleDict(module.parts)
    loss = loss_of(level, layers, module, cases)
    loss.backward()
    parameters = dict(layers.named_parameters()) | dict(module.named_parameters())
    return loss.detach(), {name: p.grad for name, p in parameters.items()}


def on_rank(rank, world_size):
    results = []
    for level, cfg in LOSSES_TESTED:
        loss, gradients = run(level, cfg, RANKS[world_size][rank])
        for gradient in gradients.values():  # what DDP does
            if gradient is not None:
                dist.all_reduce(gradient)
                gradient /= world_size
        results.append((loss, gradients))
    return results


@pytest.fixture(scope="module")
def results():
    return {world_size: on_ranks(on_rank, world_size) for world_size in RANKS}


@pytest.mark.parametrize("world_size", RANKS)
@pytest.mark.parametrize("index", range(len(LOSSES_TESTED)))
def test_ranks_equal_one_process(results, world_size, index):
    level, cfg = LOSSES_TESTED[index]
    expected_loss, expected_gradients = run(level, cfg, list(range(CASES)))
    assert any(gradient.abs().max() > 1e-4 for gradient in expected_gradients.values() if gradient is not None)
    for rank in range(world_size):
        loss, gradients = results[world_size][rank][index]
        torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-9)
        for name, expected in expected_gradients.items():
            torch.testing.assert_close(gradients[name], expected, rtol=0, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("level, cfg", [case for case in LOSSES_TESTED if case[1].get("similar") or case[0] == "all"])
def test_options_matter_here(level, cfg):
    """What the ranks are compared on differs from the loss without its option, or the comparison would say little."""
    plain = {k: v for k, v in cfg.items() if k not in ("similar", "weights")}
    assert abs(run(level, cfg, list(range(CASES)))[0] - run(level, plain, list(range(CASES)))[0]) > 1e-3
