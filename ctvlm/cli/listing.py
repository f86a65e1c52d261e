"""Names that commands and configs accept, as tables or JSON."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from mmengine.registry import Registry
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

import ctvlm.registry
from ctvlm.anatomy import DEFAULT_SCHEME, RegionScheme
from ctvlm.apis import list_models
from ctvlm.engine.checkpoint.files import json_text
from ctvlm.engine.cli.console import stdout_console
from ctvlm.engine.cli.installed_configs import config_title, installed_configs
from ctvlm.evaluation.functional.retrieval_protocols import RETRIEVAL_PROTOCOLS
from ctvlm.evaluation.functional.zero_shot_protocols import PROTOCOLS
from ctvlm.text.finding_labels import CT_RATE_LABELS
from ctvlm.utils.terminal_text import shown

Row = dict[str, Any]


def models() -> list[Row]:
    """Models that are installed with their weights."""
    return [
        {"name": model.name, "tasks": model.tasks, "parameters": model.parameters, "description": model.description}
        for model in list_models()
    ]


def configs() -> list[Row]:
    """Configs of the package."""
    return [{"name": name, "description": config_title(path)} for name, path in installed_configs().items()]


def components() -> list[Row]:
    """Registered components of ctvlm with their registry."""
    rows = []
    for registry in vars(ctvlm.registry).values():
        if isinstance(registry, Registry) and registry.scope == "ctvlm":
            registry.import_from_location()
            rows += [
                {"registry": registry.name, "name": name, "description": _first_line(component)}
                for name, component in sorted(registry.module_dict.items())
                if component.__module__.startswith("ctvlm.")
            ]
    return rows


def protocols() -> list[Row]:
    """Published evaluation protocols with their source."""
    tasks = (("classification", PROTOCOLS), ("retrieval", RETRIEVAL_PROTOCOLS))
    return [
        {"task": task, "name": name, "source": protocol.source}
        for task, known in tasks
        for name, protocol in known.items()  # type: ignore[attr-defined]
    ]


def findings() -> list[Row]:
    """The findings of CT-RATE."""
    return [{"name": name} for name in CT_RATE_LABELS]


def schemes() -> list[Row]:
    """Region schemes: regions, and the sources of label maps that fold into them."""
    scheme = RegionScheme.load(DEFAULT_SCHEME)
    return [{"name": scheme.name, "regions": scheme.names, "mask_sources": scheme.sources}]


LISTINGS: dict[str, Callable[[], list[Row]]] = {
    function.__name__: function for function in (models, configs, components, protocols, findings, schemes)
}


def print_listing(kind: str | None, as_json: bool) -> None:
    """Print one kind in full, or the names of all kinds."""
    rows = {name: LISTINGS[name]() for name in ([kind] if kind else LISTINGS)}
    if as_json:
        print(json_text(rows), end="")
        return
    console = stdout_console()
    if kind:
        console.print(_table(rows[kind]) if rows[kind] else f"no {kind} are installed")
        return
    for name, listed in rows.items():
        _print_names(name, listed, console)
    console.print("\nctvlm list KIND describes each entry of one kind, for example: ctvlm list configs", style="dim")


def _print_names(kind: str, rows: list[Row], console: Console) -> None:
    """The names of one kind as paragraphs, grouped by registry or task."""
    console.print(f"\n[bold]{kind}[/bold] ({len(rows)})")
    groups: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(row.get("registry") or row.get("task") or "", []).append(row["name"])
    for group, names in groups.items():
        head = f"[cyan]{shown(group)}[/cyan]: " if group else ""
        console.print(Padding(head + ", ".join(map(shown, names)), (0, 0, 0, 2)))


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(rows[0]):
        table.add_column(column.replace("_", " "), no_wrap=False, overflow="fold", style="cyan" if number == 0 else "")
    for row in rows:
        cells = (", ".join(value) if isinstance(value, (list, tuple)) else value for value in row.values())
        table.add_row(*map(shown, cells))
    return table


def _first_line(component: object) -> str:
    return (inspect.getdoc(component) or "").split("\n")[0]
