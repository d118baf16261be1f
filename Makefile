# `make help` lists the commands. Everything is installed into .venv from the hashed locks in requirements/.
# Python is that of .venv, or else the newest of PYTHONS on the machine, unless it is named:
#   make run PYTHON=python3.13                       recreates .venv if it has another Python
#   make test PYTHON=python3.12 VENV=.venv-3.12      uses a second environment
PYTHONS := 3.13 3.12 3.11
find-python = $(shell for version in $(1); do \
	for python in python$$version "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python; do \
	"$$python" -c "" 2>/dev/null && command -v "$$python" && exit; done; done; echo python3)
locked-minor = $(filter $(PYTHONS),$(shell "$(1)" -c 'import sys; print(*sys.version_info[:2], sep=".")' 2>/dev/null))
PYTHON ?= $(call find-python,$(call locked-minor,$(BIN)/python) $(PYTHONS))
NEWEST = $(call find-python,$(PYTHONS))
# For tests, the distribution's build of a Python: it is optimized, and that of pyenv is not by default.
distributed = $(shell /usr/bin/python$(call locked-minor,$(1)) -m pip --version >/dev/null 2>&1 \
	&& echo /usr/bin/python$(call locked-minor,$(1)) || echo "$(1)")
OLDEST = $(call distributed,$(call find-python,$(sort $(PYTHONS))))
VENV := .venv
BIN := $(VENV)/bin
LAB =
RUN =
LOCK =
MLFLOW =
SERVE =
SITE = site
TESTS =
WORKERS = auto
FAST = not slow and not integration
SHORT = $(FAST) and not long
SIDE = -n $(WORKERS) --maxprocesses 4 --no-loadscope-reorder  # tests/distribution.py says what shares a worker, and the order
UV := $(BIN)/uv
COMPILE := $(UV) pip compile -q $(LOCK) --universal --python-version 3.11 --generate-hashes \
	--no-strip-extras --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock"

.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE  # where it is set, each kernel recompiles the whole stack: ten seconds a stage

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

.PHONY: run
run: $(VENV)/run ## install the environment, and build the pipeline on the bundled book
	@$(BIN)/modelbook build $(RUN)

.PHONY: newest
newest: ## print the newest Python of this machine that has a lock
	@echo "$(NEWEST)"

.PHONY: test
test: $(VENV)/test ## install what tests need, and run the whole suite except integration
	@$(BIN)/python tests/prerequisites.py
	@$(BIN)/pytest $(SIDE) -m "not integration"

.PHONY: test-fast
test-fast: $(VENV)/test ## run the fast tests
	@$(BIN)/pytest $(SIDE) -m "$(FAST)"

.PHONY: test-oldest
test-oldest: $(VENV)/test ## build, serve, monitor and run the tests of make check on the oldest Python of this machine that has a lock, in .venv-oldest
	@if [ "$(call locked-minor,$(OLDEST))" = "$(call locked-minor,$(BIN)/python)" ]; then \
		echo "No older Python to test with: $(VENV) has the oldest of $(PYTHONS) that is installed here"; \
	else $(MAKE) --no-print-directory test-fast PYTHON="$(OLDEST)" VENV=.venv-oldest \
		FAST="every_python or ($(SHORT))"; fi

.PHONY: test-integration
test-integration: $(VENV)/test ## run the tests that install or start Airflow, Spark, Ray, the AWS CLI and the image's environment
	@$(BIN)/python tests/prerequisites.py integration
	@$(BIN)/pytest $(SIDE) -m integration $$(grep -l mark.integration tests/test_*.py)

.PHONY: coverage
coverage: $(VENV)/test ## run both with line and branch coverage, subprocesses and kernels included: htmlcov/index.html; a part: TESTS='-m "not slow"'
	@$(BIN)/python tests/prerequisites.py integration
	@$(BIN)/coverage erase
	@$(BIN)/pytest $(SIDE) $(TESTS) --cov --cov-report=html --cov-report=term

.PHONY: lint
lint: $(VENV)/test ## style, types, and the import order of the packages
	@$(BIN)/ruff check -q . && $(BIN)/ruff format -q --check . && $(BIN)/mypy
	@layers="$$($(BIN)/lint-imports --no-logo)" || { echo "$$layers"; exit 1; }

.PHONY: check
check: $(VENV)/test ## style, types, and the fast tests that take less than a quarter of a second
	@$(MAKE) --no-print-directory lint & lint=$$!; \
		$(BIN)/pytest $(SIDE) -m "$(SHORT)"; tests=$$?; \
		wait $$lint && exit $$tests  # mypy keeps one core busy

.PHONY: setup
setup: $(VENV)/run ## install what runs need; set up kernel, JupyterLab and git's filter
	@$(BIN)/modelbook setup

.PHONY: extras
extras: $(VENV)/run ## install the extras for object stores, PostgreSQL, streams and data versions
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements/extras.txt

.PHONY: engines
engines: $(VENV)/run ## install Dask, Spark and Ray, for work on several machines
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements/engines-hashed.txt

.PHONY: lab
lab: $(VENV)/run ## open JupyterLab at the project; options: make lab LAB="--no-browser --port 8890"
	@$(BIN)/modelbook setup >/dev/null
	@PATH="$(CURDIR)/$(BIN):$$PATH" JUPYTERLAB_WORKSPACES_DIR="$(CURDIR)/$(VENV)/workspaces" $(BIN)/jupyter lab $$(test "$$(id -u)" != 0 || echo --allow-root) $(LAB)

.PHONY: serve
serve: $(VENV)/run ## serve the champion at http://127.0.0.1:8000; options: make serve SERVE="--port 9000 --workers 2"
	@$(BIN)/modelbook serve $(SERVE)

.PHONY: demo
demo: $(VENV)/run ## show the monitor-retrain cycle with a small book in the folder demo/; a few minutes
	@$(BIN)/modelbook demo

.PHONY: mlflow
mlflow: $(VENV)/run ## open the MLflow UI on the project's store, at http://127.0.0.1:5000; options in MLFLOW
	@$(BIN)/python -m modelbook.registry.mlflow_ui $(MLFLOW)

.PHONY: pdf
pdf: $(VENV)/run ## print the reports of the book as PDF, next to their pages; requires Chromium or Chrome
	@$(BIN)/modelbook pdf

.PHONY: site
site: $(VENV)/run ## copy all reports into a folder or a .zip for any web host: make site SITE=site.zip
	@$(BIN)/modelbook site $(SITE)

.PHONY: docs
docs: $(VENV)/docs ## build the documentation as a site, with the reference and the reports of the bundled book: site-docs/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs -q build && echo site-docs/index.html

.PHONY: deploy
deploy: ## deploy: TARGET=kubernetes [OVERLAY=dev] or TARGET=ecs, images of RELEASE=release.env; a dry run without credentials
	@TARGET="$(TARGET)" OVERLAY="$(OVERLAY)" STACK="$(STACK)" DRY="$(DRY)" RELEASE="$(RELEASE)" PARAMETERS="$(PARAMETERS)" deploy/deploy.sh

.PHONY: rehearse
rehearse: $(VENV)/test ## rehearse a release on this machine: tag, deploy to a simulated prod, alert on an injected fault, roll back
	@$(BIN)/python tests/prerequisites.py integration
	@$(BIN)/pytest -q -s --show-capture=no tests/test_release_rehearsal.py

IMAGE_MINOR = $(shell sed -n 's|^ARG BASE=.*/python:\([0-9.]*\).*|\1|p' deploy/Dockerfile)
.PHONY: sbom
sbom: $(VENV)/uv ## list what the images and each Python's lock install, and the service's licences, in deploy/sbom
	@UV="$(CURDIR)/$(UV)" VENV="$(VENV)" deploy/sbom.sh \
		service=serve="$(call find-python,$(IMAGE_MINOR))" stages=extras="$(call find-python,$(IMAGE_MINOR))" \
		$(foreach minor,$(PYTHONS),run-$(minor)=run="$(call find-python,$(minor))")

.PHONY: bench
bench: $(VENV)/test ## measure builds and their overhead, pages, the service compared with other ways to serve, and monitor's detection rates
	@$(BIN)/python benchmarks/build.py
	@$(BIN)/python benchmarks/pages.py
	@$(BIN)/python -W ignore benchmarks/serving.py
	@$(BIN)/python benchmarks/draft.py
	@$(BIN)/python benchmarks/monitor.py
	@$(BIN)/python -W ignore benchmarks/drift.py

.PHONY: lock
lock: $(VENV)/uv ## regenerate the locks from pyproject.toml; with the newest packages it allows: make lock LOCK=--upgrade
	@$(COMPILE) pyproject.toml -o requirements/run.txt
	@$(COMPILE) pyproject.toml $(foreach one,s3 postgres dvc stream delta tracing,--extra $(one)) -c requirements/run.txt -o requirements/extras.txt
	@$(COMPILE) pyproject.toml $(foreach one,dask spark ray,--extra $(one)) -c requirements/run.txt -c requirements/extras.txt -o requirements/engines-hashed.txt
	@sed -n 's/ \\$$//; s/\[[^]]*\]//; /^[#a-z0-9]/p' requirements/engines-hashed.txt >requirements/engines.txt  # constraints for pip
	@$(COMPILE) --group serve -c requirements/extras.txt -o requirements/serve.txt
	@$(COMPILE) --group sbom -o requirements/sbom.txt
	@$(COMPILE) pyproject.toml $(foreach one,s3 postgres dvc stream delta tracing dask spark ray,--extra $(one)) --group test --group docs -c requirements/run.txt -c requirements/extras.txt -c requirements/engines-hashed.txt -o requirements/test.txt
	@$(COMPILE) --group docs -c requirements/test.txt -o requirements/docs.txt
	@echo "uv==$$($(UV) --version | cut -d' ' -f2)" | $(UV) pip compile -q - --universal --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-annotate --custom-compile-command "make lock" -o requirements/uv.txt

.PHONY: clean
clean: clean-reports ## remove reports, intermediate tables and receipts; never registry, journals or history (modelbook reset does)
	@for book in $$(ls models/*/built.json 2>/dev/null | cut -d/ -f2); do \
		find "data/$$book" -type f ! -name 'journal.db*' ! -name labelled.parquet -delete; \
		find "models/$$book" -maxdepth 1 -name '*.json' ! -name retrained.json -delete; done
	@rm -rf models/cache

.PHONY: clean-reports
clean-reports: ## remove the reports, but not the records of runs
	@find reports -type f ! -path 'reports/README.md' ! -path 'reports/*/runs/*' -delete

ifeq ($(origin PYTHON),command line)  # another Python than that of the environment: recreate it
ifneq ($(call locked-minor,$(PYTHON)),$(call locked-minor,$(BIN)/python))
.PHONY: $(VENV)/uv
endif
endif

# The environment, in layers. Each file marks that its layer is installed as its lock states.
$(VENV)/uv: requirements/uv.txt
	@[ "$(call locked-minor,$(PYTHON))" ] || { \
		echo "make: Modelbook needs one of Python $(PYTHONS), found: $$("$(PYTHON)" --version 2>&1)"; \
		echo "  next: install one of them, or name it: make PYTHON=/path/to/python ..."; exit 1; }
	@echo "Making $(VENV) with $$("$(PYTHON)" --version)"
	@[ "$(call locked-minor,$(PYTHON))" = "$(call locked-minor,$(NEWEST))" ] || echo "  newer here: make PYTHON=$(NEWEST) ..."
	@[ "$(call locked-minor,$(PYTHON))" = "$(call locked-minor,$(BIN)/python)" ] || rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV) >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear --without-pip $(VENV)  # Debian's without python3-venv
	@pip="$(BIN)/python -m pip"; $$pip --version >/dev/null 2>&1 || pip="$(PYTHON) -m pip --python $(BIN)/python"; \
		$$pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(VENV)/run: $(VENV)/uv requirements/run.txt pyproject.toml
	@echo "Installing what runs need (a few minutes the first time)"
	@$(UV) pip uninstall --quiet --python $(BIN)/python pycaret 2>/dev/null || true  # of an older .venv: pycaret-core has the same files
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements/run.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/modelbook setup >/dev/null
	@touch $@

$(VENV)/test: $(VENV)/run requirements/test.txt
	@echo "Installing what tests need"
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements/test.txt
	@touch $@

$(VENV)/docs: $(VENV)/run requirements/docs.txt
	@echo "Installing what the site of the documentation needs"
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements/docs.txt
	@touch $@
