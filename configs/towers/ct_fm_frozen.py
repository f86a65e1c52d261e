# Regions and steps on CT-FM's frozen encoder. Set model.backbone.pretrained to the file of its feature extractor.
_base_ = ["../vit3d_cot_contrastive_small.py"]
custom_imports = dict(imports=["projects.ct_fm.ct_fm_tower"])
model = dict(
    backbone=dict(
        _delete_=True,
        type="PretrainedTower",
        tower=dict(type="CTFMTower", spacing=(1.5, 1.5, 1.5)),
        pretrained=None,
        prefix="",
        train="frozen",
        patch_size=(4, 16, 16),
        embed_dims=384,
        num_regions=20,
        cache_dir=None,
    )
)
