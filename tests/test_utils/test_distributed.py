from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ctvlm.utils import all_gather_with_grad

ROWS = (3, 2)  # of rank 0 and rank 1


def make_model():
    torch.manual_seed(0)
    return nn.Linear(4, 6).double(), nn.Linear(5, 6).double()


def make_batch():
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(sum(ROWS), n, generator=generator, dtype=torch.float64) for n in (4, 5))


def info_nce(image, text):
    logits = F.normalize(image, dim=1) @ F.normalize(text, dim=1).T / 0.2
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def run_rank(rank, meeting, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=2)
    image_net, text_net = (DistributedDataParallel(net) for net in make_model())
    start = sum(ROWS[:rank])
    image, text = (x[start : start + ROWS[rank]] for x in make_batch())
    gathered = [all_gather_with_grad(net(x)) for net, x in ((image_net, image), (text_net, text))]
    loss = info_nce(*gathered)
    loss.backward()
    grads = [p.grad.tolist() for net in (image_net, text_net) for p in net.parameters()]
    if rank == 1:
        queue.put((loss.item(), gathered[0].tolist(), grads))
        queue.join()
    dist.destroy_process_group()


def test_two_ranks_with_uneven_rows_equal_one_process(tmp_path):
    context = mp.get_context("spawn")
    queue = context.JoinableQueue()
    processes = [context.Process(target=run_rank, args=(rank, tmp_path / "meeting", queue)) for rank in range(2)]
    for process in processes:
        process.start()
    loss, features, grads = queue.get(timeout=300)
    queue.task_done()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0

    nets, batch = make_model(), make_batch()
    outputs = [net(x) for net, x in zip(nets, batch)]
    expected = info_nce(*outputs)
    expected.backward()
    assert loss == pytest.approx(expected.item(), abs=1e-12)
    torch.testing.assert_close(torch.tensor(features, dtype=torch.float64), outputs[0].detach())
    for found, parameter in zip(grads, (p for net in nets for p in net.parameters())):
        torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), parameter.grad)


def test_one_process_returns_its_tensor():
    x = torch.randn(3, 2, requires_grad=True)
    assert all_gather_with_grad(x) is x
