# A 2D transformer of timm on each slice; four slices are averaged to a token. No block attends to other slices.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(
    backbone=dict(
        _delete_=True,
        type="SliceWiseTimm",
        model_name="vit_tiny_patch16_224",
        model_kwargs=dict(embed_dim=128, depth=3, num_heads=2, mlp_ratio=3.0, img_size=96),
        in_channels=3,
        normalize=dict(mean=[0.55, 0.17, 0.12], std=[0.31, 0.25, 0.14]),
        embed_dims=128,
        slices_per_token=4,
        num_regions=20,
    )
)
