# fusionwatch: every command a person or CI runs. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
ARGS ?=
BUILDER ?= $(notdir $(firstword $(shell command -v docker podman buildah)))
# Tests wait for servers half of their time. In the order of folders those that take longest come first.
PROCESSES ?= $(shell echo $$((2 * $$(nproc))))

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(MAKEFILE_LIST))

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "fusionwatch needs Python 3.11 or later; set PYTHON=/path/to/python3"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if command -v uv >/dev/null; then ln -sf "$$(command -v uv)" $(UV); \
	  else echo "installing uv into $(VENV)"; $(BIN)/python -m pip install --quiet --disable-pip-version-check uv; fi
	@touch $(UV)

$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(UV)
	@echo "installing what the demo needs into $(VENV) (about 7 GB on disk, most of it PyTorch with CUDA)"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements/demo.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(UV)
	@echo "installing everything, test tools included, into $(VENV)"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@ $(VENV)/.demo

setup: $(VENV)/.dev ## Make .venv with everything in it

demo: $(VENV)/.demo ## Play the story on this machine; ARGS="--once --json out.json" ends by itself
	@$(BIN)/fusionwatch-demo play $(ARGS)

demo-retrain: $(VENV)/.demo ## Play the closed loop: good, bad and weaker candidates, what dies on the way (ten minutes); ARGS="--json out.json"
	@$(BIN)/fusionwatch-demo retrain $(ARGS)

gameday: $(VENV)/.demo ## Random faults of every class on real servers, and a table of them (20 minutes); ARGS="--seed 3 --json out.json"
	@$(BIN)/fusionwatch-demo gameday $(ARGS)

test: $(VENV)/.dev ## All tests, on embedded PostgreSQL and Kafka broker; PROCESSES=4 sets how many at once
	@$(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder -m "not browser and not servers" $(ARGS)

test-browser: $(VENV)/.dev ## The status page in a real Chromium (needs one installed)
	@$(BIN)/pytest -m browser $(ARGS)

test-servers: $(VENV)/.dev ## Prometheus rules and Alertmanager routes by their own tools (Debian's packages); Spark (Java)
	@$(BIN)/pytest -m servers $(ARGS)

test-kafka: $(VENV)/.dev ## Kafka-facing tests on Apache Kafka (Java 17+, Maven), or on KAFKA_BOOTSTRAP_SERVERS
	@$(BIN)/pytest -n logical --dist loadfile --no-loadscope-reorder -m "kafka and not browser and not servers" --broker=apache $(ARGS)

kafka: $(VENV)/.dev ## An Apache Kafka in the foreground until Ctrl-C; ARGS="--port 9092 --secure"
	@$(BIN)/python -m tests.support.run_kafka $(ARGS)

lint: $(VENV)/.dev ## ruff, mypy strict, import rules, known vulnerabilities where a service can be asked
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo | tail -n 3
	@$(BIN)/python -m tests.support.audit --tolerate-no-service

audit: $(VENV)/.dev ## Known vulnerabilities of what is locked (pip-audit); fails where no service can be asked
	@$(BIN)/python -m tests.support.audit

sbom: $(VENV)/.dev ## Bills of materials of the two images, CycloneDX JSON, into build/
	@$(BIN)/python -m tests.support.sbom

format: $(VENV)/.dev ## Format the code
	@$(BIN)/ruff check --fix --quiet . && $(BIN)/ruff format --quiet .

bench: $(VENV)/.dev ## Measure detectors and log writing (two minutes); prints JSON, asserts nothing
	@$(BIN)/python -m tests.bench $(or $(ARGS),statistics recorder)

bench-statistics: $(VENV)/.dev ## Measure what the detectors find and what they cost; a table, and JSON (BENCH_PARTS picks)
	@$(BIN)/python -m tests.bench --table $(or $(ARGS),embeddings statistics calibration sequential)

bench-scenarios: $(VENV)/.dev ## Drift scenarios through the real pipeline: what is found, when, as what (ten minutes)
	@$(BIN)/python -m tests.bench scenarios

bench-alerts: $(VENV)/.dev ## Alerts heard in 30 quiet days at the default settings (half an hour); a table, and JSON (BENCH_DAYS, BENCH_SEED)
	@$(BIN)/python -m tests.bench --table alerts

bench-monitor: $(VENV)/.dev ## Measure an evaluation by rows of the log (50 million take 20 GB; BENCH_LOG_ROWS) and a month's backfill; a table, and JSON
	@$(BIN)/python -m tests.bench --table monitor
bench-pages: $(VENV)/.dev ## Measure the built-in pages on a log of ten million rows (BENCH_ROWS); prints JSON
	@$(BIN)/python -m tests.bench pages

bench-gpu: $(VENV)/.dev ## Measure the model process on a CUDA device; on a machine without one it says so
	@$(BIN)/python -m tests.bench gpu

bench-worker: $(VENV)/.dev ## Measure the worker beside its ceilings on Apache Kafka (Java 17+; about 40 minutes); prints a table and JSON
	@$(BIN)/python -m tests.bench worker

bench-dashboards: $(VENV)/.dev ## Measure every query of the dashboards on ten million requests (ten minutes, 10 GB); a table, and JSON
	@$(BIN)/python -m tests.bench --table dashboards

dashboards: $(VENV)/.dev ## Write Grafana's dashboards again from their description
	@$(BIN)/fusionwatch-monitor dashboards write --shipped dashboards/grafana/dashboards

checkpoint: $(VENV)/.demo ## Train the demo checkpoint again (fixed seed, a few minutes on one core)
	@$(BIN)/fusionwatch-demo checkpoint $(ARGS)

fuzz: $(VENV)/.dev ## A million mutated inputs to parsers, decoders, settings and the API; ARGS="INPUTS SEED"
	@$(BIN)/python -m tests.fuzz $(ARGS)

lock: $(UV) ## Lock the dependencies again, with hashes
	@compile() { out=$$1; shift; $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header pyproject.toml -o requirements/$$out.txt $$@; }; \
	compile dev --extra inference --extra training --extra monitor --extra ray --extra spark --extra demo --extra dev && \
	compile inference --extra inference --extra training --constraint requirements/dev.txt && \
	compile monitor --extra monitor --constraint requirements/dev.txt && \
	compile demo --extra inference --extra training --extra monitor --extra demo --constraint requirements/dev.txt && \
	sed -n '/^\[build-system\]/,/^$$/ s/.*requires = \["\(.*\)"\].*/\1/p' pyproject.toml | \
	  $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --constraint requirements/dev.txt - -o requirements/build.txt

images: ## Build the two images with docker, podman or buildah; ARGS="--build-arg PYTHON_IMAGE=python@sha256:..."
	@test -n "$(BUILDER)" || { echo "needs docker, podman or buildah; BUILDER=... names another"; exit 1; }
	@# the format: podman and buildah leave the HEALTHCHECK out of their own
	@for image in inference monitor; do BUILDAH_FORMAT=docker $(BUILDER) build \
	  --file $$image/Dockerfile --tag fusionwatch-$$image:0.1.0 $(ARGS) . || exit; done

up: ## The same service in containers: Kafka, PostgreSQL, Prometheus, Alertmanager, Grafana
	@docker compose up --build --wait

down: ## Stop the containers (volumes are kept)
	@docker compose down

clean: ## Remove the venv and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
