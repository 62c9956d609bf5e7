"""Segments of indexes as one catalogue: every live track once, in order."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import pyarrow as pa
import pytest
from change_fixture import write_version
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing.errors import HashbeamError, IndexFormatError
from pipelines import part_rows
from pipelines.kept import KEPT, Place, places_of
from pipelines.live import tracks_of_segment
from pipelines.part_rows import has_rows, read_all, read_rows
from pipelines.parts import count_parts, tracks_per_part
from pipelines.reindexing import merging
from pipelines.reindexing.merging import TAKEN_OVER, Source, merged_rows, write_merged
from pipelines.runs import Plan, Run

# Capitals, letters of one to four bytes, and one that ends a line somewhere.
IDS = [*(f"t{n}" for n in range(20)), "A", "é", "東京", "𝄞", "t", "t10\x85b", "zz"]
PART_ROWS = 2

# Of a track: index, segment, and whether it has gone.
Where = tuple[int, int, bool]


def in_order(ids: object) -> list[str]:
    return sorted(ids, key=str.encode)  # type: ignore[call-overload, no-any-return]


def sources_of(folder: Path, split: dict[str, Where]) -> list[Source]:
    """Three indexes of two segments each."""
    sources = []
    for index in range(3):
        segments: list[list[str]] = [[], []]
        removed: list[list[int]] = [[], []]
        for track_id in in_order(split):
            where, segment, gone = split[track_id]
            if where == index:
                removed[segment] += [len(segments[segment])] if gone else []
                segments[segment].append(track_id)
        rows = [[{"track_id": one, "uri": one} for one in part] for part in segments]
        place = str(folder / f"index{index}")
        manifest = write_version(place, rows, removed=removed, part_rows=PART_ROWS)
        sources.append(Source(place, manifest, manifest.segments))
    return sources


split_ids = st.dictionaries(
    st.sampled_from(IDS), st.tuples(st.integers(0, 2), st.integers(0, 1), st.booleans())
)


@settings(max_examples=12)
@given(split=split_ids, batch_rows=st.sampled_from([1, 3, 1 << 14]))
def test_every_live_track_comes_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, split: dict[str, Where], batch_rows: int
) -> None:
    sources = sources_of(tmp_path_factory.mktemp("split"), split)
    read = functools.partial(tracks_of_segment, batch_rows=batch_rows)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(merging, "tracks_of_segment", read)
        tables = list(merged_rows(sources))
    # Of each of the six segments one table at a time.
    assert max((table.num_rows for table in tables), default=0) <= 6 * (batch_rows + PART_ROWS)
    found = pa.concat_tables([TAKEN_OVER.empty_table(), *tables])
    wanted = [one for one in in_order(split) if not split[one][2]]
    assert found["track_id"].to_pylist() == wanted
    assert sum(source.tracks for source in sources) == len(wanted)
    for track_id, place in zip(wanted, places_of(found)[1], strict=True):
        index, segment, _ = split[track_id]
        ordinal = in_order(one for one in split if split[one][:2] == (index, segment)).index(
            track_id
        )
        part = sources[index].segments[segment].first_part + ordinal // PART_ROWS
        assert place == Place(index, segment, part, ordinal)


def index_of(folder: Path, name: str, *segments: str) -> Source:
    """An index with a track for each letter."""
    rows = [[{"track_id": one, "uri": one} for one in part] for part in segments]
    manifest = write_version(str(folder / name), rows)
    return Source(str(folder / name), manifest, manifest.segments)


@pytest.mark.parametrize(
    ("others", "told"), [(["abx", "z"], "x"), (["stuv", "w", "xyz"], "s, t, u")]
)
def test_a_track_of_two_indexes_is_refused(tmp_path: Path, others: list[str], told: str) -> None:
    one, two = index_of(tmp_path, "one", "efg", "stuvwx"), index_of(tmp_path, "two", *others)
    with pytest.raises(HashbeamError) as caught:
        list(merged_rows([one, two]))
    assert str(caught.value) == (
        f"{one.index} and {two.index} both have track_ids such as {told}, and a track has one "
        "place: take them out of one of the two with `hashbeam remove`"
    )


def test_what_is_wrong_with_one_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(IndexFormatError, match="one has b twice; go back with `hashbeam rollback`"):
        list(merged_rows([index_of(tmp_path, "one", "abc", "b"), index_of(tmp_path, "two", "d")]))
    with pytest.raises(IndexFormatError, match="not in order of track_id, near 'b'"):
        list(merged_rows([index_of(tmp_path, "three", "ba")]))


@pytest.mark.parametrize("parts_a_file", [1, 2, 64])
@pytest.mark.parametrize("tables", [[20], [1] * 20, [3, 9, 8], [16, 4], [16], []])
def test_parts_are_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tables: list[int], parts_a_file: int
) -> None:
    """However the rows come: ordinals are told by the number of the part."""
    monkeypatch.setattr(part_rows, "PARTS_A_FILE", parts_a_file)
    n_tracks = sum(tables)
    n_parts = count_parts(n_tracks)
    run = Run(str(tmp_path), Plan("000002", "c", "m", "x", {}, n_tracks, n_parts, "now"))
    assert not has_rows(run.work, run.plan.n_parts)
    ids = [f"{number:02d}" for number in range(n_tracks)]
    empty = {name: pa.nulls(n_tracks, kind) for name, kind in KEPT.items()}
    rows = pa.table({"track_id": pa.array(ids, pa.string()), **empty}, schema=TAKEN_OVER)
    bounds = [sum(tables[:n]) for n in range(len(tables) + 1)]
    write_merged(run, (rows.slice(a, b - a) for a, b in itertools.pairwise(bounds)))
    per_part = tracks_per_part(n_tracks)
    assert has_rows(run.work, run.plan.n_parts)
    n_parts = run.plan.n_parts
    groups = [read_rows(run.work, part)["track_id"].to_pylist() for part in range(n_parts)]
    tables = read_all(run.work, n_parts, ["track_id"])
    assert pa.concat_tables(tables)["track_id"].to_pylist() == ids
    assert groups == [ids[at : at + per_part] for at in range(0, n_tracks, per_part)]
