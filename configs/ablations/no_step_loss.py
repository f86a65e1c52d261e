# Steps are not contrasted; their attention is still focused.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(losses=dict(step=None))
