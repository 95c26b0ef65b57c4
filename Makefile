# Everything sets itself up: each target installs what it needs into .venv, with the versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
RUNS ?= runs
export TORCH
INSTALL := $(PYTHON) tools/install.py
SOURCES := pyproject.toml constraints.txt tools/install.py
# tests write thousands of small files and wait until the disk has each: memory takes its place where there is plenty
TMPDIR ?= $(shell df -k /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 {print "/dev/shm"}')
# tests wait for devices and clocks as much as they work: one process per core, up to four; WORKERS=0 for none beside
WORKERS ?= logical
.DEFAULT_GOAL := help
.PHONY: help quickstart test check smoke bench bench-kd bench-meter proofs docs golden gpu-check clean

help: ## Show what can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

quickstart: .venv/.quickstart ## Distil a small model four ways on this machine and open the books (about 5 minutes, no GPU)
	$(BIN)/stillwatt run quickstart --runs $(RUNS)

test: .venv/.dev ## Run every test with coverage
	TMPDIR=$(TMPDIR) PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n $(WORKERS) --maxprocesses 4 --dist worksteal --cov --cov-report=
	@$(BIN)/python -m coverage report --skip-covered --fail-under=90 | tail -n 40
	@$(BIN)/python -m coverage report --fail-under=100 \
	  --include='src/stillwatt/units.py,src/stillwatt/metering/*,src/stillwatt/analysis/*' > .venv/branches.txt \
	  || { cat .venv/branches.txt; echo "units, metering and analysis must have every branch covered"; exit 1; }

check: .venv/.dev ## Lint, types, import contract, docs drift, golden diff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports
	$(BIN)/python tools/drift.py

smoke: ## Base install only, in a throw-away environment: doctor, measure, ledger
	sh tools/smoke.sh $(PYTHON)

bench: .venv/.dev ## The meter's own cost and the KD loss head, as ratios to peers in the same run
	$(BIN)/python benchmarks/bench_meter_cost.py
	$(BIN)/python benchmarks/bench_kd_head.py

bench-kd: .venv/.dev ## Loss heads beside those of TRL and Liger, where these are installed; logit caches: bytes, fidelity, cost
	$(BIN)/python benchmarks/bench_kd_head.py --vocab 49152 128256 --repeats 2 --latest
	$(BIN)/python benchmarks/bench_cache.py --save

bench-meter: .venv/.dev ## How right the meter is on simulated cards: errors, coverage, half-widths, and its own cost
	$(BIN)/python benchmarks/bench_meter.py --save

proofs: .venv/.dev ## Damage, kills, hours of sampling, a week of samples: what the books withstand (half an hour)
	$(BIN)/python benchmarks/proof_fuzz.py --save
	$(BIN)/python benchmarks/proof_kill.py --save
	$(BIN)/python benchmarks/proof_resume.py --save
	$(BIN)/python benchmarks/proof_soak.py --save
	$(BIN)/python benchmarks/bench_store.py --save

docs: .venv/.docs ## Regenerate the reference pages and build the site into site/
	$(BIN)/python tools/drift.py --write
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict -q

golden: .venv/.dev ## Rewrite the golden files; read the diff before you commit it
	$(BIN)/python tools/drift.py --write
	PYTHONPATH=tests $(BIN)/python tests/unit/report/test_report_data.py
	PYTHONPATH=tests $(BIN)/python tests/unit/report/test_report_figures.py
	PYTHONPATH=tests $(BIN)/python tests/golden/run_contract/regenerate.py
	$(BIN)/python tests/golden/losses/regenerate.py

gpu-check: .venv/.dev ## On a machine with an NVIDIA GPU: the tests that need one, output kept with the date
	$(BIN)/python -m pytest -q -m gpu -ra | tee benchmarks/gpu-check-$$(date -u +%Y-%m-%d).txt
	$(BIN)/python benchmarks/gpu_check.py | tee -a benchmarks/gpu-check-$$(date -u +%Y-%m-%d).txt

clean: ## Remove environments, caches and built files; runs/ stays
	rm -rf .venv build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*

.venv/.quickstart: $(SOURCES)
	@echo "Installing PyTorch (CPU), transformers and Stillwatt into .venv …"
	$(INSTALL) distill report
	@touch $@

.venv/.dev: $(SOURCES)
	@echo "Installing Stillwatt with its test tools into .venv …"
	$(INSTALL) distill report figures notebook analysis sweep ray factors exports evaluate lora integrations lightning cache dev
	@touch $@ .venv/.quickstart

.venv/.docs: .venv/.dev
	$(INSTALL) distill report figures notebook analysis sweep ray factors exports evaluate lora integrations lightning cache dev docs
	@touch $@
