"""faiss on one thread, and its k-means.

It is imported when it is asked for: that takes a second, and a run-time installation has none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def open_faiss() -> Any:
    """The library (Douze et al., "The Faiss library", 2024), on one thread from now on.

    For the whole process, for faiss knows no other way: several threads would add in another order
    each time, and figures are for one core.
    """
    import faiss

    faiss.omp_set_num_threads(1)
    return faiss


def k_means(items: Floats, centroids: int, seed: int) -> Floats:
    """Centroids [centroids, d] of items [n, d], of which there are as many at least.

    25 rounds on 256 items a centroid at most, faiss's defaults. The same seed gives the same.

    >>> np.sort(k_means(np.array([[0.0], [1.0], [8.0], [9.0]], np.float32), 2, 1), axis=0).tolist()
    [[0.5], [8.5]]
    """
    fit = open_faiss().Kmeans(items.shape[1], centroids, seed=seed, min_points_per_centroid=1)
    fit.train(np.ascontiguousarray(items))
    return np.asarray(fit.centroids, np.float32)
