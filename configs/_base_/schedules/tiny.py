# Epoch-based: an interrupted run resumes at the start of an epoch and gives the same result as an uninterrupted one.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=8, val_interval=4)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    constructor="MuonConstructor",
    optimizer=dict(type="MuonAdamW", lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.05, matrix_lr=10.0),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={"logit_scale": dict(decay_mult=0.0)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.03, begin=0, end=30, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=0, end=8, by_epoch=True, convert_to_iter_based=True),
]
# The batch size that the learning rate was chosen for; used by --auto-scale-lr.
auto_scale_lr = dict(enable=False, base_batch_size=16)
