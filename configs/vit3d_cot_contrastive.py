# The default: the tiny preset on phantom CTs, minutes on two CPU cores.
_base_ = [
    "_base_/models/vit3d_tiny.py",
    "_base_/datasets/phantom.py",
    "_base_/schedules/tiny.py",
    "_base_/default_runtime.py",
]
