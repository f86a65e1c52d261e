"""Steps of a data pipeline, one per file."""

from ctvlm.datasets.transforms.load_ct import LoadCT
from ctvlm.datasets.transforms.pack_ct_inputs import PackCTInputs
from ctvlm.datasets.transforms.resample_ct import ResampleCT

__all__ = ["LoadCT", "PackCTInputs", "ResampleCT"]
