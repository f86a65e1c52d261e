# The tiny model on your own CTs: write a manifest to data/ct/manifest.jsonl (or change ann_file), then train.
_base_ = [
    "_base_/models/vit3d_tiny.py",
    "_base_/datasets/manifest.py",
    "_base_/schedules/tiny.py",
    "_base_/default_runtime.py",
]

# Epochs of few cases are short: train for more epochs, with fewer checkpoints and validations.
train_cfg = dict(max_epochs=60, val_interval=20)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=5, by_epoch=True),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=5, end=60, by_epoch=True),
]
default_hooks = dict(checkpoint=dict(interval=20))
auto_scale_lr = dict(base_batch_size=4)
