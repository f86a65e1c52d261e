# The default model: the reference of every ablation.
_base_ = ["../vit3d_cot_contrastive.py"]
