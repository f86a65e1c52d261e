"""Build a component from its class, its registered name or its config, in sizes that run in milliseconds."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import torch
from mmengine.registry import Registry
from torch import nn

from ctvlm.testing.require import require

# Component to check: a class, the name of a registered class, or a config with ``type``.
Component = type | str | dict

# Value of an option that the component must not receive, see ``Recipe``.
NOT_SET: Any = object()

WIDTH, NUM_HEADS, REGIONS, CHANNELS = 24, 2, 5, 3

# Small values of common constructor parameters.
SIZES: dict[str, Any] = dict(
    embed_dims=WIDTH,
    in_dims=WIDTH,
    out_dims=16,
    head_dims=12,
    num_heads=NUM_HEADS,
    num_regions=REGIONS,
    in_channels=CHANNELS,
    patch_size=(2, 4, 4),
    patch_embed=dict(in_channels=CHANNELS, patch_size=(2, 4, 4)),
    block=dict(num_heads=NUM_HEADS),
    img_size=(4, 12, 8),
    base_grid=(2, 3, 2),
    depth=2,
)


class Recipe:
    """How to build a component repeatedly.

    Args:
        registry: registry of the component's kind.
        component: class, registered name, or config.
        options: constructor arguments; they override those of the config. Parameters of ``SIZES`` that the constructor
            accepts are set to small values unless an option sets them. The option ``NOT_SET`` leaves a parameter out
            (for a subclass that passes ``depth`` to its base class itself).
        small: small values of constructor parameters, in place of ``SIZES``.
    """

    def __init__(
        self, registry: Registry, component: Component, options: dict[str, Any], small: dict[str, Any] = SIZES
    ) -> None:
        given = dict(component) if isinstance(component, dict) else dict(type=component)
        given.update(options)
        kind = given["type"]
        cls = registry.get(kind) if isinstance(kind, str) else kind
        require(cls is not None, str(kind), "registered", "no such name", f"a name of the registry {registry.name!r}")
        self.cls: Any = cls
        self.name = self.cls.__name__
        accepted = parameter_names(self.cls)
        config = {key: value for key, value in small.items() if key in accepted}
        config.update(given)
        self.config = {key: value for key, value in config.items() if value is not NOT_SET}
        self._registry = registry

    def size(self, *names: str) -> Any:
        """Value of the first option of ``names`` that the config sets, or the value in ``SIZES``."""
        return next((self.config[name] for name in names if name in self.config), SIZES[names[0]])

    def build(self, seed: int = 0) -> Any:
        """A new component, with random weights of this seed."""
        torch.manual_seed(seed)
        return self._registry.build(dict(self.config))

    def check_config(self) -> None:
        """Options must survive pickling: data-loader workers and checkpoints receive them."""
        options = {key: value for key, value in self.config.items() if key != "type"}
        try:
            pickle.loads(pickle.dumps(options))  # noqa: S301 (written in this line)
        except Exception as error:
            require(False, self.name, "picklable config", f"{type(error).__name__}: {error}", "options that pickle")

    def check_module(self) -> None:
        """The component must be an ``nn.Module``."""
        found = type(self.build()).__name__
        require(isinstance(self.build(), nn.Module), self.name, "module", found, "a torch.nn.Module")


def parameter_names(cls: Callable) -> set[str]:
    """Names that the constructor accepts, including those that it passes to base classes through ``**kwargs``."""
    if not inspect.isclass(cls):
        return set(inspect.signature(cls).parameters)
    names: set[str] = set()
    for owner in cls.__mro__:
        init = owner.__dict__.get("__init__")
        if init is None:
            continue
        parameters = inspect.signature(init).parameters.values()
        names |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names - {"self"}
