# The base preset: the spec's encoder. 64 x 512 x 512 voxels are 16,384 tokens.
_base_ = ["vit3d_tiny.py"]
model = dict(
    embed_dims=512,
    backbone=dict(
        img_size=(64, 512, 512),
        patch_size=(4, 16, 16),
        embed_dims=768,
        depth=12,
        num_heads=12,
        num_regions=20,
        mlp_ratio=4.0,
        use_checkpoint=True,
    ),
    text_encoder=dict(vocab_size=16384, embed_dims=384, depth=6, num_heads=6, max_length=512),
)
