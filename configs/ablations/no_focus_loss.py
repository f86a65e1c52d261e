# Nothing tells the attention of a step where to look but the step's own contrast.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(losses=dict(focus=None))
