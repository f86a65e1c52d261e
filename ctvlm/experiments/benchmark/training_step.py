"""One training step of a config, on a fixed batch. Run as a script, it trains a step for each line of its input.

The script also runs with the modules of another commit (see baseline.py), so it imports only long-lived entry points.
With launcher ``pytorch``, it is one rank of a distributed training.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import FUNCTIONS, init_default_scope

from ctvlm.engine import CTDistributedDataParallel, init_distributed, load_config
from ctvlm.registry import DATASETS, MODELS
from ctvlm.utils import keep_freed_memory
from ctvlm.utils.memory import peak_memory


class TrainingStep:
    """Model, optimizer and cases of a config. In a process group, that of one rank: its own cases, and DDP.

    Args:
        cases: number of different cases of this process; a larger batch repeats them.
    """

    def __init__(self, cfg: Config, device: torch.device, cases: int) -> None:
        init_default_scope("ctvlm")
        if device.type == "cpu":
            keep_freed_memory()  # as the Runner does
        torch.manual_seed(0)
        loader = cfg.train_dataloader
        distributed = dist.is_initialized()
        ranks, self.rank = (dist.get_world_size(), dist.get_rank()) if distributed else (1, 0)
        if "num_cases" in loader.dataset:
            loader.dataset.num_cases = cases * ranks
        self.dataset = DATASETS.build(loader.dataset)
        self.device = device
        self.batch_size = loader.batch_size
        self.cases = min(cases, len(self.dataset))
        self.collate = FUNCTIONS.get(loader.get("collate_fn", dict(type="pseudo_collate"))["type"])
        self.model = MODELS.build(cfg.model)
        if hasattr(self.model, "fit_tokenizer"):
            self.model.fit_tokenizer(self.dataset.texts())
        self.model.to(device).train()
        self.wrapped = self.model
        if distributed:
            unused = cfg.get("find_unused_parameters", False)
            self.wrapped = CTDistributedDataParallel(
                self.model, broadcast_buffers=False, find_unused_parameters=unused
            )  # as the Runner does
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)

    def load(self) -> Any:
        """Build the cases of a batch and collate them."""
        first = self.rank * self.cases
        indices = ((first + i % self.cases) % len(self.dataset) for i in range(self.batch_size))
        return self.collate([copy.deepcopy(self.dataset[i]) for i in indices])

    def forward(self, batch: Any) -> torch.Tensor:
        """Sum of the losses."""
        with self.optim_wrapper.optim_context(self.model):
            losses = self.wrapped(**self.model.data_preprocessor(batch, True), mode="loss")
        return self.model.parse_losses(losses)[0]

    def run(self) -> dict[str, float]:
        """Train one step. Returns seconds of the input and of the step, the loss, and the peak memory."""
        start = time.perf_counter()
        batch = self.load()
        if dist.is_initialized():
            dist.barrier()  # no rank waits for the input of another one during the step
        middle = time.perf_counter()
        loss = self.forward(batch)
        self.optim_wrapper.update_params(loss)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - middle
        return dict(data_s=middle - start, step_s=seconds, loss=loss.item(), peak_bytes=peak_memory(self.device))


def main() -> None:
    """Arguments: config, device, number of cases, options of the config as JSON, launcher."""
    results, sys.stdout = sys.stdout, sys.stderr  # only results are printed to the output
    config, device, cases, options, launcher = sys.argv[1:]
    init_distributed(launcher)
    step = TrainingStep(load_config(config, json.loads(options)), torch.device(device), int(cases))
    ready = dict(peak_bytes=peak_memory(step.device), batch=step.batch_size)
    print(json.dumps(ready), file=results, flush=True)
    for _ in sys.stdin:
        print(json.dumps(step.run()), file=results, flush=True)


if __name__ == "__main__":
    main()
