"""mmengine's Runner with quiet terminal output, strict checkpoint loading, and DDP on the CPU."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.dist import master_only
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, Runner
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from ctvlm.engine.checkpoint import CheckpointError, read_checkpoint
from ctvlm.engine.checkpoint.changed_settings import describe_changes
from ctvlm.engine.checkpoint.files import non_finite_weights
from ctvlm.engine.checkpoint.last import last_checkpoint_of
from ctvlm.engine.checkpoint.release import read_weights
from ctvlm.engine.checkpoint.resume_state import resume_run
from ctvlm.engine.cli.console import quiet_logger, stdout_console
from ctvlm.engine.cli.required_keys import check_required_keys
from ctvlm.engine.compile_encoder import compile_encoder
from ctvlm.engine.loading.complete import complete
from ctvlm.engine.loading.worker_errors import build_loader, worker_error
from ctvlm.engine.log_guard import LogGuard
from ctvlm.engine.loops.epoch_loop import ResumableEpochLoop
from ctvlm.engine.loops.iter_loop import ResumableIterLoop
from ctvlm.engine.loops.resumable import ResumableLoop
from ctvlm.engine.loops.seeded_loader import SeededLoader
from ctvlm.engine.model_wrapper import unwrap_model
from ctvlm.engine.optim.accumulation import SINGLE_CASE, check_batches, compares_cases, refuse_accumulation
from ctvlm.engine.optim.after_step import call_after_step
from ctvlm.engine.optim.sharded_optimizer import is_sharded
from ctvlm.engine.run_lock import run_lock
from ctvlm.engine.run_stamp import reserve_stamp
from ctvlm.utils import WriteError, atomic_write, keep_freed_memory
from ctvlm.utils.distributed import any_rank, raise_on_all_ranks
from ctvlm.utils.pretrained_files import use_pretrained_files
from ctvlm.utils.terminal_text import printable
from ctvlm.utils.training_data import checkpoint_records, dataset_records, merge_records
from ctvlm.utils.weight_match import check_fits, load_matching

# Default hooks by their name in the config.
_HOOKS = {
    "non_finite": dict(type="NonFiniteHook"),
    "bad_cases": dict(type="BadCasesHook"),
    "run_record": dict(type="RunRecordHook"),
    "stop_signal": dict(type="StopSignalHook"),
}
_LOOPS = {"EpochBasedTrainLoop": ResumableEpochLoop, "IterBasedTrainLoop": ResumableIterLoop}


class CTVLMRunner(Runner):
    """The Runner of all ctvlm tools, with the interface of mmengine's Runner.

    Differences:

    - The logger prints only warnings to the terminal; hooks print the progress.
    - Nothing from a checkpoint is executed.
    - A checkpoint must fit the model. With ``load_strict=False`` in the config, the weights that fit are loaded.
    - DDP also works on the CPU.
    - A run that fails before its first iteration removes the files that it created.
    - Each run has its own log folder, also if another one started in the same second.
    """

    _load_from: str | None
    _timestamp: str

    def __init__(self, model: nn.Module | dict, work_dir: str, *args: Any, **kwargs: Any):
        self._advanced = False
        self._loaded_data: list[dict] = []
        self._own_data: list[dict] | None = None
        self._run_state: dict | None = None
        self._log_guard = LogGuard()
        if get_device() == "cpu":
            keep_freed_memory()
        folder = Path(work_dir).absolute()
        self._new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
        self._files_before = set(folder.iterdir()) if folder.is_dir() else set()
        try:
            super().__init__(model, work_dir, *args, **kwargs)
        except BaseException:
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

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment, and choose the name of the log folder, see ``reserve_stamp``."""
        super().setup_env(env_cfg)
        self._timestamp = reserve_stamp(self._work_dir, self._timestamp)
        self._log_dir = os.path.join(self._work_dir, self._timestamp)

    @master_only
    def dump_config(self) -> None:
        """Write the config into the work folder. A link with its name is replaced, not followed."""
        name = Path(self.cfg.filename or f"{self.timestamp}.py").name
        with atomic_write(Path(self.work_dir) / name) as part:
            self.cfg.dump(str(part))

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build mmengine's logger, which prints only warnings to the terminal; the log file is complete."""
        # Opens the file again if the work folder is removed and created again.
        kwargs.setdefault("file_handler_cfg", {"type": "WatchedFileHandler"})
        logger = super().build_logger(*args, **kwargs)
        quiet_logger(logger)
        self._log_guard.watch_logger(logger)
        return logger

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Build the visualizer. A file of it that cannot be written is a warning."""
        built = super().build_visualizer(visualizer)
        for backend in built._vis_backends.values():
            self._log_guard.watch_backend(backend)
        return built

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for distributed training; the default wrapper also works on the CPU."""
        if model_wrapper_cfg is None and self.distributed and not is_model_wrapper(model):
            model_wrapper_cfg = {
                "type": "ctvlm.CTDistributedDataParallel",
                "broadcast_buffers": False,
                "find_unused_parameters": self.cfg.get("find_unused_parameters", False),
            }
        return super().wrap_model(model_wrapper_cfg, model)

    def _maybe_compile(self, target: str) -> None:
        """Compile the vision encoder, where mmengine would compile the whole step. ``compile``: True, or options."""
        if options := self.cfg.get("compile"):
            compile_encoder(self.model, **({} if options is True else options))

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
            size = self.cfg.get("train_dataloader", {}).get("batch_size")
            refuse_accumulation(model, optim_wrapper, size)
            if size == self.world_size == 1 and compares_cases(model):
                self.logger.warning(SINGLE_CASE)
        built = super().build_optim_wrapper(optim_wrapper)
        call_after_step(model, built)
        return built

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader whose errors contain the case, see ``build_loader``.

        With a seed, the random numbers of each case are seeded, see ``SeededLoader``.
        """
        loader = build_loader(dataloader, seed, diff_rank_seed)
        return loader if seed is None or isinstance(loader, SeededLoader) else SeededLoader(loader, seed)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop; mmengine's two loops are replaced by resumable ones."""
        if isinstance(loop, dict):
            loop = dict(loop)
            if "type" not in loop:
                loop["type"] = "EpochBasedTrainLoop" if loop.pop("by_epoch") else "IterBasedTrainLoop"
            loop["type"] = _LOOPS.get(str(loop["type"]).rpartition(".")[2], loop["type"])
        built = super().build_train_loop(loop)
        check_batches(built.dataloader)
        return built

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop. A data set that replaces cases is refused."""
        return complete(super().build_val_loop(loop), "val_dataloader")

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop. A data set that replaces cases is refused."""
        return complete(super().build_test_loop(loop), "test_dataloader")

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
        """Save a checkpoint with ``training_data`` in its ``meta``.

        Raises:
            CheckpointError: a weight is not finite. No file is written or removed.
            WriteError: on all ranks, if the file cannot be written.
        """
        broken = non_finite_weights(unwrap_model(self.model).state_dict())
        if any_rank(torch.tensor(bool(broken), device=get_device())):
            names = ", ".join(broken[:3]) or "those of another process"
            raise CheckpointError(
                f"the weights are not finite ({names}): no checkpoint is written, and earlier ones stay. Lower the "
                "learning rate, and resume from the last checkpoint"
            )
        resumable = save_optimizer and isinstance(self._train_loop, ResumableLoop)
        self._run_state = self._train_loop.state_dict() if resumable else None
        # Gathering the state of a sharded optimizer needs all ranks; mmengine calls it on rank 0 only, and after the
        # state of the loop has been gathered.
        optimizer = getattr(self.optim_wrapper, "optimizer", None)
        if self.rank != 0 and save_optimizer and optimizer is not None and is_sharded(optimizer):
            optimizer.state_dict()
        if self.rank == 0:
            meta = {**(meta or {}), "training_data": self.training_data}
        failure = None
        try:
            super().save_checkpoint(*args, save_optimizer=save_optimizer, meta=meta, **kwargs)
        except WriteError as error:
            failure = error
        finally:
            self._run_state = None
        raise_on_all_ranks(failure)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register the default hooks and those of ``_HOOKS``, which ``None`` in the config removes."""
        hooks = {**_HOOKS, **(hooks or {})}
        # mmengine removes only its own hooks for None.
        super().register_default_hooks({k: hook for k, hook in hooks.items() if hook is not None or k not in _HOOKS})

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

    def load_or_resume(self) -> None:
        """Load or resume from ``load_from``; without it, resume from the last checkpoint of the work folder."""
        if self._has_loaded:
            return
        if self._resume and self._load_from is None:
            self._load_from = last_checkpoint_of(self.cfg, self.work_dir)
        if self._resume and self._load_from is not None:
            self.resume(self._load_from)
        elif self._load_from is not None:
            self.load_checkpoint(self._load_from)

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: Any = "default",
    ) -> None:
        """Continue a run. Only known entries of the checkpoint are used; see ``resume_run``.

        Raises:
            CheckpointError: the checkpoint is damaged, or does not fit the run.
        """
        if not (resume_optimizer and resume_param_scheduler):
            raise ValueError("CTVLMRunner resumes all of a run: for the weights only, call load_checkpoint")
        device = get_device() if map_location == "default" else map_location
        checkpoint = self.load_checkpoint(filename, map_location=device)
        resume_run(self, checkpoint, filename)
        for line in describe_changes(self.cfg, checkpoint):
            self.logger.warning(printable(line))
        self.logger.info(f"resumed epoch: {self.epoch}, iter: {self.iter}")

    def train(self) -> nn.Module:
        """Train; see ``_run``.

        Raises:
            CTVLMError: another process trains in the work folder.
        """
        return self._run(super().train, lock=self.rank == 0)

    def val(self) -> dict:
        """Validate; see ``_run``."""
        return self._run(super().val)

    def test(self) -> dict:
        """Test; see ``_run``."""
        return self._run(super().test)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call the hooks. Record that the first iteration has finished, and that a validation is not pending."""
        if fn_name in ("after_train_iter", "after_val_iter", "after_test_iter"):
            self._advanced = True
        if fn_name == "after_val_epoch" and isinstance(self._train_loop, ResumableLoop):
            self._train_loop.pending_validation = False
        if fn_name == "before_save_checkpoint" and self._run_state is not None:
            kwargs["checkpoint"]["run_state"] = self._run_state
        super().call_hook(fn_name, **kwargs)

    def _run(self, loop: Callable[[], Any], lock: bool = False) -> Any:
        """Run a loop, and hold the lock of the work folder meanwhile.

        After an error or an interruption, log it, and remove the created files if no iteration has finished.
        """
        try:
            with run_lock(self.work_dir) if lock else nullcontext():
                return loop()
        except KeyboardInterrupt as interruption:
            self.logger.info(f"The run ended early: {interruption}")
            if not self._advanced:
                self._remove_created_files()
            raise
        except Exception as caught:
            error = worker_error(caught, self._loaders())
            self.logger.exception(f"The run ended with an error: {error}")
            if self._advanced:
                error.log_file = self.logger.log_file  # type: ignore[attr-defined]  # read by run_tool
            else:
                self._remove_created_files()
            if error is caught:
                raise
            raise error from caught
        finally:
            # mmengine does not call after_run after an error, but hooks must restore the terminal.
            self.call_hook("on_exit")

    def _loaders(self) -> dict[str, DataLoader]:
        """The data loaders that have been built, by their key in the config."""
        loops = {"train": self._train_loop, "val": self._val_loop, "test": self._test_loop}
        return {f"{name}_dataloader": loop.dataloader for name, loop in loops.items() if isinstance(loop, BaseLoop)}

    def _remove_created_files(self) -> None:
        """Remove the files and folders that this run has created; they contain no result."""
        if getattr(self, "_rank", 0) != 0:
            return
        for handler in getattr(getattr(self, "logger", None), "handlers", []):
            with suppress(OSError):  # the disk is full
                handler.close()
        if getattr(self, "_log_dir", None):
            shutil.rmtree(self._log_dir, ignore_errors=True)
        work_dir = Path(self._work_dir)
        config = work_dir / Path(self.cfg.filename or f"{getattr(self, '_timestamp', '')}.py").name
        if config not in self._files_before:
            config.unlink(missing_ok=True)
        for folder in self._new_folders:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
