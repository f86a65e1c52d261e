import multiprocessing
import sqlite3

import numpy as np
import pytest
import torch

from ctvlm.models.text_encoders import HFTextEncoder
from ctvlm.models.text_encoders.embedding_cache import EmbeddingCache
from ctvlm.utils import CTVLMError
from tests.test_models import text_checkpoints as saved

TEXTS = ["No pleural effusion.", "small nodule in the right upper lobe", "the liver is normal", ""]


def embedding(text, width=6):
    return np.random.default_rng(len(text)).normal(size=width).astype(np.float32)


def test_gives_back_what_was_put_and_nothing_else(tmp_path):
    cache = EmbeddingCache(tmp_path / "new" / "cache.sqlite", 6)
    assert cache.get(TEXTS) == {}
    cache.put({text: embedding(text) for text in TEXTS[:2]})
    found = cache.get(TEXTS)
    assert set(found) == set(TEXTS[:2])
    assert all(np.array_equal(found[text], embedding(text)) for text in found)
    many = [f"text {i}" for i in range(1200)]
    cache.put({text: embedding(text) for text in many})
    assert set(cache.get(many)) == set(many)


def test_the_file_holds_no_text(tmp_path):
    EmbeddingCache(tmp_path / "c.sqlite", 6).put({text: embedding(text) for text in TEXTS})
    assert b"effusion" not in (tmp_path / "c.sqlite").read_bytes()


def test_changed_rows_are_as_good_as_absent(tmp_path):
    cache = EmbeddingCache(tmp_path / "c.sqlite", 6)
    cache.put({text: embedding(text) for text in TEXTS})
    with sqlite3.connect(cache.path) as database:
        rows = database.execute("SELECT rowid, value FROM embedding ORDER BY rowid").fetchall()
        flipped = bytes([rows[0][1][0] ^ 1]) + rows[0][1][1:]
        database.execute("UPDATE embedding SET value = ? WHERE rowid = ?", (flipped, rows[0][0]))
        database.execute("UPDATE embedding SET value = ? WHERE rowid = ?", (rows[2][1][:-4], rows[1][0]))
        database.execute("UPDATE embedding SET value = ? WHERE rowid = ?", (rows[3][1], rows[2][0]))  # another text's
    assert set(cache.get(TEXTS)) == {TEXTS[3]}


def test_a_file_that_is_not_a_cache_is_refused_and_not_changed(tmp_path):
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("CREATE TABLE studies (study_id INTEGER)")
    (tmp_path / "notes.txt").write_bytes(b"not a database " * 100)
    for path in tmp_path.iterdir():
        before = path.read_bytes()
        cache = EmbeddingCache(path, 6)
        with pytest.raises(CTVLMError, match=path.name):
            cache.get(TEXTS)
        with pytest.raises(CTVLMError, match=path.name):
            cache.put({"a": embedding("a")})
        assert path.read_bytes() == before


def test_a_view_is_not_read(tmp_path):
    with sqlite3.connect(tmp_path / "c.sqlite") as database:
        database.execute("CREATE VIEW embedding (key, value, sum) AS SELECT 1, 2, 3")
    with pytest.raises(CTVLMError, match=r"c\.sqlite is another database"):
        EmbeddingCache(tmp_path / "c.sqlite", 6).get(TEXTS)


def test_a_damaged_cache_is_not_used(tmp_path):
    cache = EmbeddingCache(tmp_path / "c.sqlite", 6)
    cache.put({text: embedding(text) for text in TEXTS})
    content = cache.path.read_bytes()
    cache.path.write_bytes(content[:100] + b"x" * (len(content) - 100))
    with pytest.warns(UserWarning, match="damaged"):
        assert cache.get(TEXTS) == {}
    assert cache.path.exists()


def test_values_of_other_types_are_ignored(tmp_path):
    cache = EmbeddingCache(tmp_path / "c.sqlite", 6)
    cache.put({text: embedding(text) for text in TEXTS})
    with sqlite3.connect(cache.path) as database:
        database.execute("UPDATE embedding SET value = 3")
    assert cache.get(TEXTS) == {}


def test_a_file_that_cannot_be_written_costs_time_only(tmp_path):
    (tmp_path / "file").write_text("")
    cache = EmbeddingCache(tmp_path / "file" / "c.sqlite", 6)
    with pytest.warns(UserWarning, match=r"\.sqlite"):
        cache.put({"a": embedding("a")})
    with pytest.warns(UserWarning, match=r"\.sqlite"):
        assert cache.get(["a"]) == {}


def test_what_is_not_finite_is_not_kept(tmp_path):
    cache = EmbeddingCache(tmp_path / "c.sqlite", 2)
    cache.put({"a": np.array([1.0, np.nan], dtype=np.float32), "b": np.ones(2, dtype=np.float32)})
    assert set(cache.get(["a", "b"])) == {"b"}


def _write(path, rank):
    cache = EmbeddingCache(path, 6)
    for i in range(40):
        cache.put({text: embedding(text) for text in (f"{rank} {i}", f"all {i}" * i)})


def test_processes_write_at_once(tmp_path):
    path = tmp_path / "c.sqlite"
    processes = [multiprocessing.get_context("fork").Process(target=_write, args=(path, rank)) for rank in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    texts = [f"{rank} {i}" for rank in range(3) for i in range(40)] + [f"all {i}" * i for i in range(40)]
    found = EmbeddingCache(path, 6).get(texts)
    assert set(found) == set(texts)
    assert all(np.array_equal(found[text], embedding(text)) for text in texts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(saved.save_bert(tmp_path_factory.mktemp("bert")))


def no_computing(encoder):
    encoder.encode_tokens = lambda tokens: pytest.fail(f"computed {len(tokens)} sections again")
    return encoder


def test_cached_embeddings_are_those_of_the_encoder(tmp_path, folder):
    plain = HFTextEncoder(folder)(TEXTS)
    cached = HFTextEncoder(folder, cache_dir=str(tmp_path))
    assert torch.equal(cached(TEXTS + TEXTS[:1])[:4], plain)
    again = no_computing(HFTextEncoder(folder, cache_dir=str(tmp_path)))
    assert torch.equal(again(TEXTS[::-1]), plain.flip(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(HFTextEncoder(folder, cache_dir=str(tmp_path / "amp"))(TEXTS), plain)


def test_every_thing_that_changes_numbers_changes_the_fingerprint(tmp_path, folder):
    encoder = HFTextEncoder(folder)
    fingerprints = [encoder.fingerprint()]
    for change in (dict(pooling="cls"), dict(max_length=16), dict(tokenizer=dict(do_lower_case=False))):
        fingerprints.append(HFTextEncoder(folder, **change).fingerprint())
    other = saved.save_bert(tmp_path / "eps", layer_norm_eps=1e-3)  # the same weights, another formula
    fingerprints.append(HFTextEncoder(str(other)).fingerprint())
    moved = saved.save_bert(tmp_path / "moved")
    assert HFTextEncoder(str(moved)).fingerprint() == fingerprints[0]

    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    state["model.encoder.layer.0.output.dense.bias"][3] += 1e-6
    encoder.load_state_dict(state)
    fingerprints.append(encoder.fingerprint())
    fingerprints.append(encoder.double().fingerprint())
    assert len(set(fingerprints)) == len(fingerprints)


def test_loaded_weights_are_not_served_the_old_embeddings(tmp_path, folder):
    encoder = HFTextEncoder(folder, cache_dir=str(tmp_path))
    before = encoder(TEXTS)
    state = {key: value.clone() for key, value in encoder.state_dict().items()}
    state["model.encoder.layer.0.output.dense.bias"][3] += 1
    encoder.load_state_dict(state)
    assert (encoder(TEXTS) - before).abs().max() > 1e-3
