"""A batch from a data worker is that of the main process, and takes one file descriptor."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest
import torch

from ctvlm.engine.loading.packed_batch import PackedBatch
from ctvlm.structures import CTDataSample

Row = namedtuple("Row", "tensor number")
# Batches of 64 cases with 8 tensors each; prints their sum.
LOAD = """
import resource, sys, torch
from torch.utils.data import DataLoader, Dataset
from ctvlm.engine.loops.seeded_loader import SeededLoader
from ctvlm.structures import CTDataSample

class Cases(Dataset):
    def __len__(self):
        return 256

    def __getitem__(self, index):
        values = [torch.full((2,), index) for _ in range(8)]
        return dict(inputs=dict(zip("abcdef", values)), data_samples=CTDataSample(lesion_map=values[6], y=values[7]))

resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
workers = int(sys.argv[1])
loader = SeededLoader(DataLoader(Cases(), batch_size=64, num_workers=workers, collate_fn=list), seed=0)
total = 0
for batch in list(loader.batches(0)):
    for case in batch:
        total += sum(int(value.sum()) for value in (*case["inputs"].values(), case["data_samples"].y))
print(total)
"""


def same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, CTDataSample):
        return type(a) is type(b) and same(dict(a.all_items()), dict(b.all_items()))
    return type(a) is type(b) and a == b


def test_content_types_and_structure_are_kept():
    shared = torch.arange(5)
    sample = CTDataSample(lesion_map=torch.ones(3, 4, 5, dtype=torch.uint8), labels=dict(nodule=1, cyst=None))
    sample.set_metainfo(dict(case_id="a", spacing=(3.0, 1.0, 1.0)))
    dtypes = (torch.bool, torch.int8, torch.int16, torch.float16, torch.bfloat16, torch.float64, torch.complex64)
    batch = dict(
        inputs=[dict(volume=torch.randn(1, 8, 70, 70), region_map=None), Row(torch.tensor(float("nan")), 3)],
        data_samples=[sample, sample],
        each=tuple((torch.arange(7) % 2).to(dtype) for dtype in dtypes),
        empty=torch.zeros(0, 3, dtype=torch.int16),
        strided=torch.arange(24).view(4, 6).t()[:, ::2],
        expanded=torch.ones(1).expand(4),
        parameter=torch.nn.Parameter(torch.randn(2)),
        sparse=torch.eye(3).to_sparse(),
        array=np.arange(4, dtype=np.int16),
        again=[shared, shared],
    )
    read = PackedBatch.pack(batch).unpack()
    assert same(read.pop("sparse").to_dense(), batch.pop("sparse").to_dense())
    assert same(read, batch)
    assert read["again"][0] is read["again"][1] and read["data_samples"][0] is read["data_samples"][1]
    assert read["inputs"][0]["volume"].data_ptr() % 16 == 0


def test_a_small_tensor_does_not_keep_the_batch():
    small, large = PackedBatch.pack([torch.ones(4), torch.ones(2**20)]).unpack()
    assert small.untyped_storage().nbytes() == 16
    large += 1
    assert small.tolist() == [1] * 4


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit of open files")
@pytest.mark.parametrize("workers", [0, 2])
def test_large_batches_need_few_file_descriptors(workers):
    done = subprocess.run([sys.executable, "-c", LOAD, str(workers)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(7 * 2 * sum(range(256)))


# A worker that has no memory for its batch, and one that cannot send it; prints the seconds and the error.
FAIL = """
import resource, sys, time, torch
from torch.utils.data import DataLoader, Dataset
from ctvlm.engine.loops.seeded_loader import SeededLoader

class Cases(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        if sys.argv[1] == "memory":
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
        return torch.ones(2**20)

class Unsendable:
    def __reduce__(self):
        raise OSError(24, "Too many open files")

def pack(batch):
    return Unsendable()

if sys.argv[1] == "send":
    import ctvlm.engine.loops.seeded_loader as module
    module.PackedBatch.pack = pack
loader = SeededLoader(DataLoader(Cases(), batch_size=2, num_workers=1, collate_fn=list, timeout=600), seed=0)
start = time.monotonic()
try:
    next(iter(loader))
except Exception as error:
    print(time.monotonic() - start, type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limits of resources")
@pytest.mark.parametrize(
    ("what", "error", "cause"),
    [
        ("memory", "DataWorkerError no shared memory for a batch of 8.0 MiB (unable to", "Enlarge /dev/shm"),
        ("send", "RuntimeError DataLoader worker", "cannot send its batch (OSError: [Errno 24] Too many open files)"),
    ],
)
def test_a_batch_that_cannot_be_sent_is_an_error_at_once(what, error, cause):
    done = subprocess.run([sys.executable, "-c", FAIL, what], capture_output=True, text=True, timeout=900)
    seconds, found = done.stdout.strip().split(" ", 1)
    assert float(seconds) < 500, done.stderr  # not the timeout of the data loader
    assert found.startswith(error), done.stdout
    assert cause in done.stdout + done.stderr
