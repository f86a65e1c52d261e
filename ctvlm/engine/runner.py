"""mmengine's Runner with quiet terminal output, strict checkpoint loading, and DDP on the CPU."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, Runner
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn

from ctvlm.engine.checkpoint import read_checkpoint
from ctvlm.engine.checkpoint.release import read_weights
from ctvlm.engine.checkpoint.weight_match import check_fits, load_matching
from ctvlm.engine.cli.console import quiet_logger, stdout_console
from ctvlm.engine.cli.required_keys import check_required_keys
from ctvlm.engine.model_wrapper import unwrap_model
from ctvlm.engine.optim.accumulation import refuse_accumulation
from ctvlm.engine.optim.after_step import call_after_step
from ctvlm.engine.optim.sharded_optimizer import is_sharded
from ctvlm.utils import keep_freed_memory
from ctvlm.utils.pretrained_files import use_pretrained_files
from ctvlm.utils.training_data import checkpoint_records, dataset_records, merge_records


class CTVLMRunner(Runner):
    """The Runner of all ctvlm tools, with the interface of mmengine's Runner.

    Differences:

    - The logger prints only warnings to the terminal; hooks print the progress.
    - A checkpoint must fit the model. With ``load_strict=False`` in the config, the weights that fit are loaded.
    - DDP also works on the CPU.
    - A run that fails before its first iteration removes the files that it created.
    """

    def __init__(self, model: nn.Module | dict, work_dir: str, *args: Any, **kwargs: Any):
        self._advanced = False
        self._loaded_data: list[dict] = []
        self._own_data: list[dict] | None = None
        if get_device() == "cpu":
            keep_freed_memory()
        folder = Path(work_dir).absolute()
        self._new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
        self._files_before = set(folder.iterdir()) if folder.is_dir() else set()
        try:
            super().__init__(model, work_dir, *args, **kwargs)
        except Exception:
            self._remove_created_files()
            raise

    @classmethod
    def from_cfg(cls, cfg: Config | ConfigDict) -> CTVLMRunner:
        """Build a Runner from a config.

        Raises:
            ConfigError: the config lacks a key that a data loader, the optimizer or a scheduler needs.
        """
        check_required_keys(cfg)
        return super().from_cfg(cfg)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build mmengine's logger, which prints only warnings to the terminal; the log file is complete."""
        logger = super().build_logger(*args, **kwargs)
        quiet_logger(logger)
        return logger

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for distributed training; the default wrapper also works on the CPU."""
        if model_wrapper_cfg is None and self.distributed and not is_model_wrapper(model):
            model_wrapper_cfg = {
                "type": "ctvlm.CTDistributedDataParallel",
                "broadcast_buffers": False,
                "find_unused_parameters": self.cfg.get("find_unused_parameters", False),
            }
        return super().wrap_model(model_wrapper_cfg, model)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model. Pretrained submodules are built from the files that the checkpoint to load contains."""
        strict = self._resume or self.cfg.get("load_strict", True)
        if self._load_from is None or not strict:  # a warm start may keep the pretrained weights
            return super().build_model(model)
        with use_pretrained_files(self._read(self._load_from)["state_dict"]):
            return super().build_model(model)

    def build_optim_wrapper(self, optim_wrapper: OptimWrapper | dict) -> OptimWrapper | OptimWrapperDict:
        """Build the optimizer wrapper, and register the calls of ``after_optimizer_step()``.

        Raises:
            ConfigError: gradients are accumulated, and the model compares the cases of a batch.
        """
        model = unwrap_model(self.model)
        if isinstance(optim_wrapper, dict):
            refuse_accumulation(model, optim_wrapper, self.cfg.get("train_dataloader", {}).get("batch_size"))
        built = super().build_optim_wrapper(optim_wrapper)
        call_after_step(model, built)
        return built

    @property
    def training_data(self) -> list[dict]:
        """Records of the data that the weights were trained on, in earlier runs and in this one.

        See ``ctvlm.utils.training_data.data_record``.
        """
        if not isinstance(self._train_loop, BaseLoop):  # this run only evaluates
            return self._loaded_data
        if self._own_data is None:  # counting a large manifest takes seconds
            self._own_data = dataset_records(self.train_dataloader.dataset)
        return merge_records(self._loaded_data, self._own_data)

    def save_checkpoint(self, *args: Any, save_optimizer: bool = True, meta: dict | None = None, **kwargs: Any) -> None:
        """Save a checkpoint with ``training_data`` in its ``meta``."""
        # Gathering the state of a sharded optimizer needs all ranks; mmengine calls it on rank 0 only.
        if self.rank != 0 and save_optimizer and is_sharded(self.optim_wrapper.optimizer):
            self.optim_wrapper.optimizer.state_dict()
        if self.rank == 0:
            meta = {**(meta or {}), "training_data": self.training_data}
        super().save_checkpoint(*args, save_optimizer=save_optimizer, meta=meta, **kwargs)

    def _read(self, path: str, map_location: Any = "cpu") -> dict:
        # A released model contains no state from which a run could be resumed.
        return read_checkpoint(path, map_location) if self._resume else read_weights(path, map_location)

    def load_checkpoint(
        self, filename: str, map_location: Any = "cpu", strict: bool | None = None, revise_keys: list | None = None
    ) -> dict:
        """Load the weights of a checkpoint or released model.

        ``strict`` defaults to True when resuming, else to the config's ``load_strict`` (default True).

        Raises:
            CheckpointError: the file is missing or damaged, or does not fit the model.
        """
        checkpoint = self._read(filename, map_location)
        model = unwrap_model(self.model)
        if strict is None:
            strict = self._resume or self.cfg.get("load_strict", True)
        if strict:
            check_fits(model, checkpoint, filename)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        if strict:
            _load_checkpoint_to_model(model, checkpoint, strict=True, revise_keys=revise_keys or [(r"^module\.", "")])
        else:
            match = load_matching(model, checkpoint, filename)
            self.logger.info(f"Weights of {filename}\n{match.details()}")
            if self.rank == 0:
                stdout_console().print(f"{filename}: {match.summary()} (details in the log)", soft_wrap=True)
        loaded = checkpoint_records(checkpoint)
        # After a partial load, some weights still depend on the data of an earlier checkpoint.
        self._loaded_data = loaded if strict else merge_records(self._loaded_data, loaded)
        self._has_loaded = True
        self.logger.info(f"Loaded checkpoint {filename}")
        return checkpoint

    def train(self) -> nn.Module:
        """Train; see ``_run``."""
        return self._run(super().train)

    def val(self) -> dict:
        """Validate; see ``_run``."""
        return self._run(super().val)

    def test(self) -> dict:
        """Test; see ``_run``."""
        return self._run(super().test)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks, and record that the first iteration has finished."""
        if fn_name in ("after_train_iter", "after_val_iter", "after_test_iter"):
            self._advanced = True
        super().call_hook(fn_name, **kwargs)

    def _run(self, loop: Callable[[], Any]) -> Any:
        """Run a loop. After an error, log it, and remove the created files if no iteration has finished."""
        try:
            return loop()
        except Exception as error:
            self.logger.exception("The run ended with an error")
            if self._advanced:
                error.log_file = self.logger.log_file  # type: ignore[attr-defined]  # read by run_tool
            else:
                self._remove_created_files()
            raise
        finally:
            # mmengine does not call after_run after an error, but hooks must restore the terminal.
            self.call_hook("on_exit")

    def _remove_created_files(self) -> None:
        """Remove the files and folders that this run has created; they contain no result."""
        if getattr(self, "_rank", 0) != 0:
            return
        for handler in getattr(getattr(self, "logger", None), "handlers", []):
            handler.close()
        # The folder name is a time in seconds; another run that started in the same second shares it.
        if getattr(self, "_log_dir", None) and Path(self._log_dir).absolute() not in self._files_before:
            shutil.rmtree(self._log_dir, ignore_errors=True)
        work_dir = Path(self._work_dir)
        config = work_dir / Path(self.cfg.filename or f"{getattr(self, '_timestamp', '')}.py").name
        if config not in self._files_before:
            config.unlink(missing_ok=True)
        for folder in self._new_folders:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
