"""Loss and every gradient on k ranks equal those of one process that holds the whole batch."""

import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from ctvlm.models.losses.functional import step_attention
from ctvlm.models.losses.reduce import global_mean
from ctvlm.registry import LOSSES

NAMES = ["CrossModalContrastiveLoss", "RegionAlignmentLoss", "StepAlignmentLoss", "AttentionFocusLoss"]
P = 6
# Uneven on purpose: ranks hold different numbers of cases' regions and steps, one of them none.
REGIONS_PER_CASE = [3, 1, 0, 4, 2, 5, 1, 2]
STEPS_PER_CASE = [2, 3, 1, 0, 4, 2, 2, 1]
CASES = len(REGIONS_PER_CASE)


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
        patches=random(CASES, 7, P),
        steps=random(CASES, max(STEPS_PER_CASE), P),
        step_mask=torch.tensor([[s < n for s in range(max(STEPS_PER_CASE))] for n in STEPS_PER_CASE]),
        step_ids=torch.arange(CASES * max(STEPS_PER_CASE)).view(CASES, -1) % 9,
    )


def loss_of(name, layers, module, cases):
    """The loss over some cases, all features through shared weights so that they have gradients to compare."""
    data = batch()
    visual, textual = layers
    if name == "CrossModalContrastiveLoss":
        return module(visual(data["image"][cases]), textual(data["text"][cases]), data["ids"][cases])
    if name == "RegionAlignmentLoss":
        region = torch.cat([data["region"][i] for i in cases])
        text = torch.cat([data["region_text"][i] for i in cases])
        ids = torch.cat([data["region_ids"][i] for i in cases])
        return module(visual(region), textual(text), ids * 7, ids)
    steps, patches = textual(data["steps"][cases]), visual(data["patches"][cases])
    attention = step_attention(steps, patches, 10.0, torch.ones(len(cases), 7, dtype=torch.bool))
    if name == "AttentionFocusLoss":
        places = F.one_hot(data["step_ids"][cases] % 7, 7) * data["step_mask"][cases][..., None]
        return global_mean(module.terms(attention, places))
    mask = data["step_mask"][cases]
    return module((attention @ patches)[mask], steps[mask], data["step_ids"][cases][mask])


def modules(name):
    torch.manual_seed(1)
    layers = torch.nn.ModuleList([torch.nn.Linear(P, P), torch.nn.Linear(P, P)]).double()
    return layers, LOSSES.build(dict(type=name)).double()


def run(name, cases):
    layers, module = modules(name)
    loss = loss_of(name, layers, module, cases)
    loss.backward()
    return loss.detach(), [p.grad for p in (*layers.parameters(), *module.parameters())]


def worker(rank, world_size, port, results):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    share = CASES // world_size
    for name in NAMES:
        loss, gradients = run(name, list(range(rank * share, (rank + 1) * share)))
        for gradient in gradients:  # what DDP does
            dist.all_reduce(gradient)
            gradient /= world_size
        results[rank, name] = (loss, gradients)
    dist.destroy_process_group()


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_equal_one_process(world_size):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with mp.get_context("spawn").Manager() as manager:
        shared = manager.dict()
        mp.spawn(worker, (world_size, port, shared), nprocs=world_size)
        results = dict(shared)
    for name in NAMES:
        expected_loss, expected_gradients = run(name, list(range(CASES)))
        for rank in range(world_size):
            loss, gradients = results[rank, name]
            torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-9)
            for found, expected in zip(gradients, expected_gradients, strict=True):
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
