# The commands of the project. `make` alone lists them.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
python := .venv/bin/python
pip := $(python) -m pip install --disable-pip-version-check --require-hashes
.DEFAULT_GOAL := help
.PHONY: help repro setup look serve test test-fast lint format bench bench-scale verify torture mutate audit-deps lock

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name what; \
	do printf '  make %-12s %s\n' "$$name" "$$what"; done

repro: .dvc/config.local ## set up, then run the pipeline (dvc repro)
	@$(python) -m stages.repair
	dvc repro
	@echo
	@dvc metrics show
	@echo
	@echo "Done. README.md says what these numbers mean; metrics/MODEL_CARD.md has all of them."
	@echo "Then, once in every terminal:"
	@echo "  . .venv/bin/activate"
	@echo "and for example:"
	@echo "  dvc metrics show          the headline numbers"
	@echo "  make look                 all that was found out, as a page"
	@echo "  make serve                a page to drop images on"
	@echo "  dvc plots show            every chart, as a page"
	@echo "  dvc exp run -S recipes.tuned.learning_rate=0.001  an experiment (needs git)"
	@echo "  dvc metrics diff; dvc plots diff            what it changed     (need git)"

setup: .dvc/config.local ## set up alone, to `dvc pull` what a colleague has run

look: ## open the report of the last run, metrics/report.html
	@test -f metrics/report.html || { \
	  echo "metrics/report.html is not there. make repro writes it, or dvc pull fetches it."; exit 1; }
	@$(PYTHON) -c 'import pathlib, webbrowser; page = pathlib.Path("metrics/report.html").resolve(); \
	  print(page, flush=True); webbrowser.open(page.as_uri())'

serve: .venv/installed ## start a page at 127.0.0.1 that judges images dropped on it
	@$(python) -m stages.serve

test: .venv/installed-dev lint ## set up, then run every check and every test
	$(python) -m pytest -n 2 --dist loadfile

test-fast: .venv/installed-dev ## the tests without TensorFlow, whole pipelines, a browser or a cluster
	$(python) -m pytest -n 2 --dist worksteal -m "not tensorflow and not pipeline and not browser and not cluster"

lint: .venv/installed-dev ## style and types
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

format: .venv/installed-dev ## repair what can be repaired of the style
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

bench: .venv/installed-dev ## speed and memory, as ratios measured side by side
	$(python) -m benchmarks

bench-scale: .venv/installed-dev ## time and memory of every stage at 300, 3,000 and 30,000 images
	$(python) -m benchmarks.scale --chart docs/pictures/scale.png

verify: .venv/installed ## run the pipeline twice in unlike surroundings and compare every byte
	$(python) -m benchmarks.verify

torture: .venv/installed-dev ## kill the pipeline at many moments and compare what is left
	$(python) -m benchmarks.torture

mutate: .venv/installed-dev ## plant faults in the core and count how many the tests catch
	$(python) -m benchmarks.mutate

audit-deps: .venv/installed-dev ## look the pinned packages up in the list of known faults (network)
	$(python) -m pip_audit --require-hashes --disable-pip -r requirements-dev.txt

lock: .venv/installed-dev ## pin anew what pyproject.toml allows (network)
	$(python) -m uv pip compile --universal --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --python-version 3.11 --upgrade pyproject.toml -o requirements.txt
	$(python) -m uv pip compile --universal --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --python-version 3.11 --all-extras -c requirements.txt \
	  --upgrade pyproject.toml -o requirements-dev.txt

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); this project needs Python 3.11, 3.12 or 3.13."; \
	  echo "Name one: make PYTHON=python3.12 repro"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
	  echo "No virtual environment could be made. On Debian and Ubuntu: apt install python3-venv"; \
	  exit 1; }

.venv/installed: requirements.txt .venv/bin/python
	$(pip) -r requirements.txt
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/bin/python
	$(pip) -r requirements-dev.txt
	@touch $@ .venv/installed

# The page that `dvc plots` fills, with the scripts in it that DVC's own page loads from the network.
# DVC takes the path of a file that is gone for the page itself; this one has in it what a page needs,
# so that the charts are drawn even then, with scripts from the network.
charts := .venv/charts.html{scripts}{plot_divs}
$(charts): .dvc/plots/page.html stages/charts_page.py .venv/installed
	@$(python) -m stages.charts_page '$@'

# What DVC is to know of this copy alone. One without git (a downloaded zip) lacks some commands.
.dvc/config.local: $(charts)
	@if ! git rev-parse --git-dir >/dev/null 2>&1; then \
	  dvc config --local core.no_scm true; \
	  echo "This copy has no git history: dvc metrics diff, dvc plots diff and dvc exp need it."; \
	  echo "For these: git init && git add . && git commit -m start && dvc config --local --unset core.no_scm"; \
	fi
	@dvc config --local plots.html_template '../$(charts)'
