# One word a command. `make help` lists them. Everything is installed into .venv from the hashed locks in requirements/.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
LAB =
RUN =
MLFLOW =
SERVE =
SITE = site
WORKERS = auto
SIDE = -n $(WORKERS) --maxprocesses 4 --no-loadscope-reorder  # tests/order.py says what shares a worker, and the order
UV := $(BIN)/uv
COMPILE := $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes \
	--no-strip-extras --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock"

.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE  # where it is set, each kernel compiles the whole stack anew: ten seconds a stage

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.PHONY: run
run: .venv/run ## install what is needed, and build the pipeline on the bundled book
	@$(BIN)/modelbook build $(RUN)

.PHONY: test
test: .venv/test ## install what tests need, and run the whole suite but for integration
	@$(BIN)/python tests/prerequisites.py
	@$(BIN)/pytest $(SIDE) -m "not integration"

.PHONY: test-integration
test-integration: .venv/test ## run the tests that install or start Airflow, Spark, Ray, the AWS CLI and the image's environment
	@$(BIN)/python tests/prerequisites.py integration
	@$(BIN)/pytest $(SIDE) -m integration $$(grep -l mark.integration tests/test_*.py)

.PHONY: coverage
coverage: .venv/test ## run both with coverage of lines and branches, subprocesses and kernels included: htmlcov/index.html
	@$(BIN)/python tests/prerequisites.py integration
	@$(BIN)/coverage erase
	@$(BIN)/pytest $(SIDE) --cov --cov-report=html --cov-report=term

.PHONY: lint
lint: .venv/test ## style, types, and the order of the package's rooms
	@$(BIN)/ruff check -q . && $(BIN)/ruff format -q --check . && $(BIN)/mypy
	@rooms="$$($(BIN)/lint-imports --no-logo)" || { echo "$$rooms"; exit 1; }

.PHONY: check
check: lint ## style, types, and the fast tests
	@$(BIN)/pytest $(SIDE) -m "not slow and not integration"

.PHONY: setup
setup: .venv/run ## install what runs need; set up kernel, JupyterLab and git's filter
	@$(BIN)/modelbook setup

.PHONY: extras
extras: .venv/run ## install what object stores, PostgreSQL, streams and data versions need besides
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/extras.txt

.PHONY: engines
engines: .venv/run ## install Dask, Spark and Ray, for work on more machines
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/engines.txt

.PHONY: lab
lab: .venv/run ## open JupyterLab at the project; options: make lab LAB="--no-browser --port 8890"
	@$(BIN)/modelbook setup >/dev/null
	@PATH="$(CURDIR)/$(BIN):$$PATH" JUPYTERLAB_WORKSPACES_DIR="$(CURDIR)/.venv/workspaces" $(BIN)/jupyter lab $$(test "$$(id -u)" != 0 || echo --allow-root) $(LAB)

.PHONY: serve
serve: .venv/run ## serve the champion at http://127.0.0.1:8000; options: make serve SERVE="--port 9000 --workers 2"
	@$(BIN)/modelbook serve $(SERVE)

.PHONY: demo
demo: .venv/run ## see the whole loop on one screen, on a small book in the folder demo/; a few minutes
	@$(BIN)/modelbook demo

.PHONY: mlflow
mlflow: .venv/run ## open the MLflow UI on the project's store, at http://127.0.0.1:5000; options in MLFLOW
	@$(BIN)/python -m modelbook.registry.mlflow_ui $(MLFLOW)

.PHONY: pdf
pdf: .venv/run ## print the reports of the book as PDF, beside their pages; wants Chromium or Chrome
	@$(BIN)/modelbook pdf

.PHONY: site
site: .venv/run ## copy all reports into a folder or a .zip for any web host: make site SITE=site.zip
	@$(BIN)/modelbook site $(SITE)

.PHONY: docs
docs: .venv/docs ## write the documentation as a site, with the reference and the reports of the bundled book: site-docs/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs -q build && echo site-docs/index.html

.PHONY: deploy
deploy: ## ship: TARGET=kubernetes [OVERLAY=dev] or TARGET=ecs; a dry run until there are credentials
	@TARGET="$(TARGET)" OVERLAY="$(OVERLAY)" STACK="$(STACK)" DRY="$(DRY)" deploy/deploy.sh

.PHONY: sbom
sbom: .venv/uv ## list what the service's image holds, with licences, in deploy/sbom
	@UV="$(CURDIR)/$(UV)" deploy/sbom.sh

.PHONY: bench
bench: .venv/test ## measure: builds and their overhead, pages, the service beside other ways to serve, and how often monitor is right
	@$(BIN)/python benchmarks/build.py
	@$(BIN)/python benchmarks/pages.py
	@$(BIN)/python -W ignore benchmarks/serving.py
	@$(BIN)/python benchmarks/draft.py
	@$(BIN)/python benchmarks/monitor.py
	@$(BIN)/python -W ignore benchmarks/drift.py

.PHONY: lock
lock: .venv/uv ## write the locks anew from pyproject.toml
	@$(COMPILE) pyproject.toml -o requirements/run.txt
	@$(COMPILE) pyproject.toml $(foreach one,s3 postgres dvc stream delta,--extra $(one)) -c requirements/run.txt -o requirements/extras.txt
	@$(COMPILE) pyproject.toml $(foreach one,dask spark ray,--extra $(one)) -c requirements/run.txt -c requirements/extras.txt -o requirements/engines.txt
	@$(COMPILE) --group serve -c requirements/extras.txt -o requirements/serve.txt
	@$(COMPILE) --group sbom -o requirements/sbom.txt
	@$(COMPILE) pyproject.toml --all-extras --group test --group docs -c requirements/run.txt -c requirements/extras.txt -c requirements/engines.txt -o requirements/test.txt
	@$(COMPILE) --group docs -c requirements/test.txt -o requirements/docs.txt
	@echo "uv==$$($(UV) --version | cut -d' ' -f2)" | $(UV) pip compile -q - --universal --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-annotate --custom-compile-command "make lock" -o requirements/uv.txt

.PHONY: clean
clean: clean-reports ## remove what builds made on the way; never registry, journals or history (modelbook reset does)
	@for book in $$(ls models/*/built.json 2>/dev/null | cut -d/ -f2); do \
		find "data/$$book" -type f ! -name 'journal.db*' ! -name labelled.parquet -delete; \
		find "models/$$book" -maxdepth 1 -name '*.json' ! -name retrained.json -delete; done
	@rm -rf models/cache

.PHONY: clean-reports
clean-reports: ## remove the reports, but not the records of runs
	@find reports -type f ! -path 'reports/README.md' ! -path 'reports/*/runs/*' -delete

# The environment, in layers. Each file under .venv says that its layer stands as its lock describes it.
.venv/uv: requirements/uv.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
		echo "make: Modelbook needs Python 3.11, found: $$("$(PYTHON)" --version 2>&1)"; \
		echo "  next: install Python 3.11, or name it: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@echo "Making .venv"
	@"$(PYTHON)" -m venv .venv >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear --without-pip .venv  # Debian's without python3-venv
	@pip="$(BIN)/python -m pip"; $$pip --version >/dev/null 2>&1 || pip="$(PYTHON) -m pip --python $(BIN)/python"; \
		$$pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.venv/run: .venv/uv requirements/run.txt pyproject.toml
	@echo "Installing what runs need (a few minutes the first time)"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/run.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/modelbook setup >/dev/null
	@touch $@

.venv/test: .venv/run requirements/test.txt
	@echo "Installing what tests need"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/test.txt
	@touch $@

.venv/docs: .venv/run requirements/docs.txt
	@echo "Installing what the site of the documentation needs"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/docs.txt
	@touch $@
