# Losses weighted by learned uncertainties.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(
    multi_task=dict(type="MultiTaskLoss", names=["loss_volume", "loss_region", "loss_step", "loss_focus"], learned=True)
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"log_variance": dict(decay_mult=0.0)}))
