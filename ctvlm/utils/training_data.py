"""Records of what weights were trained on; checkpoints hold them in ``meta["training_data"]``."""

from __future__ import annotations

from typing import Any

# The ``source`` of phantom cases in a manifest, and the description of phantom CTs in NIfTI headers.
PHANTOM_SOURCE = "PhantomCT"
PHANTOMS_ONLY = "these weights were trained on phantoms only: attention and text scores on real CTs are not meaningful"


def data_record(
    dataset: str,
    cases: int | None = None,
    split: str | None = None,
    text: str | None = None,
    synthetic: bool | None = None,
    scheme: str | None = None,
    sources: list[str] | None = None,
) -> dict[str, Any]:
    """One entry of the training data, in plain containers; None is "unknown".

    Args:
        dataset: type of the data set.
        text: where the text comes from: ``'given report'``, ``'measured'``, ``'phantom'`` or ``'none'``.
        synthetic: whether the CTs are phantoms.
        scheme: name of the region scheme.
        sources: ``source`` of the manifest's cases.
    """
    return dict(
        dataset=dataset, split=split, cases=cases, text=text, synthetic=synthetic, scheme=scheme, sources=sources or []
    )


def dataset_records(dataset: Any) -> list[dict]:
    """Records of a data set, and of each data set inside a wrapper.

    A data set states them by a method ``data_records()``. Without it, only its type and length are known.
    """
    if hasattr(dataset, "data_records"):
        return dataset.data_records()
    inside = getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]
    if inside != [None]:
        return [record for one in inside for record in dataset_records(one)]
    return [data_record(type(dataset).__name__, len(dataset) if hasattr(dataset, "__len__") else None)]


def checkpoint_records(checkpoint: dict) -> list[dict]:
    """Records of a checkpoint; one of type ``'unknown'`` for a checkpoint without them."""
    return list((checkpoint.get("meta") or {}).get("training_data") or [data_record("unknown")])


def merge_records(before: list[dict], now: list[dict]) -> list[dict]:
    """``before``, then what is new in ``now``: a resumed run trains on the same data again."""
    return before + [record for record in now if record not in before]


def only_phantoms(records: list[dict]) -> bool:
    """Whether all training data are known to be phantoms."""
    return bool(records) and all(record.get("synthetic") is True for record in records)


def any_real(records: list[dict]) -> bool:
    """Whether some of the data are known not to be phantoms."""
    return any(record.get("synthetic") is False for record in records)
