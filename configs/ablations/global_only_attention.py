# global_only with the learned pooling of the default: the fair comparison in retrieval. Its regions and patches are no
# longer in the space of its volumes.
_base_ = ["global_only.py"]
model = dict(space=dict(volume_pooling=dict(mode="attention")))
