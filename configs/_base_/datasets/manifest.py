# Your own CTs, listed in a case manifest (JSON Lines, written by tools/dataset_converters/). Each sentence of a report
# is a step where a case has no cot; cases without any text get true text, measured from their region maps.
dataset_type = "ManifestCT"
ann_file = "data/ct/manifest.jsonl"
allow_outside = False  # True: trust the manifest, and accept files outside its folder
manifest = dict(ann_file=ann_file, allow_outside=allow_outside)

pipeline = [
    dict(type="LoadCT"),
    dict(type="MeasuredReasoning"),
    dict(type="ResampleCT", shape=(24, 96, 96), crop_to_body=True),
    dict(type="PackCTInputs"),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(type=dataset_type, split="train", pipeline=pipeline, cache=True, **manifest),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(type=dataset_type, split="val", pipeline=pipeline, cache=True, **manifest),
)
test_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(type=dataset_type, split="test", pipeline=pipeline, cache=True, **manifest),
)
val_evaluator = [dict(type="RetrievalMetric"), dict(type="RegionTextMetric")]
test_evaluator = val_evaluator
