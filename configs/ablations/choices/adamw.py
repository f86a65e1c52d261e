# AdamW for weight matrices too, with the learning rate that was tuned for it.
_base_ = ["../../vit3d_cot_contrastive.py"]

optim_wrapper = dict(
    constructor="DefaultOptimWrapperConstructor",
    optimizer=dict(_delete_=True, type="AdamW", lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.05),
)
