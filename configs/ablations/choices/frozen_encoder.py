# A frozen encoder with mask pooling: labels and impressions, from regions and patches. Compare with
# frozen_encoder_global.py. The encoder is that of: python tools/train.py configs/ablations/choices/steps_only.py
_base_ = ["../../finetune_classification.py"]
load_from = "work_dirs/steps_only/epoch_8.pth"
model = dict(
    frozen=["backbone"],
    losses=dict(volume=dict(type="CrossModalContrastiveLoss")),
)
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
default_hooks = dict(checkpoint=dict(save_best=None))
val_evaluator = [
    dict(type="ClassificationMetric", names={{_base_.names}}, prefix="classification"),
    dict(type="RetrievalMetric"),
]
test_evaluator = val_evaluator
