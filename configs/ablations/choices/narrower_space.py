# A shared space of width 128 instead of 256.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(space=dict(shared_dims=128))
