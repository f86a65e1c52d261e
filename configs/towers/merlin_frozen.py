# Regions and steps on Merlin's frozen image encoder. Set model.backbone.pretrained to Merlin's file.
_base_ = ["../vit3d_cot_contrastive_small.py"]
custom_imports = dict(imports=["projects.merlin.merlin_tower"])
model = dict(
    backbone=dict(
        _delete_=True,
        type="PretrainedTower",
        tower=dict(type="MerlinTower"),
        pretrained=None,
        prefix="encode_image.i3_resnet.",
        train="frozen",
        patch_size=(8, 32, 32),
        embed_dims=384,
        num_regions=20,
        cache_dir=None,
    )
)
