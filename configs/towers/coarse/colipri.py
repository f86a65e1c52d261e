# COLIPRI on coarse voxels: the complete network, for tests of the path on a CPU. Not for published weights.
_base_ = ["../colipri_frozen.py"]
model = dict(backbone=dict(tower=dict(spacing=(12.0, 12.0, 12.0), img_size=(32, 32, 32))))
