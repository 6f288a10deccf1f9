# The verbs of the README; `make` alone lists them.

PYTHON    ?= python3.11
HOST      ?= 127.0.0.1
PORT      ?= 8000
ARTIFACTS ?= artifacts
RUNS      ?= runs

DEMO    := vae-digits gan-digits flow-digits flow-moons
VENV    := .venv
BIN     := $(VENV)/bin
PIP     := $(BIN)/pip --disable-pip-version-check install -qq -c constraints.txt
RUNTIME := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)

# A model is finished when one of its versions has a manifest: export writes it last.
MISSING = $(strip $(foreach name,$(DEMO),$(if $(wildcard $(ARTIFACTS)/$(name)/*/manifest.json),,$(name))))

# What Kubernetes knows by itself; and custom resources, each in a file that is called as its schema.
MANIFESTS  = $(shell find deploy/kubernetes deploy/kserve -name '*.yaml' ! -name kustomization.yaml | xargs grep -l '^kind:')
CUSTOM     = $(foreach schema,$(wildcard deploy/schemas/*.json),$(filter %/$(basename $(notdir $(schema))).yaml,$(MANIFESTS)))
CORE       = $(filter-out $(CUSTOM),$(MANIFESTS))

INSTALLED := $(VENV)/installed-$(RUNTIME)
TESTABLE  := $(VENV)/testable-$(RUNTIME)
KSERVE    := $(VENV)/kserve
OTHER      = $(filter-out $(INSTALLED),$(wildcard $(VENV)/installed-*))

# As root on Debian, install the programs that are missing; the second argument says what follows where that fails.
define DEBIAN
missing="$$(for s in $(1); do command -v $$s >/dev/null || printf '%s ' $$s; done)"; \
if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
  echo "→ Installing $$missing"; \
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing; } \
    >/dev/null 2>&1 || echo "  could not: $$missing; $(2)"; \
fi
endef

.DEFAULT_GOAL := help
.PHONY: help serve test chaos soak check train bench bench-peers docs clean demo servers load

help: ## list these verbs
	@echo "Pushforward: train generative models, export them, serve them."; echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | awk -F@ '{printf "%-18s %s\n", $$1, $$2}'
	@echo; echo "Settings: HOST=$(HOST) PORT=$(PORT) ARTIFACTS=$(ARTIFACTS) RUNS=$(RUNS) PYTHON=$(PYTHON)"

serve: demo ## train the demo models that are missing, then serve on HOST:PORT
	@echo "→ Serving $(ARTIFACTS) on http://$(HOST):$(PORT) (Ctrl-C drains and stops)"
	@exec $(BIN)/python -m service --host $(HOST) --port $(PORT) --artifacts $(ARTIFACTS)

test: check servers ## run the checks and every test that this machine can run
	@echo "→ Testing"
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

chaos: $(TESTABLE) servers ## every scenario in which something goes wrong while callers call, by name
	@echo "→ Making things go wrong (a quarter of an hour)"
	@OMP_NUM_THREADS=1 $(BIN)/pytest -v -s -m chaos

soak: $(TESTABLE) servers ## half an hour of mixed traffic with a fault every minute; every answer is checked
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.load.soak

check: $(TESTABLE) ## format, lint, types, import contracts, deploy files
	@echo "→ Checking"
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo >$(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }
	@$(BIN)/yamllint --strict *.yml .*.yaml deploy
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	@$(BIN)/kubernetes-validate --strict --quiet --kubernetes-version 1.37 $(CORE)
	@$(foreach schema,$(notdir $(basename $(wildcard deploy/schemas/*.json))),$(BIN)/check-jsonschema --quiet \
	  --schemafile deploy/schemas/$(schema).json $(filter %/$(schema).yaml,$(CUSTOM)) &&) :
	@echo "  format, lint, types, imports and deploy files are in order"

train: $(INSTALLED) ## train, evaluate and export one recipe: make train RECIPE=flow-digits [DATA=path]
	@$(if $(RECIPE),,$(BIN)/python -m training list; echo; echo "make: name one, such as make train RECIPE=flow-digits"; exit 2)
	@$(BIN)/python -m training run $(RECIPE) --runs $(RUNS) --artifacts $(ARTIFACTS) --export --resume $(if $(DATA),--data $(DATA))

bench: $(INSTALLED) load ## this service, a naive route and the bare graph, side by side in one run
	@$(BIN)/python -m benchmarks --write

bench-peers: $(INSTALLED) load ## the same and mosec, LitServe, BentoML and Ray Serve, each in an environment of its own
	@$(BIN)/python -m benchmarks.install
	@$(BIN)/python -m benchmarks --servers 'ours,naive,bare,mosec-*,litserve-*,bentoml-*,ray-*' --write

docs: $(TESTABLE) ## build the documentation into docs/_build/html, where a warning is an error
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs docs/_build/html
	@echo "→ docs/_build/html/index.html"

clean: ## remove the environment and the caches; runs and artifacts stay
	rm -rf $(VENV) build dist docs/_build docs/reference *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find models service training tests benchmarks clients -name __pycache__ -prune -exec rm -rf {} +

# --- what the verbs stand on -------------------------------------------------------------------------------

$(BIN)/pip:
	@$(PYTHON) -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null || { \
	  echo "make: '$(PYTHON)' does not run here, or lacks venv. Pushforward needs Python 3.11 to 3.13 with venv"; \
	  echo "      (on Debian: apt-get install python3.11-venv); another one is named by make PYTHON=python3.12."; exit 1; }
	@echo "→ Making an environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# The two runtimes write the same files, so an environment that had the other one loses it first.
$(INSTALLED): $(BIN)/pip pyproject.toml clients/python/pyproject.toml constraints.txt
	@echo "→ Installing what serving and training need, for the $(RUNTIME) (a minute or two)"
	@$(if $(OTHER),$(BIN)/pip uninstall -qq -y onnxruntime onnxruntime-gpu && rm -f $(VENV)/installed-* $(VENV)/testable-*,:)
	@$(PIP) -e ".[$(RUNTIME),train]" -e 'clients/python[cli]'
	@touch $@

$(TESTABLE): $(INSTALLED) $(KSERVE)
	@echo "→ Installing what testing needs"
	@$(PIP) -e ".[$(RUNTIME),train,ray,otel,dev]"
	@touch $@

# KServe's client wants an older protobuf than ours, so it lies beside the packages, not among them.
$(KSERVE): tests/e2e/kserve.txt | $(INSTALLED)
	@echo "→ Installing KServe's client, to test with"
	@rm -rf $@
	@$(BIN)/pip --disable-pip-version-check install -qq --no-deps --no-compile --target $@ -r tests/e2e/kserve.txt
	@touch $@

demo: $(INSTALLED)
	@$(if $(MISSING),echo "→ Training $(MISSING); this happens once",:)
	@$(if $(MISSING),$(BIN)/python -m training run $(MISSING) --runs $(RUNS) --artifacts $(ARTIFACTS) --export --resume,:)

# Tests that need a server which is not here say so and are left out; under CI=true that is a failure.
servers:
	@$(call DEBIAN,redis-server prometheus chromium,the tests that need them are left out)

# What makes the load of the benchmarks, which say what to do where it is missing.
load:
	@$(call DEBIAN,wrk,nothing can be measured)
