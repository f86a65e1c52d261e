"""Transforms of the data pipeline."""

from ctvlm.datasets.transforms.load_ct import LoadCT
from ctvlm.datasets.transforms.load_store import LoadStore
from ctvlm.datasets.transforms.pack_ct_inputs import PackCTInputs
from ctvlm.datasets.transforms.random_affine import RandomAffineCT
from ctvlm.datasets.transforms.random_crop import RandomCropCT
from ctvlm.datasets.transforms.random_flip import RandomFlipCT
from ctvlm.datasets.transforms.random_intensity import RandomIntensityCT
from ctvlm.datasets.transforms.random_noise import RandomNoiseCT
from ctvlm.datasets.transforms.random_region_contrast import RandomRegionContrastCT
from ctvlm.datasets.transforms.random_resized_crop import RandomResizedCropCT
from ctvlm.datasets.transforms.random_shift import RandomShiftCT
from ctvlm.datasets.transforms.random_text import DropSections, ShuffleSentences
from ctvlm.datasets.transforms.resample_ct import ResampleCT
from ctvlm.datasets.transforms.torchio_transform import TorchIOTransform

__all__ = [
    "DropSections",
    "LoadCT",
    "LoadStore",
    "PackCTInputs",
    "RandomAffineCT",
    "RandomCropCT",
    "RandomFlipCT",
    "RandomIntensityCT",
    "RandomNoiseCT",
    "RandomRegionContrastCT",
    "RandomResizedCropCT",
    "RandomShiftCT",
    "ResampleCT",
    "ShuffleSentences",
    "TorchIOTransform",
]
