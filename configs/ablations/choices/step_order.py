# Which of two reasoning steps comes first, told from what each looks at, as a further loss.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(losses=dict(order=dict(type="StepOrderLoss")))
