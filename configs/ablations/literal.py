# The spec to the letter where it can run: dense attention scores with a slice bias, scores times assignment, and a
# convolution over region ids at full resolution.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(
    backbone=dict(
        attention=dict(backend="dense"),
        region_attention=dict(mode="multiply"),
        region_encoder=dict(overlap="conv"),
    )
)
