# The default model: what every ablation is held against.
_base_ = ["../vit3d_cot_contrastive.py"]
