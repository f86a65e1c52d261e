from __future__ import annotations

from ctvlm.text.finding_labels import CT_RATE_LABELS

KINDS = {"models", "configs", "components", "protocols", "findings", "schemes"}


def test_json(ctvlm):
    document = ctvlm("list", "--json").document
    assert set(document) == KINDS
    configs = {row["name"]: row["description"] for row in document["configs"]}
    assert "tiny preset" in configs["vit3d_cot_contrastive"] and "ablations/full" in configs
    assert not [name for name in configs if name.startswith("_base_") or not configs[name]]
    assert {"registry": "backbone", "name": "ThreeDVisionEncoder"}.items() <= next(
        row for row in document["components"] if row["name"] == "ThreeDVisionEncoder"
    ).items()
    assert [row["name"] for row in document["findings"]] == list(CT_RATE_LABELS)
    assert {"hlip", "vlm3d"} <= {row["name"] for row in document["protocols"]}
    assert "totalsegmentator_v2" in document["schemes"][0]["mask_sources"]


def test_one_kind(ctvlm):
    outcome = ctvlm("list", "configs", "--json")
    assert set(outcome.document) == {"configs"}
    table = ctvlm("list", "configs").out
    assert not [row["name"] for row in outcome.document["configs"] if row["name"] not in table]


def test_everything_in_short(ctvlm):
    out = ctvlm("list").out
    for name in (*KINDS, "vit3d_cot_generation", "SliceAwareAttention", "thorax_abdomen_20", "Cardiomegaly"):
        assert name in out
