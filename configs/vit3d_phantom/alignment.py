# Regions of CTs without masks, and alignment with text, at 48 x 96 x 96 voxels: from phantoms in any field of view and
# random boxes of them. generation.py adds the generation of reasoning steps.
_base_ = ["../vit3d_cot_contrastive.py"]

shape = (48, 96, 96)
# Finer than the input, because boxes of them are resampled.
drawn = (64, 128, 128)
cache_dir = "data/phantoms"
train_pipeline = [
    dict(type="RandomResizedCropCT", shape=shape, scale_z=(0.35, 1.0), scale_xy=(0.4, 1.0), p=0.5),
    dict(type="RandomRegionContrastCT", max_std=120, p=0.7),
    dict(type="RandomIntensityCT", shift=20, contrast=0.1, p=1.0),
    dict(type="RandomNoiseCT", std=30, p=0.3),
    dict(type="PackCTInputs"),
]
test_pipeline = [dict(type="ResampleCT", shape=shape, crop_to_body=True), dict(type="PackCTInputs")]
train_dataloader = dict(
    num_workers=1,
    dataset=dict(num_cases=2560, field="any", shape=drawn, cache=False, cache_dir=cache_dir, pipeline=train_pipeline),
)
val_dataloader = dict(
    dataset=dict(num_cases=96, field="any", shape=drawn, cache=False, cache_dir=cache_dir, pipeline=test_pipeline)
)
test_dataloader = dict(
    dataset=dict(num_cases=96, field="any", shape=drawn, cache=False, cache_dir=cache_dir, pipeline=test_pipeline)
)

model = dict(
    # Most cases are encoded without their region map, as all are at inference.
    data_preprocessor=dict(region_map_drop=0.7),
    backbone=dict(
        img_size=shape,
        patch_embed=dict(patch_size=(6, 16, 16), merges=[(2, 4, 4), (3, 4, 4)], widths=[96], norm=True, mlp_ratio=0.0),
        region_encoder=dict(_delete_=True, type="LearnedRegionEncoder"),
        out_layers=(0,),
    ),
    # The weights of the package were trained with these settings, before the tiny preset changed.
    space=dict(regions_in_volume=True, shared_dims=128),
    by_sentence=False,
    text_encoder=dict(depth=2),
    objectives=dict(
        regions=dict(type="SegmentationObjective", head=dict(type="RegionLogitsHead")),
        voxels=dict(
            type="PointSegmentationObjective",
            num_points=2048,
            head=dict(
                type="PointSegmentationHead",
                dims=24,
                pyramid=dict(type="FeaturePyramid3D", scales=((2, 4, 4), (1, 1, 1))),
            ),
        ),
    ),
)
train_cfg = dict(max_epochs=5, val_interval=5)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.03, begin=0, end=30, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=0, end=5, by_epoch=True, convert_to_iter_based=True),
]
