# The tiny preset: minutes on a laptop CPU.
model = dict(
    type="CoTContrastiveVLM",
    embed_dims=128,
    data_preprocessor=dict(type="CTDataPreprocessor", windows=["lung", "soft_tissue", "bone"]),
    backbone=dict(
        type="ThreeDVisionEncoder",
        img_size=(24, 96, 96),
        patch_size=(4, 16, 16),
        in_channels=3,
        embed_dims=192,
        depth=4,
        num_heads=3,
        num_regions=20,
    ),
    text_encoder=dict(type="CompactTextEncoder", vocab_size=2048, embed_dims=128, depth=2, num_heads=4),
    losses=dict(
        volume=dict(type="CrossModalContrastiveLoss"),
        region=dict(type="RegionAlignmentLoss"),
        step=dict(type="StepAlignmentLoss"),
    ),
)
