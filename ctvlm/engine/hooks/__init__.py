"""Hooks of the Runner."""

from ctvlm.engine.hooks.bad_cases_hook import BadCasesHook
from ctvlm.engine.hooks.case_visualization_hook import CaseVisualizationHook
from ctvlm.engine.hooks.epoch_seed_hook import EpochSeedHook
from ctvlm.engine.hooks.fit_tokenizer_hook import FitTokenizerHook
from ctvlm.engine.hooks.logger_hook import LoggerHook
from ctvlm.engine.hooks.non_finite_hook import NonFiniteError, NonFiniteHook
from ctvlm.engine.hooks.plain_checkpoint_hook import PlainCheckpointHook
from ctvlm.engine.hooks.prediction_keys_hook import PredictionKeysHook
from ctvlm.engine.hooks.prompt_hook import PromptHook
from ctvlm.engine.hooks.results_table_hook import ResultsTableHook
from ctvlm.engine.hooks.rich_progress_hook import RichProgressHook
from ctvlm.engine.hooks.run_record_hook import RunRecordHook
from ctvlm.engine.hooks.stop_signal_hook import StopSignalHook

__all__ = [
    "BadCasesHook",
    "CaseVisualizationHook",
    "EpochSeedHook",
    "FitTokenizerHook",
    "LoggerHook",
    "NonFiniteError",
    "NonFiniteHook",
    "PlainCheckpointHook",
    "PredictionKeysHook",
    "PromptHook",
    "ResultsTableHook",
    "RichProgressHook",
    "RunRecordHook",
    "StopSignalHook",
]
