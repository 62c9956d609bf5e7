"""What workers get of a job: the name of a model, and not its arrays."""

from __future__ import annotations

import numpy as np
import pytest
from apache_beam.internal import pickler

from hashing.encoders import Hasher
from hashing.errors import ModelError
from pipelines.runs import Plan, Run
from pipelines.tables import BuildTables


def tables_of(digest: str) -> BuildTables:
    hasher = Hasher.load()
    run = Run("index", Plan("000001", "c", digest, "model", {}, 1, 1, "now"))
    return BuildTables(run, str(hasher.model.path), hasher.quantizer)


def test_a_step_is_small_and_has_its_quantizer_where_it_arrives() -> None:
    tables = tables_of(Hasher.load().digest)
    sent = pickler.dumps(tables)
    assert len(sent) < 4000
    arrived = pickler.loads(sent)
    codes = np.arange(3 * tables.quantizer.code_bytes, dtype=np.uint8).reshape(3, -1)
    _, keys = tables.quantizer.postings(tables.quantizer.key_material(codes), 1, 20)
    _, again = arrived.quantizer.postings(arrived.quantizer.key_material(codes), 1, 20)
    assert again.tolist() == keys.tolist()
    assert arrived.run == tables.run


def test_another_model_on_the_worker_is_refused() -> None:
    with pytest.raises(ModelError, match="on the worker and 0123456789ab where the run was start"):
        pickler.loads(pickler.dumps(tables_of("0123456789abcdef")))
