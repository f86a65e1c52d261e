"""Features of a frozen tower are computed once per volume, and are those of the tower."""

from __future__ import annotations

import dataclasses
import errno
import multiprocessing
import os
import warnings

import pytest
import torch
from mmengine.logging import MessageHub

from ctvlm.models.backbones import PretrainedTower
from ctvlm.models.backbones.feature_cache import FeatureCache
from tests.faults import FailingCalls
from tests.test_models.test_backbones.test_pretrained_tower import encoder as plain_encoder, hu_volume

SPACING = torch.tensor([[3.0, 1.0, 1.0], [2.0, 0.8, 0.7]])


def encoder(cache_dir, patch_size=(2, 4, 4), **tower):
    torch.manual_seed(0)
    config = dict(type="MeanTower", **tower)
    return PretrainedTower(config, patch_size=patch_size, embed_dims=8, cache_dir=str(cache_dir))


def counted(model):
    """The list of the inputs that the tower reads from now on."""
    read = []
    model.tower.register_forward_hook(lambda module, inputs, output: read.append(inputs[0]))
    return read


def missed(model, volume=None, spacing_B3=SPACING):
    """Number of cases that the tower reads for a batch."""
    read = counted(model)
    model(hu_volume() if volume is None else volume, None, spacing_B3)
    return len(read)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
def test_the_second_pass_does_not_run_the_tower(tmp_path, dtype):
    model, volume = encoder(tmp_path), hu_volume().to(dtype)
    read = counted(model)
    first = model(volume, None, SPACING).tokens
    assert len(read) == 2 and len(files(tmp_path)) == 2
    assert torch.equal(model(volume, None, SPACING).tokens, first)
    assert torch.equal(model(volume[1:], None, SPACING[1:]).tokens, first[1:])
    again = encoder(tmp_path)  # another process, after a restart
    read_again = counted(again)
    assert torch.equal(again(volume, None, SPACING).tokens, first)
    assert len(read) == 2 and not read_again
    plain = plain_encoder().features(volume, model.token_context(volume, SPACING))
    found = again.features(volume, model.token_context(volume, SPACING))
    assert (found - plain).norm() <= 5e-4 * plain.norm()


def test_gradients_are_those_without_the_cache(tmp_path):
    volume, gradients = hu_volume(), []
    for model in (plain_encoder(), encoder(tmp_path), encoder(tmp_path)):
        model(volume, None, SPACING).tokens.pow(3).sum().backward()
        assert all(p.grad is None for p in model.tower.parameters())
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    plain, first, second = gradients
    assert "proj.weight" in plain and plain.keys() == first.keys() == second.keys()
    for name, expected in plain.items():
        assert torch.equal(first[name], second[name])
        assert (first[name] - expected).norm() <= 2e-3 * expected.norm() + 1e-6


@pytest.mark.parametrize("scale", [1e8, 1e-8], ids=["above half precision", "below half precision"])
def test_values_that_half_precision_cannot_hold_are_exact(tmp_path, scale):
    plain, model = plain_encoder(), encoder(tmp_path)
    for tower in (plain.tower, model.tower):
        tower.net[2].weight.data *= scale
        tower.net[2].bias.data *= scale
    context = plain.token_context(hu_volume(), SPACING)
    expected = plain.features(hu_volume(), context)
    for _ in range(2):
        assert torch.equal(model.features(hu_volume(), context), expected)


def test_another_volume_spacing_or_shape_is_another_entry(tmp_path):
    model, volume = encoder(tmp_path), hu_volume()
    assert missed(model) == 2 and missed(model) == 0
    changed = volume.clone()
    changed[1, 0, 3, 5, 7] += 1
    assert missed(model, changed) == 1
    assert missed(model, volume, SPACING * torch.tensor([1.0, 1.0, 1.001])) == 2
    assert missed(model, volume.view(2, 1, 16, 8, 12)) == 2
    assert missed(model, volume.flip(4)) == 2


@pytest.mark.parametrize("change", ["weight", "loaded", "double", "convention", "patch_size", "config", "autocast"])
def test_what_changes_the_features_changes_the_fingerprint(tmp_path, change):
    model = encoder(tmp_path)
    assert missed(model) == 2 and missed(model) == 0
    if change == "weight":
        with torch.no_grad():
            model.tower.net[0].bias[3] += 1e-6
    elif change == "loaded":
        other = {key: value * 2 for key, value in model.tower.net.state_dict().items()}
        model.tower.net.load_state_dict(other)
    elif change == "double":
        model.tower.double()
        model.tower.register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))
    elif change == "convention":
        model.convention = dataclasses.replace(model.convention, hu=(-500.0, 500.0))
    elif change == "patch_size":
        model = encoder(tmp_path, patch_size=(4, 4, 4))
    elif change == "config":
        model = encoder(tmp_path, values=(0.0, 1.5))
    with torch.autocast("cpu", torch.bfloat16, enabled=change == "autocast"):
        assert missed(model) == 2
        assert missed(model) == 0


@pytest.mark.parametrize("fault", ["bit", "short", "long", "empty", "other text", "another volume", "fifo"])
def test_a_damaged_file_is_computed_again_and_replaced(tmp_path, fault):
    model = encoder(tmp_path)
    expected = model(hu_volume(), None, SPACING).tokens
    path, other = files(tmp_path)
    intact = path.read_bytes()
    content = {
        "bit": intact[:60] + bytes([intact[60] ^ 1]) + intact[61:],
        "short": intact[:-1],
        "long": intact + b"0",
        "empty": b"",
        "other text": b"a" * len(intact),
        "another volume": other.read_bytes(),
        "fifo": b"",
    }[fault]
    path.unlink()
    if fault != "fifo":
        path.write_bytes(content)
    elif hasattr(os, "mkfifo"):
        os.mkfifo(path)
    else:
        pytest.skip("no named pipes on this system")
    with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
        assert torch.equal(model(hu_volume(), None, SPACING).tokens, expected)
    assert path.read_bytes() == intact
    assert missed(model) == 0


def test_a_full_disk_is_a_warning(tmp_path, monkeypatch):
    expected = encoder(tmp_path / "other")(hu_volume(), None, SPACING).tokens
    model, folder = encoder(tmp_path / "cache"), tmp_path / "cache"
    with monkeypatch.context() as patched, pytest.warns(UserWarning, match="cannot be written.*No space left"):
        FailingCalls(patched, folder, ("replace",), errno.ENOSPC)
        assert torch.equal(model(hu_volume(), None, SPACING).tokens, expected)
    assert not files(folder)
    (tmp_path / "file").write_text("notes")
    with pytest.warns(UserWarning, match="backbone.cache_dir"):
        assert torch.equal(encoder(tmp_path / "file")(hu_volume(), None, SPACING).tokens, expected)
    assert (tmp_path / "file").read_text() == "notes"


def test_features_that_are_not_finite_are_not_kept(tmp_path):
    model = encoder(tmp_path)
    model.tower.net[2].bias.data[0] = torch.nan
    model(hu_volume(), None, SPACING)
    assert not files(tmp_path)


def _encode(folder, reverse, results):
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    model = encoder(folder)
    order = [11 - i if reverse else i for i in range(12)]
    tokens = {}
    for number in order * 3:
        volume = hu_volume(1) + number
        tokens[number] = model(volume, None, SPACING[:1]).tokens.detach().numpy()
    results.put([tokens[number] for number in range(12)])


def test_two_processes_share_the_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_encode, args=(tmp_path, reverse, results)) for reverse in (False, True)]
    for process in processes:
        process.start()
    first, second = results.get(timeout=300), results.get(timeout=300)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert len(files(tmp_path)) == 12


def test_a_file_that_another_process_wrote_first_is_kept(tmp_path):
    model, other = encoder(tmp_path), encoder(tmp_path)
    written = []

    def write_first(module, inputs, output):
        other(hu_volume(1), None, SPACING[:1])
        written.extend(path.stat().st_ino for path in files(tmp_path))

    model.tower.register_forward_hook(write_first)
    model(hu_volume(1), None, SPACING[:1])
    assert len(written) == 1
    assert [path.stat().st_ino for path in files(tmp_path)] == written


def test_settings_that_weights_do_not_show_change_the_fingerprint(tmp_path):
    tower = encoder(tmp_path).tower
    found = [FeatureCache(tmp_path, dict(num_heads=heads)).fingerprint(tower) for heads in (1, 2, 2)]
    assert found[0] != found[1] == found[2]
    # A config that was saved as JSON has lists.
    assert FeatureCache("a", dict(size=(1, 2))).fingerprint(tower) == FeatureCache("b", dict(size=[1, 2])).fingerprint(
        tower
    )


def test_only_trainings_use_the_cache(tmp_path):
    model = encoder(tmp_path).eval()
    assert missed(model) == 2 and missed(model) == 2 and not files(tmp_path)
    assert missed(model.train()) == 2
    assert missed(model.eval()) == 0  # the validation of a training


@pytest.mark.parametrize("augmented", [True, False])
def test_random_augmentation_is_a_warning_in_the_second_epoch(tmp_path, monkeypatch, augmented):
    hub = MessageHub("feature cache")
    monkeypatch.setattr(MessageHub, "get_current_instance", lambda: hub)
    model = encoder(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for epoch in range(3):
            hub.update_info("epoch", epoch)
            for number in range(10):
                model(hu_volume(1) + number * 20 + epoch * augmented, None, SPACING[:1])
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == augmented
    assert all("8 of the first 8 volumes of the second epoch" in message for message in messages)


@pytest.mark.parametrize("train", ["top", "lora", "full"])
def test_a_trained_tower_has_no_cache(tmp_path, train):
    with pytest.raises(ValueError, match=r"cache_dir needs train = 'frozen'"):
        PretrainedTower(dict(type="MeanTower"), train=train, cache_dir=str(tmp_path))
