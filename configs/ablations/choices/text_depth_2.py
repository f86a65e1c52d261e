# Two layers of the text encoder instead of one.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(text_encoder=dict(depth=2))
