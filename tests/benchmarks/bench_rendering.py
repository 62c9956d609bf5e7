"""MIDI files read, mutated and rendered: files per second, times real time, likeness of sounds.

Reads the files of a folder; renders some of them with each soundfont of the system, plainly, and
with pretty_midi's sines; and compares frames of 48 semitones (constant Q from C2, 46 ms, dB above
-60, of length one) by their cosine, in their place and 200 frames off. All times are of one core,
children's too. `--mutations` damages files in ways that broken ones are damaged, and counts what
becomes of them: a song, or one clear line; anything else ends the run.

    python tests/benchmarks/bench_rendering.py --midi FOLDER [--songs 6] [--mutations 3000]
"""

from __future__ import annotations

import argparse
import collections
import io
import random
import re
import resource
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pretty_midi

from hashing.midi import MidiError, Song, aligned_midi, parse_song, read_song
from hashing.midi_writing import midi_bytes
from hashing.rendering import FOLDERS, render_plainly, render_with_fluidsynth

RATES = (11_025, 22_050)
READ = 100  # files
OFF = 200  # frames: what chance likeness is


def cpu_s() -> float:
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in usage)


def sines(song: Song, rate: int) -> np.ndarray:
    sound = pretty_midi.PrettyMIDI(io.BytesIO(midi_bytes(song))).synthesize(fs=rate)
    return np.asarray(sound, np.float32)


def frames(samples: np.ndarray) -> np.ndarray:
    low = librosa.midi_to_hz(36)
    bands = np.abs(librosa.cqt(samples, sr=RATES[0], hop_length=512, fmin=low, n_bins=48)).T
    levels = librosa.amplitude_to_db(bands, ref=np.max, top_db=60) + 60
    return levels / np.maximum(np.linalg.norm(levels, axis=1, keepdims=True), 1e-9)


def likeness(one: list[np.ndarray], other: list[np.ndarray], off: int) -> float:
    means = []
    for a, b in zip(one, other, strict=True):
        n = min(len(a), len(b)) - off
        means.append(float((a[:n] * b[off : off + n]).sum(axis=1).mean()))
    return float(np.mean(means))


def mutated(data: bytearray, rng: random.Random) -> bytes:
    kind = rng.random()
    places = [match.start() for match in re.finditer(rb"MTrk|\xff\x51\x03", bytes(data))]
    if kind < 0.15:
        del data[rng.randrange(len(data)) :]
    elif kind < 0.3:
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(40)] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
    elif kind < 0.65:
        for _ in range(rng.randint(1, 30)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind < 0.75:
        first = rng.randrange(len(data))
        del data[first : first + rng.randrange(1, 200)]
    elif kind < 0.9 and places:
        at = rng.choice(places) + 3
        data[at : at + 4] = rng.choice([bytes(4), bytes([255] * 4), rng.randbytes(4)])
    else:
        at = rng.randrange(len(data))
        data[at:at] = bytes([0xFF, 0xFF, 0xFF, 0x7F][rng.randrange(4) :])
    return bytes(data)


def mutate(paths: list[Path], count: int) -> None:
    rng, outcomes, slowest = random.Random(5), collections.Counter[str](), 0.0
    for _ in range(count):
        data = mutated(bytearray(rng.choice(paths).read_bytes()), rng)
        began = time.process_time()
        try:
            end_s = parse_song(data).duration_s
            outcomes["song"] += 1
            aligned_midi(data, [0.0, end_s / 3, end_s], [1.0, 1 + end_s / 2, 2 + end_s])
        except MidiError as error:
            outcomes[re.sub(r"[\d.]+(x\w+)?", "N", str(error))] += 1
        slowest = max(slowest, time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count} mutations; the slowest took {slowest:.2f} s; peak {peak:.0f} MB")
    for words, number in outcomes.most_common():
        print(f"  {number:5d}  {words}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--midi", type=Path, required=True)
    parser.add_argument("--songs", type=int, default=6)
    parser.add_argument("--mutations", type=int, default=0)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    paths = sorted(args.midi.rglob("*.mid"))
    began, few = cpu_s(), paths[:: max(1, len(paths) // READ)]
    for path in few:
        read_song(path)
    print(f"{len(few) / (cpu_s() - began):.0f} files read per second")
    if args.mutations:
        mutate(paths, args.mutations)
    songs = [read_song(path) for path in paths[:: max(1, len(paths) // max(1, args.songs))]]
    seconds = sum(song.duration_s for song in songs)
    players: dict[str, Callable[[Song, int], np.ndarray]] = {}
    for path in sorted({p.resolve() for folder in FOLDERS for p in Path(folder).glob("*.sf2")}):
        players[path.stem] = lambda song, rate, path=path: render_with_fluidsynth(song, rate, path)
    fonts = list(players)
    players |= {"plain": render_plainly, "sines": sines}
    heard: dict[str, list[np.ndarray]] = {}
    for rate in RATES:
        for name, play in players.items():
            began = cpu_s()
            sounds = [play(song, rate) for song in songs]
            print(f"{name} at {rate} Hz: {seconds / (cpu_s() - began):.0f} times real time")
            if rate == RATES[0]:
                heard[name] = [frames(sound) for sound in sounds]
    for font in fonts:
        for name in heard:
            if name != font:
                place, off = (likeness(heard[font], heard[name], at) for at in (0, OFF))
                print(f"{name} against {font}: {place:.3f}, {off:.3f} off its place")


if __name__ == "__main__":
    main()
