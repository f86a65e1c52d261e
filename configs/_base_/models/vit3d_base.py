# The base preset: 64 x 512 x 512 voxels, 16,384 patches, the sizes of the specification.
model = dict(
    type="CoTContrastiveVLM",
    data_preprocessor=dict(type="CTDataPreprocessor", windows=["lung", "soft_tissue", "bone"]),
    backbone=dict(
        type="ThreeDVisionEncoder",
        img_size=(64, 512, 512),
        embed_dims=768,
        depth=12,
        num_regions=20,
        # Mean and standard deviation of phantoms in the three windows. Real CTs cropped to the body are close to them.
        normalize=dict(mean=[0.55, 0.17, 0.12], std=[0.31, 0.25, 0.14]),
        patch_embed=dict(type="ThreeDPatchEmbedding", in_channels=3, patch_size=(4, 16, 16)),
        position=dict(type="SinCosPosition3D", scale=0.15),
        block=dict(
            type="ThreeDTransformerBlock",
            num_heads=12,
            mlp_ratio=4.0,
            attention=dict(type="SliceAwareAttention"),
            region_attention=dict(type="RegionAwareAttention"),
            use_checkpoint=True,
        ),
        region_encoder=dict(type="SoftOverlapRegionEncoder"),
        region_layer=0,
        token_selection="none",
    ),
    text_encoder=dict(
        type="CompactTextEncoder", vocab_size=16384, embed_dims=384, depth=6, num_heads=6, max_length=512
    ),
    space=dict(
        type="SharedSpace",
        shared_dims=512,
        regions_in_volume=True,
        volume_pooling=dict(type="VolumePooling", mode="attention", with_regions=True),
        region_pooling=dict(type="RegionPooling", mode="attention"),
    ),
    losses=dict(
        volume=dict(type="CrossModalContrastiveLoss"),
        region=dict(type="RegionAlignmentLoss"),
        step=dict(type="StepAlignmentLoss"),
        focus=dict(type="AttentionFocusLoss"),
    ),
)
