"""Compare the weights of a checkpoint with those of a model, and load them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ctvlm.utils.errors import CheckpointError


@dataclass(frozen=True)
class WeightMatch:
    """Comparison of a model's weights with those of a checkpoint, by name and shape.

    Attributes:
        matched: names that are in both with the same shape.
        missing: names that are only in the model.
        unexpected: names that are only in the checkpoint.
        reshaped: names that are in both with different shapes, and a description of the two shapes.
    """

    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    reshaped: dict[str, str]

    @property
    def complete(self) -> bool:
        """Whether model and checkpoint have exactly the same weights."""
        return not (self.missing or self.unexpected or self.reshaped)

    def summary(self) -> str:
        """One line with the number of matched weights, and the submodules whose weights differ."""
        total = len(self.matched) + len(self.missing) + len(self.reshaped)
        parts = [
            f"{len(self.matched)} of the model's {total} weights loaded",
            _by_part("missing", self.missing),
            _by_part("with another shape", self.reshaped),
            _by_part("not in the model", self.unexpected),
        ]
        return "; ".join(part for part in parts if part)

    def details(self) -> str:
        """All names, grouped."""
        lists = {
            "loaded": self.matched,
            "not in the checkpoint": self.missing,
            "with another shape": [f"{key} {shapes}" for key, shapes in self.reshaped.items()],
            "not in the model": self.unexpected,
        }
        return "\n".join(f"{title} ({len(names)}):\n  " + "\n  ".join(names) for title, names in lists.items() if names)


def match_weights(model: nn.Module, checkpoint: dict) -> WeightMatch:
    """Compare names and shapes of weights. Byte strings, such as a serialized tokenizer, are ignored."""
    loaded = plain_names(checkpoint["state_dict"])
    expected = model.state_dict()

    def is_bytes(key: str) -> bool:  # a serialized object, whose length may differ
        value = expected.get(key, loaded.get(key))
        return not isinstance(value, Tensor) or value.dtype is torch.uint8 and value.ndim == 1

    reshaped = {
        key: f"{tuple(loaded[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in loaded and not is_bytes(key)
        if loaded[key].shape != expected[key].shape
    }
    return WeightMatch(
        matched=[key for key in expected if key in loaded and key not in reshaped and not is_bytes(key)],
        missing=[key for key in expected if key not in loaded and not is_bytes(key)],
        unexpected=[key for key in loaded if key not in expected and not is_bytes(key)],
        reshaped=reshaped,
    )


def plain_names(state_dict: dict) -> dict:
    """Remove the name prefix that DistributedDataParallel adds."""
    return {key.removeprefix("module."): value for key, value in state_dict.items()}


USE_OWN_CONFIG = (
    "Use the config it was trained with (in the folder of the checkpoint), or set load_strict=False to load only the "
    "weights that fit."
)


def check_fits(model: nn.Module, checkpoint: dict, path: str | Path, hint: str = USE_OWN_CONFIG) -> None:
    """Raise CheckpointError unless the checkpoint's weights have exactly the model's names and shapes.

    Args:
        hint: end of the message: what to do.
    """
    match = match_weights(model, checkpoint)
    if match.complete:
        return
    total = len(match.matched) + len(match.missing) + len(match.reshaped)
    parts = [
        f"{len(match.matched)} of the model's {total} weights match",
        _listing(f"{len(match.missing)} of the model's {total} weights are missing", match.missing),
        _listing(f"{len(match.unexpected)} are not in the model", match.unexpected),
        _listing(
            f"{len(match.reshaped)} have another shape", [f"{key} {shape}" for key, shape in match.reshaped.items()]
        ),
    ]
    origin = checkpoint.get("meta", {}).get("experiment_name")
    trained = f" Its experiment name is '{origin}'." if origin else ""
    raise CheckpointError(
        f"checkpoint {path} does not fit the model: {'; '.join(part for part in parts if part)}.{trained} {hint}"
    )


def load_matching(model: nn.Module, checkpoint: dict, path: str | Path) -> WeightMatch:
    """Load the weights whose name and shape match the model.

    Raises:
        CheckpointError: no weight matches.
    """
    match = match_weights(model, checkpoint)
    if not match.matched:
        names = list(plain_names(checkpoint["state_dict"]))
        raise CheckpointError(
            f"checkpoint {path} has no weight that fits the model: it contains {', '.join(names[:3]) or 'no weights'}, "
            f"the model {', '.join(match.missing[:3])}. Weights of a submodule need its name as prefix ('backbone.')."
        )
    skipped = {*match.unexpected, *match.reshaped}
    weights = {key: value for key, value in plain_names(checkpoint["state_dict"]).items() if key not in skipped}
    model.load_state_dict(weights, strict=False)
    return match


def _by_part(title: str, names: Iterable[str]) -> str:
    """``12 missing (text_encoder 10, losses 2)``."""
    counts = Counter(name.partition(".")[0] for name in names)
    if not counts:
        return ""
    return f"{counts.total()} {title} ({', '.join(f'{part} {count}' for part, count in counts.most_common())})"


def _listing(title: str, items: list[str], first: int = 3) -> str:
    if not items:
        return ""
    more = f", and {len(items) - first} more" if len(items) > first else ""
    return f"{title} ({', '.join(items[:first])}{more})"
