# Attention that does not know how far apart slices are.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(backbone=dict(block=dict(attention=dict(_delete_=True, type="FullAttention"))))
