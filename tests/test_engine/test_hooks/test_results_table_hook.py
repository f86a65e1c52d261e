from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from rich.console import Console

from ctvlm.engine.hooks import results_table_hook
from ctvlm.engine.hooks.results_table_hook import EXAMPLES, ResultsTableHook


def runner(folder: Path) -> SimpleNamespace:
    for name in ("results.json", "run.log", "epoch_4.pth"):
        (folder / name).write_text("")
    return SimpleNamespace(
        rank=0,
        epoch=4,
        iter=12,
        work_dir=str(folder),
        val_loop=None,
        val_dataloader=SimpleNamespace(dataset=[]),
        message_hub=SimpleNamespace(runtime_info={"last_ckpt": str(folder / "epoch_4.pth")}),
        logger=SimpleNamespace(log_file=str(folder / "run.log")),
        cfg=SimpleNamespace(filename=None),
    )


def test_paths_are_complete_at_80_columns_and_examples_are_printed(tmp_path, monkeypatch, capsys):
    folder = tmp_path / ("a_long_name_of_a_folder_" * 4)
    folder.mkdir()
    monkeypatch.setattr(results_table_hook, "stdout_console", lambda: Console(width=80))
    hook, run = ResultsTableHook(), runner(folder)
    hook.before_val_epoch(run)
    samples = [dict(case_id=f"case_{i}", findings="Clear.", impression="", pred_report="A nodule.") for i in range(2)]
    for _ in range(3):
        hook.after_val_iter(run, 0, outputs=samples)
    hook.after_val_epoch(run, {"report/BLEU-4": 0.5})
    hook.after_train(run)
    lines = capsys.readouterr().out.splitlines()
    for name in ("results.json", "run.log", "epoch_4.pth"):
        assert sum(line.endswith(str(folder / name)) for line in lines) == 1
    assert sum("A nodule." in line for line in lines) == EXAMPLES


def test_samples_that_are_not_dicts_have_no_examples():
    hook = ResultsTableHook()
    hook.after_test_iter(None, 0, outputs=[3.0, dict(error=1.0)])
    assert hook.examples == []
