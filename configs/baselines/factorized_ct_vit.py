# CT-ViT: blocks within slices, then blocks along z, with the losses and poolings of the default.
_base_ = ["../vit3d_cot_contrastive.py"]
model = dict(
    backbone=dict(
        _delete_=True,
        type="FactorizedCTViT",
        img_size=(24, 96, 96),
        embed_dims=128,
        spatial_depth=2,
        temporal_depth=2,
        num_regions=20,
        normalize=dict(mean=[0.55, 0.17, 0.12], std=[0.31, 0.25, 0.14]),
        patch_embed=dict(
            type="HierarchicalPatchEmbedding",
            in_channels=3,
            patch_size=(4, 16, 16),
            merges=[(2, 8, 8), (2, 2, 2)],
            widths=[96],
        ),
        position=dict(type="SinCosPosition3D", scale=0.15),
        block=dict(num_heads=2, mlp_ratio=3.0),
        region_encoder=dict(type="SoftOverlapRegionEncoder"),
        token_selection="body",
    )
)
