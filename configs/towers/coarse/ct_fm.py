# CT-FM on coarse voxels: the complete network, for tests of the path on a CPU. Not for published weights.
_base_ = ["../ct_fm_frozen.py"]
model = dict(backbone=dict(tower=dict(spacing=(8.0, 8.0, 8.0))))
