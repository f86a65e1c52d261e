"""Records of the data that weights were trained on, stored in ``meta["training_data"]`` of checkpoints."""

from __future__ import annotations

from typing import Any

# ``source`` of phantom cases in a manifest, and description of phantom CTs in NIfTI headers.
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
    """One record in plain containers; None means unknown.

    Args:
        dataset: type of the data set.
        text: origin of the text: ``'given report'``, ``'measured'``, ``'phantom'`` or ``'none'``.
        synthetic: whether the CTs are phantoms.
        scheme: name of the region scheme.
        sources: ``source`` of the manifest's cases.
    """
    return dict(
        dataset=dataset, split=split, cases=cases, text=text, synthetic=synthetic, scheme=scheme, sources=sources or []
    )


def dataset_records(dataset: Any) -> list[dict]:
    """Records of a data set, or of each data set inside a wrapper.

    A data set provides them with a method ``data_records()``. Without it, only its type and length are known.
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
    """``before`` and the records of ``now`` that are not in it: a resumed run trains on the same data again."""
    return before + [record for record in now if record not in before]


def only_phantoms(records: list[dict]) -> bool:
    """Whether all training data are known to be phantoms."""
    return bool(records) and all(record.get("synthetic") is True for record in records)


def any_real(records: list[dict]) -> bool:
    """Whether some training data are known not to be phantoms."""
    return any(record.get("synthetic") is False for record in records)
