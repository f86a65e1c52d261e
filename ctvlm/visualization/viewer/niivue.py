"""NiiVue from the package ipyniivue, as a JavaScript module that a page can contain."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from ctvlm.utils import CTVLMError

PACKAGE, MODULE = "ipyniivue", "ipyniivue/static/widget.js"
# The widget creates its viewer here. The name of the class differs between builds.
_CREATED = re.compile(r'"Creating new Niivue instance"\)(?:(?!"Creating).){0,300}?=new ([\w$]+)\(', re.DOTALL)


class NiiVueError(CTVLMError):
    """The package with NiiVue is missing or has an unknown layout."""


@lru_cache(maxsize=1)
def niivue_module() -> str:
    """Source of an ES module with the exports ``default`` (a Jupyter widget) and ``Niivue`` (the class of the viewer).

    Raises:
        NiiVueError: ipyniivue is not installed, or is not a version whose viewer class can be found.
    """
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        raise NiiVueError("the viewer needs the package ipyniivue: pip install 'ctvlm[viewer]'") from None
    path = Path(str(package.locate_file(MODULE)))
    source = path.read_text(encoding="utf-8") if path.is_file() else ""
    created = _CREATED.findall(source)
    if len(created) != 1:
        raise NiiVueError(
            f"{path} (ipyniivue {package.version}): found no viewer class of NiiVue; expected ipyniivue 2.4. "
            "Install it with: pip install 'ctvlm[viewer]'"
        )
    return f"{source}\nexport{{{created[0]} as Niivue}};\n"
