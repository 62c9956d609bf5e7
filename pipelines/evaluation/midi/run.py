"""``hashbeam evaluate midi``: how well MIDI files find their recordings, stage by stage.

Raffel, "Learning-based methods for comparing sequences, with applications to audio-to-MIDI
alignment and matching" (2016), on performances of MIDI files whose true alignment is known.
"""

from __future__ import annotations

import argparse
import json

from pipelines.evaluation.midi.options import add_arguments, options_from

__all__ = ["DESCRIPTION", "add_arguments", "options_from", "run"]

DESCRIPTION = """\
How well do MIDI files find their recordings? Every song is performed by somebody else, 30 to 60 s
of it: at another tempo that may drift, with other instruments, octaves, parts and faults, in rooms
and noise, played by another soundfont. The MIDI file is asked for that recording among all others.

  hashbeam evaluate midi --midi songs --out figures
  hashbeam evaluate midi --midi songs folk --catalog music/catalog.csv --model mine --out figures
  hashbeam evaluate midi --midi songs --soundfont sf_GMbank.sf2 --queries 100 --out figures

Songs that the model has learned or been chosen by are among the recordings, but are not asked for
(--all asks for them, too). Files of the same music count once. --catalog adds 30 to 60 s of each of
its tracks.

Of each stage it tells what it finds alone and what it leaves of the database, and of all together
how often the true recording is first, how sure it is of it, how sure of another one where the true
one is not there, and how far the alignment is from the true one; beside it the same of baselines
that nobody has to train, and of the published aligner.

--out gets report.html, figures.json, queries.parquet (a row a MIDI file) and failures/. What was
rendered is kept in --work, and the same command goes on from there. Rendering 1,600 songs takes a
core a quarter of an hour, and each query some seconds."""


def run(args: argparse.Namespace, beam_args: list[str]) -> int:
    """``hashbeam evaluate midi``."""
    del beam_args
    options = options_from(args)
    # These bring Arrow and ONNX Runtime, which --help does without.
    from pipelines.evaluation.midi.measure import measure_midi
    from pipelines.report.midi_page import as_text

    figures = measure_midi(options)
    print(json.dumps(figures) if options.json else as_text(figures, options.out))
    return 0
