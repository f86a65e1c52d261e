# A frozen encoder with mask pooling: labels and impressions, from regions and patches. The encoder was pretrained
# without text by configs/vit3d_masked_pretrain.py; compare with frozen_encoder_global.py.
_base_ = ["../../finetune_classification.py"]
load_from = "work_dirs/vit3d_masked_pretrain/epoch_8.pth"
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
