# The base preset on your own CTs: the sizes of the specification with the default components.
_base_ = [
    "_base_/models/vit3d_base.py",
    "_base_/datasets/manifest.py",
    "_base_/schedules/base.py",
    "_base_/default_runtime.py",
]

pipeline = [
    dict(type="LoadCT"),
    dict(type="MeasuredReasoning"),
    dict(type="ResampleCT", shape=(64, 512, 512), crop_to_body=True),
    dict(type="PackCTInputs"),
]
train_dataloader = dict(batch_size=8, num_workers=8, dataset=dict(pipeline=pipeline, cache=False))
val_dataloader = dict(batch_size=8, num_workers=8, dataset=dict(pipeline=pipeline, cache=False))
test_dataloader = dict(batch_size=8, num_workers=8, dataset=dict(pipeline=pipeline, cache=False))
