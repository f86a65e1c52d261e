# An additional loss: reasoning steps against their opposites (negation, side, size changed by rule), given the volume.
_base_ = ["../../vit3d_cot_contrastive.py"]
model = dict(losses=dict(opposite=dict(type="OppositeTextLoss")))
