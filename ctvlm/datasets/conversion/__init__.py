"""Conversion of public data sets to case manifests, used by the tools in tools/dataset_converters."""

from ctvlm.datasets.conversion.case_list import CaseList, ConversionError, DropCase
from ctvlm.datasets.conversion.ct_rate import (
    CTRate,
    ct_rate_cases,
    open_ct_rate,
    prepare_ct_rate,
)
from ctvlm.datasets.conversion.ct_rate_ab import ct_rate_ab_cases
from ctvlm.datasets.conversion.ct_rate_cot import ct_rate_cot_cases
from ctvlm.datasets.conversion.folder import FolderRules, folder_cases
from ctvlm.datasets.conversion.inspect_ctpa import inspect_cases, prepare_inspect
from ctvlm.datasets.conversion.merlin import merlin_cases
from ctvlm.datasets.conversion.omniabnorm import omniabnorm_cot_cases
from ctvlm.datasets.conversion.omniabnorm_14k import omniabnorm_14k_cases, prepare_omniabnorm_14k
from ctvlm.datasets.conversion.rad_chestct import rad_chestct_cases
from ctvlm.datasets.conversion.radgenome import radgenome_cases
from ctvlm.datasets.conversion.reports import ReportColumns, add_reports
from ctvlm.datasets.conversion.rexgrounding import prepare_rexgrounding, rexgrounding_cases
from ctvlm.datasets.conversion.runner import run_converter
from ctvlm.datasets.conversion.splits import fill_splits, share_of_patient, split_patients
from ctvlm.datasets.conversion.text import text_steps

__all__ = [
    "CTRate",
    "ConversionError",
    "DropCase",
    "FolderRules",
    "CaseList",
    "ReportColumns",
    "add_reports",
    "ct_rate_ab_cases",
    "ct_rate_cases",
    "ct_rate_cot_cases",
    "fill_splits",
    "folder_cases",
    "inspect_cases",
    "merlin_cases",
    "omniabnorm_14k_cases",
    "omniabnorm_cot_cases",
    "open_ct_rate",
    "prepare_ct_rate",
    "prepare_inspect",
    "prepare_omniabnorm_14k",
    "prepare_rexgrounding",
    "rad_chestct_cases",
    "radgenome_cases",
    "rexgrounding_cases",
    "run_converter",
    "share_of_patient",
    "split_patients",
    "text_steps",
]
