# Cases of a store that tools/preprocess.py has written. Training reads random, augmented windows of them.
dataset_type = "ManifestCT"
ann_file = "data/store/manifest.jsonl"
window = (64, 192, 192)

train_pipeline = [
    dict(type="LoadStore", window=window, where="random", drop_unseen=True),
    dict(type="RandomFlipCT", p=0.5),
    dict(type="RandomAffineCT", degrees=(3, 3, 8), scale=0.1, translation=8, p=0.3),
    dict(type="RandomIntensityCT", shift=15, contrast=0.05, p=0.5),
    dict(type="RandomNoiseCT", std=25, p=0.3),
    dict(type="ShuffleSentences", p=0.5),
    dict(type="DropSections", step_p=0.1, section_p=0.1),
    dict(type="PackCTInputs"),
]
test_pipeline = [
    dict(type="LoadStore", window=window, where="center"),
    dict(type="PackCTInputs"),
]

train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(type=dataset_type, ann_file=ann_file, split="train", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(type=dataset_type, ann_file=ann_file, split="val", pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(type=dataset_type, ann_file=ann_file, split="test", pipeline=test_pipeline),
)
val_evaluator = [dict(type="RetrievalMetric"), dict(type="RegionTextMetric")]
test_evaluator = val_evaluator
