"""The model card of an imported encoder: what it was made of, by which command, how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hashing.features import FeatureConfig


def imported_card(
    features: FeatureConfig,
    story: Mapping[str, Any],
    figures: Mapping[str, float],
    fitted: Mapping[str, Any],
) -> str:
    """The card, in Markdown.

    Args:
      features: of the snippets.
      story: ``training`` of the model's config.json.
      figures: of the same.
      fitted: ``calibration`` of the same; empty where the score was not fitted.
    """
    source = story["encoder"]
    seconds = features.snippet_samples / features.sample_rate
    filled = ""
    if source["frames_filled"]:
        filled = (
            f"\nThe encoder takes {features.snippet_frames + source['frames_filled']} frames; the "
            f"last {source['frames_filled']} are filled with the snippet's mean.\n"
        )
    score = "not fitted (`--no-calibration`): scores order matches, and are no probabilities."
    if fitted:
        score = (
            f"logistic regression on {fitted['matches']} matches in indexes of three sizes;\n"
            f"  expected calibration error {fitted['expected_calibration_error']}, Brier score "
            f"{fitted['brier_score']} on the matches\n  that it was fitted to."
        )
    rows = "\n".join(f"| {name} | {value:.4g} |" for name, value in figures.items())
    return f"""# Imported encoder {source["file"]}, snippets of {seconds:.2f} s

The encoder was made elsewhere and is used as it is. It gets standardised log-mel snippets of
{features.n_bands} bands and {features.snippet_frames} frames, and answers with
{source["numbers"]} numbers. They are made of length one, their mean is taken off, and they are made
one again; an index keeps {story["code_bytes"]} bytes of them (optimised product quantisation: Ge et
al., CVPR 2013). {story["n_tables"]} hash tables have keys of signs of {story["bits"]} projections
(ITQ: Gong & Lazebnik, CVPR 2011) of what a code stands for, dealt out by mutual information.
{filled}
* **Encoder**: `{source["file"]}`, {source["bytes"]:,} bytes, opset {source["opset"]},
  input `{source["input"]}` as {source["layout"]}, output `{source["output"]}`,
  SHA-256 `{source["sha256"]}`.
* **Command**: `{story["command"]}`
* **Data**: {story["snippets"]} snippets of {story["tracks_fitted"]} tracks of
  `{story["catalog"]}` for the mean, codebooks and keys, {len(story["tracks_calibrated"])} others to
  calibrate the score (listed in `config.json`).
* **Seed**: {story["seed"]}.
* **Score**: {score}

| figure | value |
|---|---|
{rows}

`varying` is how many of the encoder's numbers vary at all, `alike` the mean cosine of its answers
to different snippets before the mean is taken off. The others compare degraded snippets, up to half
a query hop late, with clean ones of the same tracks: `recall` is the share whose nearest embedding
is their own, `recall_rounded` the same with codes, `met_by_keys` the share that meets its own in a
table with keys of 16 bits, `met_by_chance` the share of others met there. `hashbeam evaluate
lookup` measures look-up.
"""
