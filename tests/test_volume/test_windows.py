import pytest
import torch

from ctvlm.volume.windows import WINDOWS, apply_windows, resolve_window


def test_window_limits_map_to_0_and_1():
    for name, (centre, width) in WINDOWS.items():
        hu = torch.tensor([centre - width / 2, centre, centre + width / 2]).reshape(1, 3, 1, 1)
        assert apply_windows(hu, [name]).flatten().tolist() == pytest.approx([0.0, 0.5, 1.0])


def test_soft_tissue_window_clips_the_lung():
    """The reason for three default windows: lung (about -850 HU) is 0 in (40, 400)."""
    lung = torch.full((1, 2, 2, 2), -850, dtype=torch.int16)
    stacked = apply_windows(lung, ["lung", "soft_tissue", "bone"])
    assert stacked.shape == (1, 3, 2, 2, 2)
    assert stacked[:, 0].min() > 0.2
    assert stacked[:, 1:].max() == 0


def test_unknown_names_and_invalid_widths():
    with pytest.raises(ValueError, match=r"'marrow'.*bone.*lung.*soft_tissue"):
        resolve_window("marrow")
    with pytest.raises(ValueError, match=r"\(40, 0\)"):
        resolve_window((40, 0))
