"""Contract of text encoders (registry TEXT_ENCODERS)."""

from __future__ import annotations

from typing import Any

import torch

from ctvlm.registry import TEXT_ENCODERS
from ctvlm.testing.building import NUM_HEADS, WIDTH, Component, Recipe
from ctvlm.testing.require import require, require_close, require_finite, require_shape
from ctvlm.testing.tensors import loss_of

TEXTS = ["Small nodule in the right upper lobe.", "No pleural effusion.", "The liver is normal. " * 60]
SIZES: dict[str, Any] = dict(embed_dims=WIDTH, num_heads=NUM_HEADS, vocab_size=320, max_length=16, depth=1)


def check_text_encoder(component: Component, **options: Any) -> None:
    """Check a text encoder, ``forward(texts)`` to (len(texts), ``embed_dims``).

    An encoder with ``needs_tokenizer`` is fitted to a few sentences first.

    Properties: ``picklable config``, ``module``, ``shape``, ``finite``, ``empty text``, ``deterministic``, ``batch
    independence``, ``equal texts``, ``long texts`` (the end of a long text has an influence), ``gradients`` (of all
    parameters that require one, if any does), ``bfloat16``, ``state dict`` (it alone restores the encoder).

    Args:
        component: class, registered name, or config.
        options: constructor arguments. Sizes have small defaults.

    Raises:
        AssertionError: names the property, what was found and what was expected.
    """
    recipe = Recipe(TEXT_ENCODERS, component, options, small=SIZES)
    recipe.check_config()
    recipe.check_module()
    encoder = _fitted(recipe).eval()
    _check_embeddings(recipe, encoder)
    _check_training(recipe)

    fresh = recipe.build(seed=1).eval()
    with torch.no_grad():
        expected = encoder(TEXTS)
        fresh.load_state_dict(encoder.state_dict())
        require_close(fresh(TEXTS), expected, recipe.name, "state dict", "the embeddings of the saved encoder")


def _fitted(recipe: Recipe) -> Any:
    encoder = recipe.build()
    if getattr(encoder, "needs_tokenizer", False):
        encoder.fit_tokenizer(TEXTS)
    return encoder


@torch.no_grad()
def _check_embeddings(recipe: Recipe, encoder: Any) -> None:
    name = recipe.name
    width: Any = getattr(encoder, "embed_dims", None)
    require(isinstance(width, int), name, "shape", f"embed_dims = {width}", "an int")
    text_UE = encoder(TEXTS)
    require_shape(text_UE, (len(TEXTS), width), name, "shape", f"{len(TEXTS)} texts")
    require_finite(text_UE, name, "finite", "ordinary texts")
    require_finite(encoder([""]), name, "empty text", "an empty text")
    require(torch.equal(encoder(TEXTS), text_UE), name, "deterministic", "two results in eval mode", "equal embeddings")
    for number, text in enumerate(TEXTS):
        what = f"text {number} alone as in a batch of {len(TEXTS)}"
        require_close(encoder([text])[0], text_UE[number], name, "batch independence", what, rtol=1e-3, atol=1e-4)
    twice = encoder([TEXTS[0], TEXTS[1], TEXTS[0]])
    require_close(twice[0], twice[2], name, "equal texts", "the same embedding", rtol=1e-3, atol=1e-4)
    longer = encoder([TEXTS[2], TEXTS[2] + TEXTS[0]])
    difference = float((longer[0] - longer[1]).abs().max())
    found = f"a difference of {difference:.3g} after a sentence at the end of a long text"
    require(difference > 1e-5, name, "long texts", found, "another embedding")


def _check_training(recipe: Recipe) -> None:
    encoder = _fitted(recipe).train()
    trained = {key: p for key, p in encoder.named_parameters() if p.requires_grad}
    output = encoder(TEXTS)
    if trained:
        require(output.requires_grad, recipe.name, "gradients", "an output without gradient", "a gradient")
        loss_of(output).backward()
        missing = [key for key, p in trained.items() if p.grad is None]
        require(not missing, recipe.name, "gradients", f"no gradient of {missing}", "a gradient of every parameter")
    encoder = encoder.eval()
    with torch.no_grad():
        full = encoder(TEXTS)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = encoder(TEXTS)
    require_finite(half, recipe.name, "bfloat16", "bfloat16 autocast")
    difference, limit = float((half - full).abs().max()), float(0.1 * full.abs().max() + 0.02)
    require(difference <= limit, recipe.name, "bfloat16", f"a difference of {difference:.3g}", f"at most {limit:.3g}")
