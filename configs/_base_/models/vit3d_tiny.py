# The tiny preset: 24 x 96 x 96 voxels, 216 patches, minutes on two CPU cores.
model = dict(
    type="CoTContrastiveVLM",
    data_preprocessor=dict(type="CTDataPreprocessor", windows=["lung", "soft_tissue", "bone"]),
    backbone=dict(
        type="ThreeDVisionEncoder",
        img_size=(24, 96, 96),
        embed_dims=128,
        depth=3,
        num_regions=20,
        # Mean and standard deviation of phantoms in the three windows. Real CTs cropped to the body are close to them.
        normalize=dict(mean=[0.55, 0.17, 0.12], std=[0.31, 0.25, 0.14]),
        patch_embed=dict(
            type="HierarchicalPatchEmbedding",
            in_channels=3,
            patch_size=(4, 16, 16),
            merges=[(2, 4, 4), (1, 2, 2), (2, 2, 2)],
            widths=[32, 96],
            norm=False,
            mlp_ratio=2.0,
        ),
        position=dict(type="SinCosPosition3D", scale=0.15),
        block=dict(
            type="ThreeDTransformerBlock",
            num_heads=2,
            mlp_ratio=3.0,
            attention=dict(type="SliceAwareAttention"),
            region_attention=dict(type="RegionAwareAttention"),
        ),
        region_encoder=dict(type="SoftOverlapRegionEncoder"),
        region_layer=1,
        token_selection="body",
    ),
    text_encoder=dict(type="CompactTextEncoder", vocab_size=2048, embed_dims=128, depth=1, num_heads=4),
    space=dict(
        type="SharedSpace",
        shared_dims=256,
        regions_in_volume="sigmoid",
        volume_pooling=dict(type="VolumePooling", mode="attention", with_regions=True),
        region_pooling=dict(type="RegionPooling", mode="attention"),
    ),
    by_sentence=True,
    losses=dict(
        volume=dict(type="CrossModalContrastiveLoss"),
        region=dict(type="RegionAlignmentLoss"),
        step=dict(type="StepAlignmentLoss"),
        focus=dict(type="AttentionFocusLoss"),
    ),
)
