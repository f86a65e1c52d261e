# Attention without a bias for the distance between slices.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(backbone=dict(block=dict(attention=dict(_delete_=True, type="FullAttention"))))
