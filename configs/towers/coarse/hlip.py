# HLIP on coarse voxels: the complete network, for tests of the path on a CPU. Not for published weights.
_base_ = ["../hlip_frozen.py"]
model = dict(backbone=dict(tower=dict(spacing=(9.0, 3.0, 3.0), img_size=(40, 120, 120))))
