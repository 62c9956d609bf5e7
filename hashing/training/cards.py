"""Model cards: what a model is, what it was made from, by which command, and how good it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hashing.artists.features import ArtistFeatures
from hashing.features import FeatureConfig
from hashing.training.forgiving import ForgivingTraining
from hashing.training.heads import HeadTraining
from hashing.training.pairs import EncoderTraining


def forgiving_card(
    command: str,
    settings: ForgivingTraining,
    features: FeatureConfig,
    story: Mapping[str, Any],
    figures: Mapping[str, float],
    fitted: Mapping[str, Any],
    seconds: float,
) -> str:
    """The card of a forgiving hash."""
    return f"""# Forgiving hash, snippets of {_snippet(features)}

{len(settings.hidden)} networks of {settings.outputs} outputs on log-mel snippets of
{features.n_bands} bands and {features.snippet_frames} frames, bits
dealt out to {settings.n_tables} hash tables by mutual information (Baluja & Covell, IJCAI 2007).

{_origin(command, settings.seed, story, seconds)}
* **Pool**: {story["excerpts"]} excerpts in {story["versions"]} versions each.
{_score(fitted)}

On held-out music, a clean snippet against one that is degraded and up to half a hop
({features.snippet_hop_s / 2:.2f} s) off:

{_table(figures)}

`agreement` is the share of equal bits (chance: 0.5), `nearest` the share of snippets whose nearest
clean snippet among all held-out excerpts is their own, `effective_bits` the number of independent
fair bits that would spread distances as much. `hashbeam evaluate lookup` measures look-up.
"""


def encoder_card(
    command: str,
    settings: EncoderTraining,
    features: FeatureConfig,
    story: Mapping[str, Any],
    figures: Mapping[str, float],
    fitted: Mapping[str, Any],
    seconds: float,
) -> str:
    """The card of a contrastive encoder."""
    light = story["light"]
    return f"""# Contrastive encoder, snippets of {_snippet(features)}

A convolutional network of {len(settings.channels)} layers ({", ".join(map(str, settings.channels))}
channels) turns a log-mel snippet of {features.n_bands} bands and {features.snippet_frames} frames
into {settings.dimensions} numbers, of which an index keeps {settings.code_bytes} bytes (optimised
product quantisation). {settings.n_tables} hash tables have keys of signs of {settings.bits} learned
projections, dealt out by mutual information. It listens to queries. What stands in an index comes
from a lighter network ({", ".join(map(str, light["channels"]))} channels) that hears a whole track,
so that neighbouring snippets share its layers.

{_origin(command, settings.seed, story, seconds)}
* **Pool**: tiles of 8 s in {story["tile_versions"]} versions each; {settings.steps} steps of
  {settings.batch} pairs, NT-Xent with a temperature of {settings.temperature}; then
  {light["steps"]} steps in which the lighter network learns to answer as the first one does.
{_score(fitted)}

On the tracks that the score is calibrated with, a degraded snippet against clean ones of the same
tracks:

{_table(figures)}

`recall` is the share of degraded snippets, of half of them an edge unheard, whose nearest clean
snippet is their own, by embeddings; `recall_binary` compares with signs only. `likeness` is the
mean cosine of the lighter network's answers and the first one's, `recall_light` the recall where
the clean snippets come from it. `hashbeam evaluate lookup` measures look-up.
"""


def head_card(
    command: str,
    head: HeadTraining,
    encoder: str,
    story: Mapping[str, Any],
    fitted: Mapping[str, Any],
    seconds: float,
) -> str:
    """The card of a hash on an encoder's embeddings, or of Min-Hash, which has no encoder."""
    what = HEAD_NAMES.get(head.kind, head.kind)
    on = "of wavelets" if head.kind == "minhash" else f"on the embeddings of `{encoder}`"
    return f"""# {what}

{what} {on}, for comparison with the shipped models.

{_origin(command, head.seed, story, seconds)}
{_score(fitted)}

`hashbeam evaluate lookup` measures look-up.
"""


def artist_card(
    command: str,
    features: ArtistFeatures,
    story: Mapping[str, Any],
    figures: Mapping[str, float],
    cut: float,
    seconds: float,
) -> str:
    """The card of an artist model."""
    mapped = (
        "`mapped` is the share of the fits behind the figures that had artists enough to learn a "
        "map.\n"
        if "mapped" in figures
        else ""
    )
    return f"""# Artist embeddings of classic statistics

Up to {features.n_segments} segments of {features.segment_s:g} s, linearly spaced, become statistics
of timbre, harmony and rhythm; their ranks, in blocks of equal weight, are projected to
{story["fit"]["components"]} directions in which tracks differ, the strong ones held back. The mean
over segments, of length one, is the track's embedding. Tracks of one name are clustered by Ward's
method and cut at a distance of {cut:.3f} (`hashbeam disambiguate`).

{_mapped(story)}

* **Command**: `{command}`
* **Data**: {" + ".join(map(str, story["tracks"]))} tracks of {len(story["tracks"])} catalogues,
  each of which counts as much as any other. The cut is tuned on {story["artists"]} artists of the
  first (column `{story["labels"]}`), {_whole(story)}
* **Labels**: {_cleaned(story["cleaned"])}
* **Seed**: {story["seed"]}. **Time**: {seconds / 60:.0f} minutes.

{_judged(story)}

{_table(figures)}

`ari` and `ami` are means over names of two to four artists, `whole` is the share of artists whose
tracks stay one cluster, `*_mfcc` the same by means and deviations of MFCC on the same names, with
the cut that is best for them. `artists` are those that the cut is tuned on.
{mapped}"""


def _mapped(story: Mapping[str, Any]) -> str:
    """What an artist model's projection knows of artists."""
    artists = story["map"]["artists"]
    if not artists:
        return f"No map of artists is learned: {story['map']['none']}."
    return (
        f"Part of the projection is a linear map, learned in {story['fit']['steps']} steps by "
        "supervised contrast (Khosla et al.,\nNeurIPS 2020) from the artists of each catalogue who "
        f"have two tracks or more ({' + '.join(map(str, artists))})."
    )


def _whole(story: Mapping[str, Any]) -> str:
    """How an artist model's cut is tuned."""
    told = f"{story['whole_share']:.0%} of whom must stay whole."
    if story["map"]["artists"]:
        told += " They are\n  dealt to folds for it, each heard with a map that has not met them."
    return told


def _judged(story: Mapping[str, Any]) -> str:
    """What an artist model's figures stand on."""
    if held_out := story.get("held_out"):
        return (
            f"Made for evaluation, without fold {held_out['fold']}: the figures are of names made "
            f"up of\nits {len(held_out['artists'])} artists, whom projection, map and cut have not "
            "heard (listed in `config.json`)."
        )
    return (
        "Cross-validated over artists, dealt to folds "
        f"{story['deals']} times: names made up of artists whom\nprojection, map and cut have not "
        "heard."
    )


def _cleaned(report: Mapping[str, Any]) -> str:
    """What was left out of the labels of an artist model."""
    told = [
        f"{count} {name.removeprefix('tracks_').replace('_', ' ')}"
        for name, count in report.items()
        if name.startswith("tracks_") and count
    ]
    kinds = "tracks are heard, but count for no artist" if told else "every track counts"
    return f"{kinds}{': ' if told else ''}{', '.join(told)} (`config.json`)."


def artist_network_card(
    command: str,
    features: ArtistFeatures,
    story: Mapping[str, Any],
    figures: Mapping[str, float],
    cut: float,
    seconds: float,
) -> str:
    """The card of an artist model that is a network."""
    settings = story["settings"]
    last = story["history"][-1]["step"]
    return f"""# Artist embeddings of a network: {settings["system"]}

Up to {features.n_segments} segments of {features.segment_s:.1f} s, linearly spaced, go through a
network as mel spectrograms; the mean of their embeddings, of length one, is the track's. Tracks
of one name are clustered by Ward's method and cut at {cut:.3f} (`hashbeam disambiguate`).
`metric` is the network of Royo-Letelier et al. (ISMIR 2018), trained with triplets, `contrastive`
the same with the supervised contrastive loss (Khosla et al., NeurIPS 2020), and `classifier` that
of Park et al. (ISMIR 2018).

* **Command**: `{command}`
* **Data**: {story["tracks"]} tracks; {story["artists_trained"]} artists to learn from,
  {len(story["artists_chosen_by"])} others to stop by and to tune the cut on (column
  `{story["labels"]}`, listed in `config.json`).
* **Settings**: {json.dumps(settings)}
* **Seed**: {story["seed"]}. **Time**: {seconds / 60:.0f} minutes, {last} steps
  ({story["ended"] or "all that were asked for"}), torch {story["torch"]}.

On the artists that it was stopped by and its cut was tuned on: optimistic.

{_table(figures)}

`ari` and `ami` are means over names of two to four artists, `eer` is the equal error rate of pairs
of tracks. `hashbeam evaluate artists` judges it on others.
"""


HEAD_NAMES = {
    "lsh": "Sign-LSH (Charikar, 2002)",
    "pca": "Principal components with median thresholds",
    "itq": "Iterative quantization (Gong & Lazebnik, 2011)",
    "transport": "Balancing by optimal transport",
    "pq": "Product quantization (Jégou et al., 2011)",
    "opq": "Optimised product quantization (Ge et al., 2013)",
    "minhash": "Min-Hash (Waveprint: Baluja & Covell, 2006)",
}


def _snippet(features: FeatureConfig) -> str:
    return f"{features.snippet_samples / features.sample_rate:.2f} s"


def _origin(command: str, seed: int, story: Mapping[str, Any], seconds: float) -> str:
    return f"""* **Command**: `{command}`
* **Data**: {story["tracks_trained"]} tracks to train, {story["tracks_calibrated"]} others to
  calibrate the score, {len(story["tracks_held_out"])} held out (listed in `config.json`), no album
  and no artist on two sides. Recordings of noise that are held out are listed there as well.
* **Seed**: {seed}. **Time**: {seconds / 60:.0f} minutes (the last run of the command, which goes on
  where an earlier one stopped), torch {story["torch"]}."""


def _score(fitted: Mapping[str, Any]) -> str:
    return f"""* **Score**: logistic regression on {fitted["matches"]} matches in indexes of three
  sizes; expected calibration error {fitted["expected_calibration_error"]}, Brier score
  {fitted["brier_score"]} on the matches that it was fitted to."""


def _table(figures: Mapping[str, float]) -> str:
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items())
    return f"| figure | value |\n|---|---|\n{rows}"
