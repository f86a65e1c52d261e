# Schedule of the base preset: 20 epochs, AdamW, batch size 8.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=20, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    constructor="DefaultOptimWrapperConstructor",
    # AdamW, as is usual for encoders of this size. Muon (schedules/tiny.py) was not measured here.
    optimizer=dict(type="AdamW", lr=2e-4, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={"logit_scale": dict(decay_mult=0.0)}),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=1, by_epoch=True, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-6, begin=1, end=20, by_epoch=True, convert_to_iter_based=True),
]
# The batch size that the learning rate was chosen for; used by --auto-scale-lr.
auto_scale_lr = dict(enable=False, base_batch_size=8)
