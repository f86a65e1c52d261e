# The default for CTs without masks: the encoder predicts regions itself, so that a CT alone gives region features.
# Phantoms have any field of view, varying HU and noise, and pass through the pipeline of real CTs.
_base_ = ["vit3d_cot_contrastive.py"]

resample = dict(type="ResampleCT", shape=(24, 96, 96), crop_to_body=True)
train_pipeline = [
    resample,
    dict(type="RandomShiftCT", max_shift=(2, 6, 6)),
    dict(type="RandomIntensityCT", shift=20, contrast=0.08, p=1.0),
    dict(type="RandomNoiseCT", std=25, p=0.5),
    dict(type="PackCTInputs"),
]
test_pipeline = [resample, dict(type="PackCTInputs")]
# Workers draw and resample each case once; it is then kept in memory.
train_dataloader = dict(num_workers=2, dataset=dict(field="any", pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(field="any", pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(field="any", pipeline=test_pipeline))

model = dict(
    # Half of the cases are encoded without their region map, as all are at inference.
    data_preprocessor=dict(region_map_drop=0.5),
    backbone=dict(region_encoder=dict(_delete_=True, type="LearnedRegionEncoder"), out_layers=(0,)),
    objectives=dict(
        regions=dict(type="SegmentationObjective", head=dict(type="RegionLogitsHead")),
        voxels=dict(type="SegmentationObjective", head=dict(type="VoxelSegmentationHead", dims=24)),
    ),
)
