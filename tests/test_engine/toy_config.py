_base_ = ["../../configs/_base_/default_runtime.py"]
custom_imports = dict(imports=["tests.test_engine.toy"])

model = dict(type="ToyModel")
train_dataloader = dict(
    dataset=dict(type="ToyDataset", augment=True),
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="pseudo_collate"),
    batch_size=8,
    num_workers=0,
)
val_dataloader = dict(
    dataset=dict(type="ToyDataset", length=12),
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    batch_size=8,
    num_workers=0,
)
test_dataloader = val_dataloader
val_evaluator = dict(type="ToyMetric")
test_evaluator = val_evaluator
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=4, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-2))
param_scheduler = [dict(type="CosineAnnealingLR", T_max=4, by_epoch=True, convert_to_iter_based=True)]
auto_scale_lr = dict(enable=False, base_batch_size=8)
default_hooks = dict(
    checkpoint=dict(save_best="toy/error", rule="less"), progress=dict(interval=2), logger=dict(interval=1)
)
