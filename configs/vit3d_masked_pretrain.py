# Pretraining by masked reconstruction, without text: 25% of the body's patches are encoded, the voxels of the others
# are predicted. Text alignment from its weights: train another config with
# --cfg-options load_from=work_dirs/vit3d_masked_pretrain/epoch_8.pth load_strict=False
# Linear probe of the encoder:
# python tools/analysis_tools/linear_probe.py configs/vit3d_masked_pretrain.py \
#   work_dirs/vit3d_masked_pretrain/epoch_8.pth
_base_ = ["vit3d_cot_contrastive.py"]

model = dict(
    # The probe reads the mean of the patches: an attention pooling is not trained here.
    space=dict(regions_in_volume=False, volume_pooling=dict(_delete_=True, type="VolumePooling", mode="mean")),
    losses=dict(_delete_=True),
    objectives=dict(
        masked=dict(
            type="MaskedReconstructionObjective",
            mask_ratio=0.75,
            decoder=dict(patch_size=(4, 16, 16), embed_dims=96, depth=2, num_heads=2),
        )
    ),
)
# The text encoder and the projections are not trained.
find_unused_parameters = True
# An effective rank near 1 means that all volumes have the same embedding.
val_evaluator = [dict(type="EmbeddingHealthMetric")]
test_evaluator = val_evaluator
