# An additional loss: predict which of two reasoning steps comes first from their patches.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(losses=dict(order=dict(type="StepOrderLoss")))
