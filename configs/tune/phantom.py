# Hyperparameter search of the default model on fewer phantoms, one or two minutes per trial on two cores:
# python tools/tune.py configs/tune/phantom.py --trials 20 --workers 2
_base_ = ["../vit3d_cot_contrastive.py"]

train_dataloader = dict(dataset=dict(num_cases=320))
train_cfg = dict(max_epochs=4, val_interval=2)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.03, begin=0, end=20, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=0, end=4, by_epoch=True, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))

# The search space (keys as for --cfg-options; a list of choices or a range) and the metric to optimize.
tune = dict(
    metric="region_text/accuracy",
    direction="maximize",
    prune=True,
    space={
        "optim_wrapper.optimizer.lr": dict(low=3e-4, high=3e-3, log=True),
        "model.backbone.block.attention.type": ["SliceAwareAttention", "AxialAttention", "FullAttention"],
        "model.space.step_scale": dict(low=5.0, high=20.0, log=True),
    },
)
