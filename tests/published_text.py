"""Text parts of published image-text models: random weights in BERT's layout, and BERT in plain tensor operations."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from tests.test_models.text_checkpoints import DEPTH, WIDTH, bert_config, vocabulary

CONFIG = bert_config()
HEADS, INNER, LENGTH = CONFIG.num_attention_heads, CONFIG.intermediate_size, CONFIG.max_position_embeddings


def bert_layout(pooler: bool = True, positions: int = LENGTH, types: int = 2) -> dict[str, tuple[int, ...]]:
    """Names and shapes of BERT's weights."""
    tables = {"word": len(vocabulary()), "position": positions, "token_type": types}
    shapes: dict[str, tuple[int, ...]] = {f"embeddings.{k}_embeddings.weight": (n, WIDTH) for k, n in tables.items()}
    norms, linear = ["embeddings.LayerNorm"], {"pooler.dense": (WIDTH, WIDTH)} if pooler else {}
    for i in range(DEPTH):
        layer = f"encoder.layer.{i}"
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
        linear |= {f"{layer}.attention.self.{name}": (WIDTH, WIDTH) for name in ("query", "key", "value")}
        linear |= {f"{layer}.attention.output.dense": (WIDTH, WIDTH)}
        linear |= {f"{layer}.intermediate.dense": (INNER, WIDTH), f"{layer}.output.dense": (WIDTH, INNER)}
    for name in norms:
        shapes |= {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


def random_weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0, std: float = 0.3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * std + float(name.endswith("LayerNorm.weight"))
        for name, shape in shapes.items()
    }


def token_ids(text: str, limit: int = LENGTH) -> list[int]:
    """WordPiece by the longest match, truncated, with [CLS] and [SEP]."""
    pieces, ids = vocabulary(), []
    for word in re.findall(r"\w+|[^\w\s]", text.lower()):
        start = 0
        while start < len(word):
            names = [("##" if start else "") + word[start:end] for end in range(len(word), start, -1)]
            name = next(name for name in names if name in pieces)
            ids.append(pieces.index(name))
            start += len(name.removeprefix("##") if start else name)
    return [pieces.index("[CLS]"), *ids[: limit - 2], pieces.index("[SEP]")]


def naive_bert(weights: Mapping[str, Tensor], ids: list[int], first: int = 0) -> Tensor:
    """Last hidden states of one text (T, E), in double precision; positions are counted from ``first``."""
    w = {name: value.double() for name, value in weights.items()}

    def norm(x, name):
        mean, var = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / torch.sqrt(var + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.position_embeddings.weight"][first : first + len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for i in range(DEPTH):
        layer, size = f"encoder.layer.{i}", WIDTH // HEADS
        q, k, v = (linear(x, f"{layer}.attention.self.{name}") for name in ("query", "key", "value"))
        heads = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            heads.append(torch.softmax(q[:, part] @ k[:, part].T / size**0.5, dim=1) @ v[:, part])
        attended = linear(torch.cat(heads, dim=1), f"{layer}.attention.output.dense")
        x = norm(x + attended, f"{layer}.attention.output.LayerNorm")
        hidden = linear(x, f"{layer}.intermediate.dense")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        x = norm(x + linear(hidden, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return x


def relative(found: Tensor, expected: Tensor) -> float:
    """Relative difference."""
    return float((found - expected).norm() / expected.norm())
