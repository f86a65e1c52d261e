# Regions and steps on COLIPRI's frozen image encoder. Set model.backbone.pretrained to the file of COLIPRI.
_base_ = ["../vit3d_cot_contrastive_small.py"]
custom_imports = dict(imports=["projects.colipri.colipri_tower"])
model = dict(
    backbone=dict(
        _delete_=True,
        type="PretrainedTower",
        tower=dict(type="ColipriTower", embed_dims=864, depth=16, num_heads=12),
        pretrained=None,
        prefix="image_encoder.backbone.",
        train="frozen",
        patch_size=(4, 16, 16),
        embed_dims=384,
        num_regions=20,
        cache_dir=None,
    )
)
