"""ctvlm list."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from ctvlm.cli.arguments import Debug, Json


class Kind(str, Enum):
    """What can be listed."""

    models = "models"
    configs = "configs"
    components = "components"
    protocols = "protocols"
    findings = "findings"
    schemes = "schemes"


def list_command(
    kind: Annotated[Kind | None, typer.Argument(help="without it, everything in short")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List what is installed: models, configs, components, protocols, findings and region schemes."""
    from ctvlm.cli.listing import print_listing

    print_listing(None if kind is None else kind.value, as_json)
