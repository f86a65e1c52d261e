# The small preset on your own CTs: one GPU (bf16 with --amp).
_base_ = [
    "_base_/models/vit3d_small.py",
    "_base_/datasets/manifest.py",
    "_base_/schedules/small.py",
    "_base_/default_runtime.py",
]

pipeline = [
    dict(type="LoadCT"),
    dict(type="MeasuredReasoning"),
    dict(type="ResampleCT", shape=(64, 256, 256), crop_to_body=True),
    dict(type="PackCTInputs"),
]
train_dataloader = dict(batch_size=16, num_workers=8, dataset=dict(pipeline=pipeline, cache=False))
val_dataloader = dict(batch_size=16, num_workers=8, dataset=dict(pipeline=pipeline, cache=False))
test_dataloader = dict(batch_size=16, num_workers=8, dataset=dict(pipeline=pipeline, cache=False))
