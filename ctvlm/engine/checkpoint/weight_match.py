"""Whether a checkpoint's weights are those of a model, and clear words where they are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ctvlm.engine.checkpoint import CheckpointError


@dataclass(frozen=True)
class WeightMatch:
    """Names of a model's weights beside those of a checkpoint.

    Attributes:
        matched: in both, of one shape.
        missing: of the model, not in the checkpoint.
        unexpected: in the checkpoint, unknown to the model.
        reshaped: in both, with the two shapes in words.
    """

    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    reshaped: dict[str, str]

    @property
    def complete(self) -> bool:
        """Whether model and checkpoint have exactly the same weights."""
        return not (self.missing or self.unexpected or self.reshaped)

    def short(self) -> str:
        """One line: how many weights matched, and which parts of the model did not."""
        total = len(self.matched) + len(self.missing) + len(self.reshaped)
        parts = [
            f"{len(self.matched)} of the model's {total} weights loaded",
            _by_part("missing", self.missing),
            _by_part("of another shape", self.reshaped),
            _by_part("unknown to the model", self.unexpected),
        ]
        return "; ".join(part for part in parts if part)

    def full(self) -> str:
        """Every name."""
        lists = {
            "loaded": self.matched,
            "missing in the checkpoint": self.missing,
            "of another shape": [f"{key} {shapes}" for key, shapes in self.reshaped.items()],
            "unknown to the model": self.unexpected,
        }
        return "\n".join(f"{title} ({len(names)}):\n  " + "\n  ".join(names) for title, names in lists.items() if names)


def match_weights(model: nn.Module, checkpoint: dict) -> WeightMatch:
    """Compare names and shapes of weights; free-form bytes such as a tokenizer's are left out."""
    found = plain_names(checkpoint["state_dict"])
    expected = model.state_dict()

    def is_extra(key: str) -> bool:  # a tokenizer's bytes: their number says nothing
        value = expected.get(key, found.get(key))
        return not isinstance(value, Tensor) or value.dtype is torch.uint8 and value.ndim == 1

    reshaped = {
        key: f"{tuple(found[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in found and not is_extra(key)
        if found[key].shape != expected[key].shape
    }
    return WeightMatch(
        matched=[key for key in expected if key in found and key not in reshaped and not is_extra(key)],
        missing=[key for key in expected if key not in found and not is_extra(key)],
        unexpected=[key for key in found if key not in expected and not is_extra(key)],
        reshaped=reshaped,
    )


def plain_names(state_dict: dict) -> dict:
    """Weights under the names they have without a wrapper for several devices."""
    return {key.removeprefix("module."): value for key, value in state_dict.items()}


def check_fits(model: nn.Module, checkpoint: dict, path: str | Path) -> None:
    """Raise CheckpointError unless the checkpoint's weights have exactly the model's names and shapes."""
    match = match_weights(model, checkpoint)
    if match.complete:
        return
    total = len(match.matched) + len(match.missing) + len(match.reshaped)
    parts = [
        _listing(f"{len(match.missing)} of the model's {total} weights are missing", match.missing),
        _listing(f"{len(match.unexpected)} are unknown to the model", match.unexpected),
        _listing(
            f"{len(match.reshaped)} have another shape", [f"{key} {shape}" for key, shape in match.reshaped.items()]
        ),
    ]
    origin = checkpoint.get("meta", {}).get("experiment_name")
    trained = f" It was trained as '{origin}'." if origin else ""
    raise CheckpointError(
        f"checkpoint {path} belongs to another architecture: {'; '.join(part for part in parts if part)}.{trained} "
        "Use the config it was trained with (it lies beside the checkpoint), or start from what fits with "
        "load_strict=False."
    )


def load_what_fits(model: nn.Module, checkpoint: dict, path: str | Path) -> WeightMatch:
    """Load the weights whose name and shape the model knows; tells what matched.

    Raises:
        CheckpointError: not one weight fits.
    """
    match = match_weights(model, checkpoint)
    if not match.matched:
        names = list(plain_names(checkpoint["state_dict"]))
        raise CheckpointError(
            f"checkpoint {path} has no weight that fits: it names {', '.join(names[:3]) or 'nothing'}, "
            f"and the model {', '.join(match.missing[:3])}. Weights of one part need its name in front ('backbone.')."
        )
    refused = {*match.unexpected, *match.reshaped}
    weights = {key: value for key, value in plain_names(checkpoint["state_dict"]).items() if key not in refused}
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
