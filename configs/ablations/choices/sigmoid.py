# The sigmoid loss of SigLIP at every level instead of InfoNCE.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(
    losses=dict(
        volume=dict(_delete_=True, type="SigmoidContrastiveLoss"),
        region=dict(_delete_=True, type="SigmoidContrastiveLoss"),
        step=dict(_delete_=True, type="SigmoidContrastiveLoss"),
    )
)
