"""Progress bars of the terminal. All bars of a process share one live display, so that they do not overwrite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

_running: Progress | None = None


def start_display(console: Console, transient: bool = False) -> Progress:
    """Start the live display of this process; a running one is stopped. ``transient``: clear it at the end.

    A task has the fields ``details`` (texts, the most important first; those that do not fit are left out) and ``eta``
    (seconds; None if unknown). Without ``eta``, the time is estimated from the progress of the task.
    """
    global _running
    if _running is not None:
        stop_display(_running)
    _running = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        _EtaColumn(),
        _DetailsColumn(table_column=Column(ratio=1, no_wrap=True)),
        console=console,
        transient=transient,
        expand=True,
    )
    _running.start()
    return _running


def stop_display(display: Progress) -> None:
    """Stop a live display."""
    global _running
    display.stop()
    if _running is display:
        _running = None


@contextmanager
def progress_bar(description: str, total: int, enabled: bool = True) -> Iterator[Callable[[int], None]]:
    """Show a bar that disappears at the end, in the running display or else in its own; nothing without a terminal.

    Yields:
        A function that advances the bar by a number of units.
    """
    console = Console()
    own = _running is None
    if not enabled or (own and not console.is_terminal):
        yield lambda count: None
        return
    display = _running or start_display(console, transient=True)
    task = display.add_task(description, total=total)
    try:
        yield lambda count: display.advance(task, count)
    finally:
        if own:
            stop_display(display)
        else:
            display.remove_task(task)


def format_eta(seconds: float | None) -> str:
    """Hours, minutes and seconds, such as ``0:11`` or ``44:56:57``; ``-:--`` if unknown."""
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _EtaColumn(ProgressColumn):
    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        seconds = task.fields["eta"] if "eta" in task.fields else task.time_remaining
        return Text(f"eta {format_eta(seconds)}", style="progress.remaining", no_wrap=True)


class _DetailsColumn(ProgressColumn):
    def render(self, task: Task) -> _Details:
        return _Details(list(task.fields.get("details", [])))


class _Details:
    """Texts on one line; those that do not fit into the width are left out."""

    def __init__(self, texts: list[str]):
        self.texts = texts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = ""
        for text in self.texts:
            longer = f"{line}  {text}" if line else text
            if len(longer) > options.max_width:
                break
            line = longer
        yield Text(line, no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(0, len("  ".join(self.texts)))
