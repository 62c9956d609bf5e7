"""Embeddings that somebody else's network makes, as a table or as the network itself.

VGGish (Hershey et al., "CNN architectures for large-scale audio classification", ICASSP 2017) and
PANNs (Kong et al., TASLP 2020) have heard thousands of hours of labelled sound. What they make of
clips comes as Parquet, or they come as ONNX files that hear samples or log-mel spectrograms.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hashing.errors import AudioError, CatalogError, ModelError
from hashing.features import FeatureConfig, spectrogram
from hashing.fronts import session_of
from hashing.models import MAX_FILE_BYTES

Floats = npt.NDArray[np.float32]

# Columns that may hold the ids, the first that is there; and the one of the embeddings.
ID_COLUMNS = ("track_id", "clip_id")
EMBEDDING = "embedding"

# Windows that a network hears at once: 16 of ten seconds at 32 kHz are 20 MB.
BATCH = 16

# Seconds that a network of any length hears at once. VGGish needs 0.96 s, so that what is shorter
# is repeated; a minute of layers of PANNs takes 1 GB.
SHORTEST_S, LONGEST_S = 1.0, 60.0


def read_embeddings(path: str | Path) -> tuple[list[str], Floats]:
    """Embeddings out of a Parquet file: a column of ids and a column of lists of numbers.

    Several rows of one id, windows of a long clip, become their mean.

    Args:
      path: with ``track_id`` or ``clip_id``, and ``embedding``.

    Returns:
      The ids in the order of their first rows, and float32 [n, d].

    Raises:
      CatalogError: naming the file, the row (from 1) and the column, and what to do.

    >>> import tempfile, pyarrow as pa, pyarrow.parquet as pq
    >>> rows = pa.table({"clip_id": ["b", "a", "b"], "embedding": [[1.0, 0], [5, 5], [3, 2]]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pq.write_table(rows, f"{folder}/e.parquet")
    ...     ids, values = read_embeddings(f"{folder}/e.parquet")
    >>> ids, values.tolist()
    (['b', 'a'], [[2.0, 1.0], [5.0, 5.0]])
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            key = next((name for name in ID_COLUMNS if name in names), None)
            missing = [" or ".join(ID_COLUMNS)] * (key is None) + [EMBEDDING] * (
                EMBEDDING not in names
            )
            if missing:
                raise CatalogError(
                    f"{path}: column {' and '.join(missing)} missing, found {', '.join(names)}; "
                    "name the columns so"
                )
            table = file.read(columns=[key, EMBEDDING]).combine_chunks()
    except FileNotFoundError:
        raise CatalogError(f"{path} does not exist: name a Parquet file") from None
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CatalogError(f"{path} is no whole Parquet file ({reason}); write it again") from None
    if not table.num_rows:
        raise CatalogError(f"{path} holds no rows: write one for each clip")
    values = _matrix(str(path), table[EMBEDDING].combine_chunks())
    return _means(str(path), str(key), table[key], values)


def _matrix(path: str, lists: Any) -> Floats:
    """Lists of one length as a matrix [rows, d]."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = lists.type
    is_list = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(check(kind) for check in is_list) or not (
        pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
    ):
        raise CatalogError(
            f"{path}: column {EMBEDDING} must be lists of numbers, is {kind}; write it as "
            "list<float>"
        )
    where = f"{path}: row {{}}, column {EMBEDDING}: "
    remedy = "; leave the row out, or make its embedding again"
    if lists.null_count:
        row = np.flatnonzero(lists.is_null().to_numpy(zero_copy_only=False))[0] + 1
        raise CatalogError(where.format(row) + "empty" + remedy)
    lengths = np.asarray(pc.list_value_length(lists).to_numpy(zero_copy_only=False), np.int64)
    width = int(lengths[0])
    if not width:
        raise CatalogError(where.format(1) + "empty" + remedy)
    if (other := np.flatnonzero(lengths != width)).size:
        row = int(other[0])
        raise CatalogError(
            where.format(row + 1) + f"{lengths[row]} numbers, row 1 has {width}; write embeddings "
            "of one model only"
        )
    flat = lists.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False)
    values = np.asarray(flat, np.float32).reshape(-1, width)
    if (wrong := np.flatnonzero(~np.isfinite(values).all(axis=1))).size:
        raise CatalogError(where.format(int(wrong[0]) + 1) + "is not finite" + remedy)
    return values


def _means(path: str, key: str, column: Any, values: Floats) -> tuple[list[str], Floats]:
    """The mean of the rows of each id, in the order in which ids come first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise CatalogError(f"{path}: column {key} must be text, is {column.type}; write it as text")
    empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(column), ""), True)
    if (rows := np.flatnonzero(empty.to_numpy(zero_copy_only=False))).size:
        raise CatalogError(f"{path}: row {rows[0] + 1}, column {key}: empty; give every row an id")
    encoded = column.combine_chunks().dictionary_encode()
    of = encoded.indices.to_numpy().astype(np.int64)
    ids = encoded.dictionary.to_pylist()
    sums = np.zeros((len(ids), values.shape[1]))
    np.add.at(sums, of, values)
    return ids, (sums / np.bincount(of)[:, None]).astype(np.float32)


class OnnxEncoder:
    """An ONNX file that makes an embedding of a clip.

    Its input is float32: samples, ``[n, samples]`` or ``[samples]``; or log-mel spectrograms,
    ``[n, frames, bands]``, ``[n, bands, frames]``, or these with one channel, ``[n, 1, …]``. Where
    its length is fixed, a clip is cut into windows of that length, of which the last one ends where
    the clip does, and a shorter clip is repeated until it fills one; the embedding is their mean.
    Its output is ``[n, d]`` or ``[d]``.

    Args:
      path: of the file; its weights must be in it.
      sample_rate: Hz, of a network that hears samples.
      features: of one that hears spectrograms; snippets and silence play no part.
      output: name of the output, where there are several.
      bands_first: whether the bands of a spectrogram come before its frames; None: as the sizes of
        the input tell, else no.
      scale, offset: a level is ``scale * dB re full scale + offset``; natural logarithms have a
        scale of 0.2303.

    Raises:
      ModelError: a file that cannot be run, or has other ends; one line.
    """

    def __init__(
        self,
        path: str | Path,
        sample_rate: int | None = None,
        features: FeatureConfig | None = None,
        *,
        output: str = "",
        bands_first: bool | None = None,
        scale: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        self.path = Path(path)
        self._session = _open(self.path)
        self._scale, self._offset = np.float32(scale), np.float32(offset)
        self._input, shape = self._only_input()
        self._features = features if len(shape) > 2 else None
        self._output = self._chosen_output(output)
        self._batched = len(shape) > 1
        # A batch of fixed size is filled up; of a free one a few windows go together.
        self._batch = shape[0] if self._batched else 1
        if len(shape) <= 2:
            if sample_rate is None:
                raise self._wrong("hears samples: tell its sample rate")
            self.sample_rate, self._frame_s = sample_rate, 1.0 / sample_rate
            self._length, self._channel, self._bands_first = shape[-1], False, False
        else:
            if features is None:
                raise self._wrong("hears spectrograms: tell the settings of their features")
            if sample_rate not in (None, features.sample_rate):
                raise self._wrong(
                    f"is to hear spectrograms at {features.sample_rate} Hz, not {sample_rate} Hz"
                )
            self.sample_rate, self._frame_s = features.sample_rate, features.frame_s
            self._channel = len(shape) == 4
            self._length, self._bands_first = self._axes(shape, features.n_bands, bands_first)
        # What does not fit shows on silence, before a catalogue is decoded.
        self.dimensions = len(self.embed(np.zeros(int(4 * self.sample_rate), np.float32)))

    def embed(self, samples: Floats) -> Floats:
        """The embedding [d] of mono samples [n] at `sample_rate`.

        Raises:
          AudioError: ``too-short``, where there is no sample, or no frame of a spectrogram.
          ModelError: the network cannot hear it, or gives no finite numbers.
        """
        heard = np.asarray(samples, np.float32)
        if heard.ndim != 1:
            raise ValueError(f"samples must be [n], got {heard.shape}")
        if self._features is not None:
            spec = spectrogram([heard], self._features)
            heard = spec * self._scale + self._offset
        if not len(heard):
            raise AudioError("too-short", f"{len(samples)} samples are too short for {self.path}")
        windows = self._windows(heard)
        found = [self._run(group) for group in self._groups(windows)]
        embedding = np.concatenate(found)[: len(windows)].mean(axis=0)
        if not np.isfinite(embedding).all():
            raise self._wrong("gives numbers that are not finite")
        return np.asarray(embedding, np.float32)

    def _windows(self, heard: Floats) -> Floats:
        """What is heard, [windows, length, ...]."""
        shortest, longest = (max(1, round(s / self._frame_s)) for s in (SHORTEST_S, LONGEST_S))
        length = self._length or min(max(len(heard), shortest), longest)
        if len(heard) < length:
            heard = heard[np.arange(length) % len(heard)]
        starts = [*range(0, len(heard) - length, length), len(heard) - length]
        return np.stack([heard[first : first + length] for first in starts])

    def _groups(self, windows: Floats) -> list[Floats]:
        """Windows as the network takes them; a batch of fixed size is filled with the last one."""
        size = self._batch or BATCH
        groups = []
        for first in range(0, len(windows), size):
            group = windows[first : first + size]
            if self._batch and len(group) < size:
                group = np.concatenate([group, np.repeat(group[-1:], size - len(group), axis=0)])
            if self._bands_first:
                group = group.transpose(0, 2, 1)
            if self._channel:
                group = group[:, None]
            groups.append(np.ascontiguousarray(group if self._batched else group[0]))
        return groups

    def _run(self, group: Floats) -> Floats:
        """Embeddings [n, d] of a group of windows."""
        n = len(group) if self._batched else 1
        try:
            (found,) = self._session.run([self._output], {self._input: group})
        except Exception as error:  # onnxruntime raises classes of its own that it does not export
            raise self._wrong(f"cannot hear {tuple(group.shape)} ({_first_line(error)})") from None
        values = np.asarray(found, np.float32)
        if values.ndim == 1 and n == 1:
            values = values[None]
        if values.ndim != 2 or len(values) != n or not values.shape[1]:
            raise self._wrong(
                f"gives {tuple(values.shape)} for {n} windows, not an embedding [n, d]: name the "
                "output that is one, or average over time within the network"
            )
        return values

    def _only_input(self) -> tuple[str, list[int | None]]:
        """Name and sizes of the input; None where a size is free."""
        ends = self._session.get_inputs()
        if len(ends) != 1 or ends[0].type != "tensor(float)" or not 1 <= len(ends[0].shape) <= 4:
            told = ", ".join(f"{end.name} {end.type} {end.shape}" for end in ends) or "none"
            raise self._wrong(
                f"must have one input of float32, samples or log-mel spectrograms, has {told}"
            )
        sizes = [size if isinstance(size, int) and size > 0 else None for size in ends[0].shape]
        return ends[0].name, sizes

    def _chosen_output(self, output: str) -> str:
        ends = {end.name: end.type for end in self._session.get_outputs()}
        if not output and len(ends) != 1:
            raise self._wrong(f"has {len(ends)} outputs: name one of {', '.join(ends)}")
        chosen = output or next(iter(ends))
        if chosen not in ends:
            raise self._wrong(f"has no output {chosen}: name one of {', '.join(ends)}")
        if ends[chosen] != "tensor(float)":
            raise self._wrong(f"gives {ends[chosen]} as {chosen}, not an embedding of float32")
        return chosen

    def _axes(
        self, shape: list[int | None], n_bands: int, bands_first: bool | None
    ) -> tuple[int | None, bool]:
        """Frames of a window, None where they are free, and whether bands come before them."""
        first, second = shape[-2:]
        if bands_first is None:
            bands_first = first == n_bands and second != n_bands
        bands, frames = (first, second) if bands_first else (second, first)
        if bands not in (None, n_bands) or (len(shape) == 4 and shape[1] not in (None, 1)):
            raise self._wrong(f"hears spectrograms {shape}, the features have {n_bands} bands")
        return frames, bands_first

    def _wrong(self, what: str) -> ModelError:
        return ModelError(f"{self.path} {what}")


def _open(path: Path) -> Any:
    """A session of a file; raises `ModelError`."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ModelError(
                f"{path} has more than {MAX_FILE_BYTES:,} bytes: name a smaller encoder"
            )
        graph = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): name an ONNX file") from None
    try:
        return session_of(graph)
    except Exception as error:  # onnxruntime raises classes of its own that it does not export
        raise ModelError(
            f"{path} cannot be run ({_first_line(error)}): export it as one ONNX file, weights "
            "within"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
