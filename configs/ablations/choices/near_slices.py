# The first of the two heads starts with a preference for near slices.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(backbone=dict(attention=dict(near=1.0)))
