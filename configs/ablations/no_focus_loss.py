# No focus loss: the attention of a step is trained by the step loss only.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(losses=dict(focus=None))
