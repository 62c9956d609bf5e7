"""What an index costs and how even its buckets are: against the postings themselves."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from index_helpers import codes_of
from published_index import Published
from scipy import stats

from hashing.balance import entropy, perfect_entropy
from hashing.shards import Shard
from hashing.tables import build_shard, pack_postings
from pipelines.evaluation.index_facts import bucket_sizes, index_facts
from pipelines.evaluation.systems import OpenedIndex


@given(
    keys=st.lists(st.integers(0, 1023), min_size=1, max_size=300), crowded=st.sampled_from([2, 10])
)
def test_bucket_sizes_are_those_of_the_keys(keys: list[int], crowded: int) -> None:
    values = np.array(keys, np.uint32) % (1 << crowded)
    file = io.BytesIO()
    packed = pack_postings([(None, values, 0)], 0, 1 << 10)
    build_shard(packed, file, table=0, segment=0, key_bits=10, key_lo=0, key_hi=1 << 10)
    counts = Counter(values.tolist())
    expected = [counts[key] for key in sorted(counts)]
    assert bucket_sizes(Shard(file.getvalue(), "example")).tolist() == expected


@pytest.fixture(scope="module")
def opened(published: Published) -> OpenedIndex:
    return OpenedIndex(str(published.index), None)


def test_facts_are_those_of_the_files(opened: OpenedIndex, published: Published) -> None:
    facts = index_facts(opened)
    manifest = opened.manifest
    _, snippets, codes = codes_of(published.index, manifest)
    assert facts["code_bytes"] == codes.shape[1]
    assert (facts["tracks"], facts["snippets"]) == (19, snippets.size)
    assert facts["key_bits"] == manifest.key_bits
    for kind, size in facts["bytes_per_snippet"].items():
        files = manifest.files.select(kind=kind)
        on_disk = sum((published.index / file.path).stat().st_size for file in files)
        assert size == pytest.approx(on_disk / snippets.size, abs=1e-3)
    read = sum(
        facts["bytes_per_snippet"][kind] for kind in ("codes", "matrices", "tables", "tracks")
    )
    assert facts["look_up_bytes_per_snippet"] == pytest.approx(read, abs=2e-3)


def test_buckets_are_those_of_the_codes(opened: OpenedIndex, published: Published) -> None:
    _, _, codes = codes_of(published.index, opened.manifest)
    quantizer, key_bits = opened.searcher.hasher.quantizer, opened.manifest.key_bits
    facts = index_facts(opened)["buckets"]
    assert len(facts["tables"]) == quantizer.n_tables
    every: list[int] = []
    material = quantizer.key_material(codes)
    for row in facts["tables"]:
        _, keys = quantizer.postings(material, row["table"], key_bits)
        loads = np.array(list(Counter(keys.tolist()).values()))
        assert row["postings"] == loads.sum()
        assert row["entropy_bits"] == pytest.approx(entropy(loads), abs=1e-4)
        perfect = perfect_entropy(int(loads.sum()), 1 << key_bits)
        assert row["perfect_entropy_bits"] == pytest.approx(perfect, abs=1e-4)
        assert row["largest"] == loads.max()
        # Of each posting the bucket that it stands in.
        assert row["met"] == pytest.approx(np.repeat(loads, loads).mean(), abs=1e-3)
        every += np.repeat(loads, loads).tolist()
    load = facts["load"]
    for size, share in zip(load["sizes"], load["share"], strict=True):
        assert share == pytest.approx(np.mean(np.array(every) <= size), abs=1e-5)
    assert load["share"][-1] == 1.0
    assert load["perfect"][-1] > 0.9999
    # All tables hold as many postings: a posting meets as many others as Poisson says.
    n = facts["tables"][0]["postings"]
    expected = stats.poisson.cdf(0, n / 2**key_bits)
    assert load["perfect"][0] == pytest.approx(expected, abs=1e-5)
