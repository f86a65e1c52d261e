import io

import pytest
from rich.console import Console

from ctvlm.utils import progress
from ctvlm.utils.progress import format_eta, progress_bar, start_display, stop_display


def screen(width=80):
    return Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_step_bar_eta_and_loss_are_shown_at_every_width(width):
    console = screen(width)
    display = start_display(console)
    details = ["loss 9.270", "step 0.31 s", "data 0.01 s", "lr 1.00e-04", *(f"objective_{i} 1.250" for i in range(9))]
    display.add_task("epoch 3/7", total=560, completed=200, eta=11.4, details=details)
    lines = [line.text for line in console.render_lines(display.get_renderable()) for line in line]
    stop_display(display)
    text = "".join(lines)
    assert len(console.render_lines(display.get_renderable())) == 1
    assert text.startswith("epoch 3/7 ━") and "200/560 eta 0:11 loss 9.270" in text
    assert "…" not in text


def test_the_width_decides_how_many_details_are_shown():
    def shown(width):
        console = screen(width)
        display = start_display(console)
        display.add_task("epoch 3/7", total=560, eta=11, details=["loss 9.270", "first 1.0", "second 2.0"])
        stop_display(display)
        return "".join(segment.text for line in console.render_lines(display.get_renderable()) for segment in line)

    assert "first" not in shown(58) and "loss 9.270" in shown(58)
    assert "first 1.0" in shown(70) and "second" not in shown(70)
    assert "second 2.0" in shown(90)


def test_a_second_bar_joins_the_running_display():
    console = screen()
    display = start_display(console)
    display.add_task("train", total=5)
    with progress_bar("drawing", 3) as advance:
        advance(2)
        assert [task.description for task in display.tasks] == ["train", "drawing"]
        assert display.tasks[1].completed == 2
    assert [task.description for task in display.tasks] == ["train"]
    assert display.live.is_started
    stop_display(display)
    assert progress._running is None


def test_a_new_display_stops_the_running_one():
    first = start_display(screen())
    second = start_display(screen())
    assert not first.live.is_started and second.live.is_started
    stop_display(second)


def test_without_a_terminal_nothing_is_printed(capsys):
    with progress_bar("drawing", 3) as advance:
        advance(1)
    assert capsys.readouterr().out == ""
    assert progress._running is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-:--"), (0.0, "0:00"), (11.9, "0:11"), (3600, "1:00:00"), (161817, "44:56:57")]
)
def test_eta(seconds, text):
    assert format_eta(seconds) == text
