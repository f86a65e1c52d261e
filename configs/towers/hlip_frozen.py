# Regions and steps on the frozen vision transformer of HLIP. Set model.backbone.pretrained to HLIP's file.
_base_ = ["../vit3d_cot_contrastive_small.py"]
custom_imports = dict(imports=["projects.hlip.hlip_tower"])
model = dict(
    backbone=dict(
        _delete_=True,
        type="PretrainedTower",
        tower=dict(type="HLIPTower", embed_dims=768, depth=12, num_heads=12),
        pretrained=None,
        prefix="module.visual.trunk.",
        train="frozen",
        patch_size=(4, 16, 16),
        embed_dims=384,
        num_regions=20,
        cache_dir=None,
    )
)
