# An additional loss: voxels of masked patches, from a second pass of the encoder over 25% of the body's patches.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(objectives=dict(masked=dict(type="MaskedReconstructionObjective", mask_ratio=0.75)))
