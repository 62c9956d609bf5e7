# Everything starts here: `make` lists the targets, each sets up what it needs.
#
# A target brings its own uv into .venv and installs only when a pin, an extra or the folder has
# changed. `make demo` installs the run time alone; the other targets install everything.

UV_VERSION := 0.13.9
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
UV := $(VENV)/stamps/uv-$(UV_VERSION)
INSTALL := $(BIN)/uv pip install --python $(BIN)/python --constraints requirements.txt

# A stamp is named by what was installed where: a changed pin or a moved folder is a new name.
PINS := $(shell { cat setup.py requirements.txt; echo '$(CURDIR)'; } | sha256sum | cut -c1-16)
FULL := $(VENV)/stamps/full-$(PINS)
# The full install holds the run time, so that after it nothing is installed for `make demo`.
RUN_TIME := $(or $(wildcard $(FULL)),$(VENV)/stamps/run-time-$(PINS))

# Test processes at once. Two of them with one thread each fit two cores.
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest
BENCHMARKS ?= $(sort $(wildcard tests/benchmarks/bench_*.py))

# An object store that keeps its promises about generations; tests/gcs start it.
EMULATOR := $(BIN)/fake-gcs-server
FAKE_GCS := github.com/fsouza/fake-gcs-server@v1.56.1

# Airflow pins hundreds of packages, some of them at other versions: its tests have an environment
# of their own.
AIRFLOW := $(VENV)/airflow
AIRFLOW_LOCK := deploy/airflow/requirements.txt
AIRFLOW_PINS := $(shell { cat $(wildcard $(AIRFLOW_LOCK)) /dev/null; echo '$(CURDIR)'; } | sha256sum | cut -c1-16)
AIRFLOW_FULL := $(VENV)/stamps/airflow-$(AIRFLOW_PINS)

# Flink and Beam's programs for it: jars by Maven, and of Flink's own distribution for Python; what
# starts workers, and another small runner, by Go, of the version of the SDK.
FLINK := $(VENV)/flink
FLINK_CLUSTER := deploy/flink/requirements.txt
BEAM_GO := github.com/apache/beam/sdks/v2
BEAM_VERSION := $(shell sed -n 's/^apache-beam\(\[.*\]\)\?==\([0-9.]*\).*/\2/p' requirements.txt)
FLINK_PINS := $(shell { cat $(wildcard deploy/flink/pom.xml $(FLINK_CLUSTER)); echo '$(BEAM_VERSION)'; } | sha256sum | cut -c1-16)
FLINK_PARTS := job-server operator cluster boot prism
FLINK_STAMPS := $(FLINK_PARTS:%=$(VENV)/stamps/flink-%-$(FLINK_PINS))
JARS := mvn --quiet --batch-mode --file deploy/flink/pom.xml dependency:copy-dependencies

# Python compiles a module once, and not in each of the many processes that tests and jobs start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test lint types librosa-loops test-music music-folder test-browser test-gcs test-airflow flink flink-test test-slow soak bench install install-run-time install-airflow lock clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: install-run-time  ## set up the run time, index a small catalogue, look up noisy snippets
	rm -rf build/demo
	$(BIN)/python -m pipelines demo --out build/demo

# Files in their order: doctests, the shortest, come last, and no process waits for another.
test: lint  ## set up everything; lint, type check, all tests on rendered audio
	@$(MAKE) --no-print-directory --jobs 2 types librosa-loops
	$(PYTEST) -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: install
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: install
	$(BIN)/python -m mypy

# librosa compiles loops where it is first used, 15 s a process: once for all, while mypy has the
# other core.
librosa-loops: install
	@$(BIN)/python -c 'import librosa.core.audio, librosa.core.pitch, librosa.core.spectrum'

test-music: music-folder install  ## the same jobs on the folder of real music that HASHBEAM_MUSIC names
	$(PYTEST) tests/music $(PYTEST_ARGS)

# Asked before anything is installed.
music-folder:
	@test -n "$$HASHBEAM_MUSIC" || { echo "make test-music: HASHBEAM_MUSIC is not set; name a folder of music: HASHBEAM_MUSIC=~/Music make test-music" >&2; exit 2; }
	@test -d "$$HASHBEAM_MUSIC" || { echo "make test-music: HASHBEAM_MUSIC=$$HASHBEAM_MUSIC is not a folder" >&2; exit 2; }

# `make test` runs these too where there is a chromium, and skips them where there is none.
test-browser: install  ## reports in headless Chromium (Debian: apt-get install chromium)
	HASHBEAM_CHROMIUM="$${HASHBEAM_CHROMIUM:-chromium}" $(PYTEST) tests/pipelines/test_report_disambiguation.py $(PYTEST_ARGS)

# Without Go and without a binary the tests skip, and say so.
test-gcs: install  ## the life of an index on gs://, against an emulator (built once; needs Go)
	@test -x $(EMULATOR) || ! command -v go >/dev/null || GOBIN='$(CURDIR)/$(BIN)' go install $(FAKE_GCS) || echo "make test-gcs: the emulator could not be built" >&2
	HASHBEAM_GCS_EMULATOR="$${HASHBEAM_GCS_EMULATOR:-$(CURDIR)/$(EMULATOR)}" $(PYTEST) -n $(JOBS) --dist loadfile tests/gcs $(PYTEST_ARGS)

test-airflow: install-airflow install-run-time  ## the DAGs of deploy/airflow, in an Airflow of their own
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(AIRFLOW)/bin/python -m pytest -c tests/airflow/pytest.ini tests/airflow $(PYTEST_ARGS)

# All downloads at once: each waits for another server.
flink: $(UV)  ## download Flink and what runs Beam on it into .venv (needs Java 17, Maven, Go)
	@for tool in java mvn go; do command -v $$tool >/dev/null || { echo "make flink: there is no $$tool; install a Java 17 runtime, Maven and Go" >&2; exit 2; }; done
	@$(MAKE) --no-print-directory --jobs $(words $(FLINK_PARTS)) $(FLINK_STAMPS)

flink-test:  ## the jobs on a Flink cluster of processes: same rows, and task managers killed
	@$(MAKE) --no-print-directory --jobs 2 install flink
	$(PYTEST) tests/flink -o faulthandler_timeout=900 $(PYTEST_ARGS)

test-slow: install  ## what takes minutes: a thousand mutated audio files, kills at every point
	HASHBEAM_SLOW=1 $(PYTEST) -n $(JOBS) --dist loadfile tests/test_audio_fuzz.py tests/crash tests/pipelines/reindexing/test_sequences.py tests/pipelines/test_scale.py $(PYTEST_ARGS)

# Goes on where it was stopped; build/soak/summary.json has the result.
KILLS ?= 1000
soak: install  ## a reindex killed a thousand times at any moment (hours)
	PYTHONPATH=.:tests $(BIN)/python tests/crash/black_box.py --folder build/soak --kills $(KILLS)

bench: install  ## measure speed, size and memory (tests/benchmarks; not part of the tests)
	@set -e; for file in $(BENCHMARKS); do echo "== $$file"; PYTHONPATH=.:tests $(BIN)/python $$file; done

install-run-time: $(RUN_TIME)  ## install the run time into .venv (no torch)
install: $(FULL)  ## install everything into .venv (torch, Google Cloud, test tools)
install-airflow: $(AIRFLOW_FULL)

# What another version has left goes first: jars of two would stand on one class path.
$(VENV)/stamps/flink-job-server-$(FLINK_PINS): | $(UV)
	rm -rf $(FLINK)/job-server $(@D)/flink-job-server-*
	$(JARS) -DincludeScope=runtime -DoutputDirectory='$(CURDIR)/$(FLINK)/job-server'
	@touch $@

# After the other one: two Mavens at once would write the same files.
$(VENV)/stamps/flink-operator-$(FLINK_PINS): | $(VENV)/stamps/flink-job-server-$(FLINK_PINS)
	rm -rf $(FLINK)/operator $(@D)/flink-operator-*
	$(JARS) -DincludeScope=provided -DoutputDirectory='$(CURDIR)/$(FLINK)/operator'
	@touch $@

$(VENV)/stamps/flink-cluster-$(FLINK_PINS): | $(UV)
	rm -rf $(FLINK)/cluster $(@D)/flink-cluster-*
	$(BIN)/uv pip install --quiet --no-deps --target $(FLINK)/cluster --requirements $(FLINK_CLUSTER)
	@touch $@

$(VENV)/stamps/flink-boot-$(FLINK_PINS): | $(UV)
	rm -f $(@D)/flink-boot-*
	GOBIN='$(CURDIR)/$(FLINK)/bin' go install $(BEAM_GO)/python/container@v$(BEAM_VERSION)
	mv $(FLINK)/bin/container $(FLINK)/bin/boot
	@touch $@

$(VENV)/stamps/flink-prism-$(FLINK_PINS): | $(VENV)/stamps/flink-boot-$(FLINK_PINS)
	rm -f $(@D)/flink-prism-*
	GOBIN='$(CURDIR)/$(FLINK)/bin' go install $(BEAM_GO)/go/cmd/prism@v$(BEAM_VERSION)
	@touch $@

COMPILE := $(BIN)/uv pip compile --python-version 3.11 --quiet --no-emit-index-url --custom-compile-command 'make lock'
lock: $(UV)  ## resolve all pins again (make lock UPGRADE=--upgrade for newer versions)
	$(COMPILE) $(UPGRADE) setup.py --all-extras --output-file requirements.txt
	$(COMPILE) $(UPGRADE) deploy/airflow/requirements.in --output-file $(AIRFLOW_LOCK)

clean:  ## remove what the targets wrote, but not .venv
	rm -rf build dist hashbeam.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find hashing pipelines tests deploy -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove .venv as well
	rm -rf $(VENV)

# venv without --clear keeps the packages of an environment that lacks only a newer uv.
$(UV):
	@test -n "$(PYTHON)" || { echo "make: hashbeam needs Python 3.11 or newer; none found in PATH" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: hashbeam needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@mkdir -p $(@D) && rm -f $(@D)/uv-* && touch $@

$(VENV)/stamps/run-time-$(PINS): | $(UV)
	$(INSTALL) --editable .
	@rm -f $(@D)/run-time-* $(@D)/full-* && touch $@

$(FULL): | $(UV)
	$(INSTALL) --editable '.[train,gcp,dev]'
	@rm -f $(@D)/run-time-* $(@D)/full-* && touch $@

$(AIRFLOW_FULL): | $(UV)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(AIRFLOW)
	$(BIN)/uv pip sync --quiet --python $(AIRFLOW)/bin/python $(AIRFLOW_LOCK)
	@rm -f $(@D)/airflow-* && touch $@
