# Regions and steps on CT-CLIP's frozen image encoder. Set model.backbone.pretrained to the file CT-CLIP_v2.pt.
_base_ = ["../vit3d_cot_contrastive_small.py"]
custom_imports = dict(imports=["projects.ct_clip.ct_clip_tower"])
model = dict(
    backbone=dict(
        _delete_=True,
        type="PretrainedTower",
        tower=dict(type="CTClipTower", embed_dims=512, num_heads=8),
        pretrained=None,
        prefix="visual_transformer.",
        train="frozen",
        patch_size=(4, 16, 16),
        embed_dims=384,
        num_regions=20,
        cache_dir=None,
    )
)
