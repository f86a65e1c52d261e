# Phantom CTs, generated from a seed. Nothing is downloaded.
dataset_type = "PhantomCT"
phantom_shape = (24, 96, 96)

train_pipeline = [dict(type="RandomShiftCT", max_shift=(1, 4, 4)), dict(type="PackCTInputs")]
test_pipeline = [dict(type="PackCTInputs")]

train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="pseudo_collate"),
    drop_last=True,
    dataset=dict(
        type=dataset_type, num_cases=1440, seed=0, split="train", shape=phantom_shape, pipeline=train_pipeline
    ),
)
val_dataloader = dict(
    batch_size=25,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(type=dataset_type, num_cases=100, seed=0, split="val", shape=phantom_shape, pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=25,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(type=dataset_type, num_cases=100, seed=0, split="test", shape=phantom_shape, pipeline=test_pipeline),
)
val_evaluator = [
    dict(type="RetrievalMetric"),
    dict(type="RegionTextMetric"),
    dict(type="StepTextMetric"),
    dict(type="AlignmentMetric"),
    dict(type="OppositeTextMetric"),
]
test_evaluator = val_evaluator
