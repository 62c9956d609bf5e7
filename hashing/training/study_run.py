"""The study of forgiving hash from music to tables, stage by stage.

Reproduces Baluja & Covell, "Learning 'Forgiving' Hash Functions" (IJCAI 2007), on a catalogue of
any size. `hashing.training.study` trains, `study_music` cuts, `study_lookup` counts,
`study_paper` and `study_beyond` make the tables.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hashing.training import study_beyond, study_paper, study_setup
from hashing.training.study import (
    Procedure,
    StudyTraining,
    Trained,
    pick,
    spread_over,
    train_ensemble,
)
from hashing.training.study_music import Database
from hashing.training.study_paper import Rows, Setting, bit_setting, nearest_setting
from hashing.training.study_setup import Material, Source, StudySettings

Floats = npt.NDArray[np.float32]
PROCEDURES: tuple[Procedure, ...] = ("reassigned", "static", "random")

# Hidden units of learners of one bit: the fewest of the paper's, so that eight of them have about
# as many weights as one network of eight outputs has in the mean.
ONE_BIT_HIDDEN = 5


class Study:
    """One study: its material, its ensembles, and the hashes that are compared."""

    def __init__(self, source: Source, settings: StudySettings) -> None:
        self.source = source
        self.settings = settings
        self.minutes: dict[str, float] = {}  # CPU time of each ensemble

    def run(self) -> dict[str, Any]:
        """Everything, in order: ``facts``, and ``tables`` by name."""
        started = time.monotonic()
        torch.set_num_threads(self.source.threads)
        material = study_setup.prepare(self.source, self.settings)
        self.ensembles: dict[str, Trained] = {
            procedure: self._trained(material, procedure, procedure, self.settings.training)
            for procedure in PROCEDURES
        }
        self.training_bits = {
            name: trained.bits(material.snippets) for name, trained in self.ensembles.items()
        }
        tables = self._paper(material)
        self._keep(tables)
        tables |= self._beyond(material)
        facts = {
            **study_setup.facts(self.source, material, self.settings),
            "ablation_networks": self._few(self.settings.ablation_networks),
            "rate_networks": self._few(self.settings.rate_networks),
            "code_changes": self.ensembles["reassigned"].code_changes,
            "training_cpu_minutes": self.minutes,
            "wall_minutes": round((time.monotonic() - started) / 60, 1),
        }
        return {"facts": facts, "tables": tables}

    def _paper(self, material: Material) -> dict[str, Rows]:
        settings, small, large, log = self.settings, material.small, material.large, self.source.log
        asked_small, asked_large = self._queries(small, 10), self._queries(large, 11)
        main = self.training_bits["reassigned"]
        bits_small = self.ensembles["reassigned"].bits(small.views["front"])
        bits_large = self.ensembles["reassigned"].bits(large.views["front"])
        log("single networks")
        tables: dict[str, Rows] = {
            "single": study_paper.single_networks(self.ensembles, small, asked_small)
        }
        log("selection of bits")
        tables["selection"] = study_paper.compare_selectors(
            main, bits_small, small, asked_small, settings.key_bits, self._rng(12)
        )
        log("tables and bits")
        tables["grid"] = [
            {"database": name, **row}
            for name, bits, database, asked in (
                ("excerpts", bits_small, small, asked_small),
                ("songs", bits_large, large, asked_large),
            )
            for row in study_paper.grid(
                main, bits, database, asked, settings.n_tables, settings.key_bits
            )
        ]
        log("other hashes")
        tables["hashes"] = self._compare(material, asked_large)
        reference = self.chosen["reassigned"]
        tables["ranks"] = study_paper.rank_shares(reference, large, asked_large, self._rng(13))
        log("length of the query")
        tables["lengths"] = [
            row
            for apart in (1, self.source.disjoint)
            for row in study_paper.by_length(
                list(self.chosen.values()),
                large,
                large,
                settings.starts,
                apart,
                self.source.places_a_second,
                study_paper.LENGTHS_S,
                self._rng(14),
                rules=("sum", "best"),
            )
        ]
        return tables

    def _compare(self, material: Material, queries: npt.NDArray[np.int64]) -> Rows:
        """Hashes of each kind; of each, the setting that examines as much as the reference."""
        n_tables, key_bits = self.settings.reference
        candidates: dict[str, list[Setting]] = {}
        for name, bits in self.training_bits.items():
            lengths = sorted({key_bits, *study_paper.PROJECTION_KEY_BITS})
            candidates[name] = [
                self._of_networks(name, n_tables, b) for b in lengths if b <= bits.shape[1]
            ]
        candidates["random projections"] = [
            study_paper.projection_setting("random projections", material.projections, n_tables, b)
            for b in study_paper.PROJECTION_KEY_BITS
        ]
        candidates["min-hash"] = [
            study_paper.minhash_setting("min-hash", t, b) for t, b in study_paper.MINHASH_SETTINGS
        ]
        self.chosen = {"reassigned": self._of_networks("reassigned", n_tables, key_bits)}
        (reference,) = study_paper.compare_hashes(
            [self.chosen["reassigned"]], material.large, queries
        )
        rows: Rows = []
        for kind, settings in candidates.items():
            found = study_paper.compare_hashes(settings, material.large, queries)
            if kind not in self.chosen:
                self.chosen[kind] = nearest_setting(settings, found, reference["examined"])
            one = self.chosen[kind]
            shape = (one.n_tables, one.key_bits)
            rows += [
                {**row, "chosen": (row["n_tables"], row["key_bits"]) == shape} for row in found
            ]
        return rows

    def _beyond(self, material: Material) -> dict[str, Rows]:
        large = material.large
        queries = self._queries(large, 11)
        tables = {"variants": self._variants(material, queries)}
        tables["rates"] = self._rates(material)
        self.source.log("size of the database")
        heard = study_setup.songs(self.source, self.settings, material.tracks, material.views)
        sizes = [size for size in (large.songs // 4, large.songs // 2, large.songs) if size]
        tables["sizes"] = study_beyond.by_size(
            [self.chosen[name] for name in ("reassigned", "random projections", "min-hash")],
            large,
            heard,
            sizes,
            np.arange(len(large)),
        )
        tables["noise"] = self._noise(material, queries)
        return tables

    def _variants(self, material: Material, queries: npt.NDArray[np.int64]) -> Rows:
        """Learners of one bit, and networks with songs of their own, beside as many of the main."""
        training = self.settings.training
        few = spread_over(len(training.hidden), self._few(self.settings.ablation_networks))
        songs = len(material.songs)
        smaller = dataclasses.replace(training, hidden=tuple(training.hidden[i] for i in few))
        one_bit = dataclasses.replace(
            training, hidden=(ONE_BIT_HIDDEN,) * (len(few) * training.outputs), outputs=1
        )
        own = self._trained(
            material,
            "own-songs",
            "reassigned",
            smaller,
            study_setup.songs_of_each(self.source, material, len(few), training.seed),
            np.arange(len(few) * songs).reshape(len(few), songs),
        )
        ensembles = {
            "same songs": pick(self.ensembles["reassigned"], few),
            "own songs": own,
            "one bit": self._trained(material, "one-bit", "reassigned", one_bit),
        }
        return study_beyond.variants(ensembles, material.snippets, material.large, queries)

    def _rates(self, material: Material) -> Rows:
        """Ensembles of a few networks at several learning rates, both procedures."""
        training = self.settings.training
        few = spread_over(len(training.hidden), self._few(self.settings.rate_networks))
        hidden = tuple(training.hidden[i] for i in few)
        queries = self._queries(material.checking, 16)
        rows: Rows = []
        for procedure, rate in itertools.product(PROCEDURES[:2], self.settings.rates):
            other = dataclasses.replace(training, hidden=hidden, learning_rate=rate)
            trained = self._trained(material, f"rate-{rate:g}-{procedure}", procedure, other)
            row = study_beyond.at_rate(trained, material.snippets, material.checking, queries)
            self.source.log(
                f"rate {rate:g}, {procedure}: {row['bits_right']:.2f} of {row['outputs']} bits "
                f"right, {100 * row['right']:.1f} % of answers"
            )
            rows.append({"procedure": procedure, "learning_rate": rate, **row})
        return rows

    def _noise(self, material: Material, queries: npt.NDArray[np.int64]) -> Rows:
        rows: Rows = []
        large, seed = material.large, self.settings.training.seed
        for condition in study_beyond.conditions():
            self.source.log(f"noise: {condition.name}")
            degrade = study_beyond.degrader(condition, self.source.surroundings, seed)
            noisy = study_setup.songs(
                self.source, self.settings, large.tracks, material.views, degrade
            )
            rows += study_beyond.under_noise(
                list(self.chosen.values()),
                large,
                noisy,
                queries,
                condition.name,
                self.settings.starts,
                self.source.places_a_second,
                self._rng(15),
            )
        return rows

    def _keep(self, tables: dict[str, Rows]) -> None:
        """Write what was measured so far, for whoever cannot wait for the rest."""
        (self.source.work / "measured.json").write_text(json.dumps(tables))

    def _trained(
        self,
        material: Material,
        name: str,
        procedure: Procedure,
        training: StudyTraining,
        songs: Floats | None = None,
        members: npt.NDArray[np.int64] | None = None,
    ) -> Trained:
        started = time.process_time()
        trained = train_ensemble(
            material.songs if songs is None else songs,
            training,
            procedure,
            members=members,
            checkpoint=self.source.work / f"{name}.pt",
            log=lambda line: self.source.log(f"{name}: {line}"),
        )
        self.minutes[name] = round((time.process_time() - started) / 60, 2)
        return trained

    def _of_networks(self, name: str, n_tables: int, key_bits: int) -> Setting:
        trained = self.ensembles[name]
        return bit_setting(
            name,
            lambda database: trained.bits(database.views["front"]),
            self.training_bits[name],
            n_tables,
            key_bits,
        )

    def _queries(self, database: Database, stage: int) -> npt.NDArray[np.int64]:
        order = self._rng(stage).permutation(len(database))
        return np.sort(order[: self.settings.queries])

    def _few(self, networks: int) -> int:
        return min(networks, len(self.settings.training.hidden))

    def _rng(self, stage: int) -> np.random.Generator:
        return study_setup.generator(self.settings, stage)
