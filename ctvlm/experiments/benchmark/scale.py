"""Cost of a training step at full size, computed without running it.

The weights and the volume are fake tensors, which have shapes and no values: the complete training step (encoder, text
encoder, objectives, losses, backward pass) takes seconds at any size. Its operations are counted, and the tensors that
are kept for the backward pass. With bfloat16 autocast, as with ``--amp``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ctvlm.experiments.benchmark.measure import CPU_ATTENTION
from ctvlm.models.layers.patch_cells import in_parts
from ctvlm.registry import MODELS
from ctvlm.structures import CoTStep, CTDataSample
from ctvlm.utils import CTVLMError

# Text of a case: sentences of the findings, words of a sentence, words of the impression. Means of 240 reports of
# CT-RATE's validation set. Each word is one token here.
STEPS, WORDS, IMPRESSION = 17, 14, 41


@dataclass
class StepCost:
    """Cost of a training step; operations and bytes are those of one case, unless they are of the model.

    Attributes:
        tokens: patches of a volume. All are encoded, also with ``token_selection='body'``.
        flops: of the forward and backward pass, without those that activation checkpointing repeats.
        repeated_flops: of the blocks, forward: repeated by activation checkpointing. It stops before the last product
            of a block, so that this is about 2% of the step too much.
        weight_bytes, gradient_bytes, optimizer_bytes: of the model.
        copy_bytes: of the weights in bfloat16, once per step.
        kept_bytes: tensors that are kept for the backward pass, without activation checkpointing.
        checkpointed_bytes: the same with checkpointing of all blocks, one of which is recomputed.
        input_bytes: volume and region map.
        gathered_bytes: features that all ranks exchange for the losses.
    """

    parameters: int
    tokens: int
    flops: int
    repeated_flops: int
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    copy_bytes: int
    kept_bytes: int
    checkpointed_bytes: int
    input_bytes: int
    gathered_bytes: int


def step_cost(cfg: Config) -> StepCost:
    """Compute the cost of a training step of a config, whose encoder has blocks (ThreeDVisionEncoder).

    Raises:
        CTVLMError: another encoder, or a training step that reads values of tensors.
    """
    init_default_scope("ctvlm")
    model, inputs, samples = fake_step(cfg)
    try:
        step = count_step(model, inputs, samples)
    except DataDependentOutputException as error:
        raise CTVLMError(f"{cfg.filename}: the training step reads values of a tensor ({error.func})") from error
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    backbone: Any = model.backbone
    return StepCost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        tokens=inputs["volume"][0].numel() // math.prod(backbone.patch_size),
        flops=step.flops,
        repeated_flops=step.repeated_flops,
        weight_bytes=sum(parameter.nbytes for parameter in model.parameters()),
        gradient_bytes=sum(parameter.nbytes for parameter in trained),
        optimizer_bytes=_optimizer_bytes(cfg, model),
        copy_bytes=step.copy_bytes,
        kept_bytes=step.kept_bytes,
        checkpointed_bytes=step.checkpointed_bytes,
        input_bytes=sum(inputs[name].nbytes for name in ("volume", "region_map")),
        gathered_bytes=step.gathered_bytes,
    )


def fake_step(cfg: Config) -> tuple[nn.Module, dict[str, Any], list[CTDataSample]]:
    """Model without values, and a case of full size without values, as ``CoTContrastiveVLM.forward`` takes them.

    Host data is real: the region map, texts and spacings. A training step reads values of host data only.

    Raises:
        CTVLMError: the encoder has no blocks whose activations can be checkpointed.
    """
    config = copy.deepcopy(cfg.model)
    config.pop("chunk_size", None)
    size = config.backbone.get("img_size")
    with torch.device("meta"):
        model: Any = MODELS.build(config).train()
    if size is None or not hasattr(model.backbone, "checkpointed"):
        found = type(model.backbone).__name__
        raise CTVLMError(f"{cfg.filename}: expected a ThreeDVisionEncoder with img_size, found {found}")
    model.backbone.token_selection = "none"  # it depends on the values of the volume
    samples = cases_of_mean_length(1, model.backbone.num_regions)
    model.fit_tokenizer([text for s in samples for text in (s.impression, *(step.text for step in s.steps))])
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        volume_B1DHW = torch.empty(1, 1, *size, dtype=torch.int16)
    region_map_BDHW = torch.zeros(1, *size, dtype=torch.int16)
    return model, dict(volume=volume_B1DHW, region_map=region_map_BDHW, spacing=torch.ones(1, 3)), samples


def cases_of_mean_length(number: int, num_regions: int) -> list[CTDataSample]:
    """Cases with distinct texts of the lengths above."""
    words = cycle(f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdfgklmnprst")

    def text(count: int, case: int, place: int) -> str:
        return " ".join([f"c{case}", f"s{place}", *islice(words, count - 2)])

    samples = []
    for case in range(number):
        sample = CTDataSample(metainfo=dict(case_id=f"case {case}", spacing=(3.0, 1.0, 1.0)))
        sample.impression = text(IMPRESSION, case, STEPS)
        sample.steps = [CoTStep(text(WORDS, case, s), (1 + s % num_regions,)) for s in range(STEPS)]
        samples.append(sample)
    return samples


@dataclass
class CountedStep:
    """Counts of one training step. Bytes of weights are not among ``kept_bytes`` and ``checkpointed_bytes``."""

    flops: int = 0
    repeated_flops: int = 0
    copy_bytes: int = 0
    gathered_bytes: int = 0
    outside_bytes: int = 0
    block_bytes: list[int] = field(default_factory=list)
    block_input_bytes: list[int] = field(default_factory=list)

    @property
    def kept_bytes(self) -> int:
        """Kept for the backward pass without checkpointing."""
        return self.outside_bytes + sum(self.block_bytes)

    @property
    def checkpointed_bytes(self) -> int:
        """Kept with checkpointing of all blocks: their inputs, and all tensors of the block that is recomputed."""
        return self.outside_bytes + sum(self.block_input_bytes) + max(self.block_bytes, default=0)


def count_step(model: Any, inputs: dict[str, Any], samples: list[CTDataSample]) -> CountedStep:
    """Run the forward and backward pass of a model, real or fake, on the CPU, and count.

    Activation checkpointing of the model is off while it runs.
    """
    counted, saved = CountedStep(), _Saved(model)
    with ExitStack() as stack:
        counter = stack.enter_context(FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION))
        stack.enter_context(mock.patch.object(model.backbone, "checkpointed", [False] * len(model.backbone.blocks)))
        # All patches at once, as on a GPU; parts on the CPU have a copy of the weight each.
        stack.enter_context(mock.patch.dict(in_parts.__globals__, PART=2**62))
        stack.enter_context(_watched_blocks(model.backbone.blocks, counted, saved, counter))
        with saved, saved_tensors_hooks(saved.keep, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16):
                features = model.features(inputs, samples)
                losses = model.losses_of(features)
            loss = model.parse_losses(losses)[0]
        loss.backward()
        counted.flops = counter.get_total_flops()
    counted.outside_bytes += saved.take()
    counted.copy_bytes = _bytes(saved.copies)
    exchanged = [value for found in features.values() for value in vars(found).values() if isinstance(value, Tensor)]
    counted.gathered_bytes = sum(tensor.nbytes for tensor in exchanged)
    return counted


class _Saved(TorchDispatchMode):
    """Bytes of the distinct storages that autograd keeps, without those of the weights and their bfloat16 copies.

    Attributes:
        copies: the copies of weights that autocast makes, by storage.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.weights = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
        # Both stay alive, so that no other tensor gets their storage.
        self.copies: dict[int, Tensor] = {}
        self.kept: dict[int, Tensor] = {}
        self._taken = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        if function is torch.ops.aten._to_copy.default and _storage(args[0]) in self.weights:
            self.copies[_storage(out)] = out
        return out

    def keep(self, tensor: Tensor) -> Tensor:
        """Hook of autograd: it keeps ``tensor``."""
        if (storage := _storage(tensor)) not in self.weights and storage not in self.copies:
            self.kept.setdefault(storage, tensor)
        return tensor

    def take(self) -> int:
        """Bytes of the storages that were kept since the last call."""
        total = _bytes(self.kept)
        new, self._taken = total - self._taken, total
        return new


def _bytes(tensors: dict[int, Tensor]) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors.values())


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextmanager
def _watched_blocks(
    blocks: nn.ModuleList, counted: CountedStep, saved: _Saved, counter: FlopCounterMode
) -> Iterator[None]:
    """Record what autograd keeps in each block, and the operations of its forward pass."""

    def enter(block: nn.Module, args: Any) -> None:
        counted.outside_bytes += saved.take()
        counted.block_input_bytes.append(args[0].nbytes)
        counted.repeated_flops -= counter.get_total_flops()

    def leave(block: nn.Module, args: Any, out: Tensor) -> None:
        counted.block_bytes.append(saved.take())
        counted.repeated_flops += counter.get_total_flops()

    handles = [
        handle for b in blocks for handle in (b.register_forward_pre_hook(enter), b.register_forward_hook(leave))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _optimizer_bytes(cfg: Config, model: nn.Module) -> int:
    """State of the optimizer after a step, not sharded."""
    optimizer: Any = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper)).optimizer
    optimizer.step()
    return sum(value.nbytes for value in tree_leaves(list(optimizer.state.values())) if isinstance(value, Tensor))
