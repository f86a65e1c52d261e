# SPECTRE on coarse voxels: the complete network, for tests of the path on a CPU. Not for published weights.
_base_ = ["../spectre_frozen.py"]
model = dict(backbone=dict(tower=dict(spacing=(6.0, 6.0, 12.0), img_size=(64, 64, 32))))
