# The small preset: one GPU. 64 x 256 x 256 voxels are 4,096 tokens.
_base_ = ["vit3d_tiny.py"]
model = dict(
    embed_dims=256,
    backbone=dict(
        img_size=(64, 256, 256),
        patch_size=(4, 16, 16),
        embed_dims=384,
        depth=12,
        num_heads=6,
        mlp_ratio=4.0,
        use_checkpoint=True,
    ),
    text_encoder=dict(vocab_size=8192, embed_dims=256, depth=4, num_heads=4, max_length=256),
)
