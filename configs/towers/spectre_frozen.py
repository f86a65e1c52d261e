# Regions and steps on the frozen SPECTRE-Large. Set model.backbone.pretrained to the file of its backbone.
_base_ = ["../vit3d_cot_contrastive_small.py"]
custom_imports = dict(imports=["projects.spectre.spectre_tower"])
model = dict(
    backbone=dict(
        _delete_=True,
        type="PretrainedTower",
        tower=dict(type="SpectreTower", embed_dims=1080, depth=24, num_heads=12, spacing=(0.75, 0.75, 3.0)),
        pretrained=None,
        prefix="",
        train="frozen",
        patch_size=(4, 16, 16),
        embed_dims=384,
        num_regions=20,
        cache_dir=None,
    )
)
