# The same names as run.py has, and what a developer needs besides. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help run demo test containers faults chaos mutants mutation coverage canvas-fire fuzz docs screenshots prose check format lock matrix upgrade harness foreign foreign-live foreign-beat foreign-results django-suite wagtail celery-suite desk-speed bench bench-quick bench-chaos bench-canvas bench-cliffs bench-venv

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Start everything; Ctrl-C stops it
	python3 run.py

demo: ## Place one order and show the outcome of each of its tasks
	python3 run.py demo

test: ## Run the suite; ARGS="-k checkout" goes to pytest
	python3 run.py test $(ARGS)

containers: ## Build the image, and kill containers of the compose stack and of pytest-celery; needs a Docker engine
	python3 run.py test -n 0 tests/containers $(ARGS)

faults: ## Reproduce every fault of docs/reference/faults.md; DATABASE_URL names a PostgreSQL, ARGS="-k F23" one fault
	python3 run.py test -n 0 -s -m "(fault or slow_fault) and not chaos" $(ARGS)

chaos: ## Inject random faults for MINUTES=10 with SEED=7; needs a PostgreSQL, named by DATABASE_URL
	CHAOS_SEED=$(or $(SEED),1) CHAOS_MINUTES=$(or $(MINUTES),2) python3 run.py test -n 0 -s -m chaos tests/faults/test_chaos.py

.PHONY: drill-poolers drill-failover drill-brokers drill-partitions drill-clocks drill-snapshots drill-round-trips drill-distance drill-rolling drill-wide drill-old manifests
drill-wide: ## Run the ledger on two PostgreSQL servers held to a share of CPU, and take one of them away; needs root and its binaries
	python3 run.py test -n 0 -s -m drill tests/drills/test_wide.py $(ARGS)

drill-old: ## Measure an old ledger: STAGES="fill compare prune snapshot week"; DATABASE_URL names a PostgreSQL database that ends in _large and may be emptied
	.venv/bin/python -m tests.drills.old $(or $(STAGES),fill compare prune snapshot week)

drill-snapshots: ## Measure a claim while a transaction stays open; ROWS=600000 is ten minutes of a thousand a second
	python3 run.py test -n 0 -s -m drill tests/drills/test_snapshots.py $(ARGS)

drill-round-trips: ## Count the round trips of workers and relay per order, by statement; needs PostgreSQL's binaries
	python3 run.py test -n 0 -s -m drill tests/drills/test_round_trips.py $(ARGS)

drill-distance: ## Put twenty milliseconds between the processes and their database and broker; needs PostgreSQL's binaries
	python3 run.py test -n 0 -s -m drill tests/drills/test_distance.py $(ARGS)

drill-rolling: ## Update the compose stack, two of each process, under load; needs a Docker engine and haproxy
	python3 run.py test -n 0 -s -m drill tests/drills/test_rolling.py $(ARGS)

manifests: ## Validate the Kubernetes manifests against its schemas, in a separate virtual environment
	test -x .venv-manifests/bin/kubernetes-validate || (python3 -m venv .venv-manifests && .venv-manifests/bin/pip install -q kubernetes-validate)
	.venv-manifests/bin/kubernetes-validate $(filter-out deploy/kubernetes/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml))

drill-partitions: ## Disconnect two hosts (network namespaces) for a minute; needs root and PostgreSQL's binaries
	python3 run.py test -n 0 -s -m drill tests/drills/test_partitions.py $(ARGS)

drill-clocks: ## Run web, relays and workers with clocks thirty seconds ahead and behind; needs a C compiler and PostgreSQL
	python3 run.py test -n 0 -s -m drill tests/drills/test_clocks.py $(ARGS)

drill-brokers: ## Fail over a Redis by Sentinels, lose a node of a RabbitMQ cluster, slow down the mail server; needs PostgreSQL
	python3 run.py test -n 0 -s -m drill tests/drills/test_brokers.py $(ARGS)

drill-failover: ## Kill a primary, take a standby away, cut the network; needs haproxy and PostgreSQL's binaries
	python3 run.py test -n 0 -s -m drill tests/drills/test_failover.py $(ARGS)

drill-poolers: ## Run web, workers and relays behind PgBouncer, and restart it under load; needs pgbouncer and PostgreSQL's binaries
	python3 run.py test -n 0 -s -m drill tests/drills/test_poolers.py $(ARGS)

canvas-fire: ## Run COUNT=200 chords and chains and NESTINGS=40, durable and plain, with a kill per second and three flushed brokers; DATABASE_URL names a PostgreSQL
	FIRE_COUNT=$(or $(COUNT),200) FIRE_NESTINGS=$(or $(NESTINGS),40) FIRE_MEMBERS=$(or $(MEMBERS),50) FIRE_KILLS=100000 FIRE_PAUSE=1 FIRE_SEED=$(or $(SEED),1) \
	python3 run.py test -n 0 -s --timeout 7200 tests/faults/test_canvas.py -k f171
	DEBUG=1 FIRE_COUNT=$(or $(COUNT),200) FIRE_NESTINGS=$(or $(NESTINGS),40) FIRE_MEMBERS=$(or $(MEMBERS),50) FIRE_PAUSE=1 FIRE_SEED=$(or $(SEED),1) \
	.venv/bin/python -m tests.plain_canvas

bench-cliffs: ## Measure ordinary tasks on hot rows, among failing and slow ones, of many names, and behind a backlog; BENCH_DATABASE and BENCH_REDIS may be emptied
	.venv/bin/python -m bench.cliffs $(ARGS)

bench-canvas: ## Measure the cost of chords, and of long chains and chords; BENCH_DATABASE and BENCH_REDIS may be emptied
	.venv/bin/python -m bench.canvases

mutants: ## Remove each guard and check that its test fails; needs a PostgreSQL, named by DATABASE_URL
	.venv/bin/python -m tests.mutants $(ARGS)

mutation: ## List small changes of ledger and consumer that no test notices; works in a copy, takes half an hour
	test -x .venv-mutation/bin/cosmic-ray || (python3 -m venv .venv-mutation && .venv-mutation/bin/pip install -q cosmic-ray==8.7.0)
	rm -rf var/mutation && git clone -q . var/mutation
	cd var/mutation && export DEBUG=1 DATABASE_URL=sqlite:///$$PWD/mutation.sqlite3 PATH=$$PWD/../../.venv-mutation/bin:$$PATH && \
	cosmic-ray init tests/mutation.toml session.sqlite && cr-filter-operators session.sqlite tests/mutation.toml && \
	cosmic-ray exec tests/mutation.toml session.sqlite && cr-report --surviving-only --show-diff session.sqlite

matrix: ## Test the package on all supported versions of Python, Django, Celery, databases and brokers; ARGS="-s ledger"; needs a PostgreSQL and RabbitMQ
	test -x .venv-nox/bin/nox || (python3 -m venv .venv-nox && .venv-nox/bin/pip install -q nox==2026.10.20)
	rm -rf var/matrix
	.venv-nox/bin/nox $(ARGS)

foreign-beat: ## Run django-celery-beat's own tests, plain and alongside the package
	.venv/bin/python -m tests.package.foreign_beat

foreign-results: ## Run django-celery-results' own tests, plain and alongside the package; needs a PostgreSQL at localhost
	.venv/bin/python -m tests.package.foreign_results

upgrade: ## Upgrade a project from an earlier version with tasks in flight: BEFORE=a-commit
	PACKAGE_BEFORE=$(BEFORE) python3 run.py test -n 0 -s tests/package/test_upgrade.py

harness: ## Run due-work-harness on the package and on plain Celery; needs Python 3.12 and a PostgreSQL, named by DATABASE_URL
	.venv/bin/python -m tests.package.harness

foreign: ## Run a public project's own tests, plain and with the package: PROJECT=bookwyrm SOURCE=a-clone PYTHON=an-interpreter; see examples/foreign
	.venv/bin/python -m tests.package.foreign $(PROJECT) --source $(SOURCE) --python $(PYTHON) -- $(ARGS)

django-suite: ## Run Django's own tests of tasks, with its backends and with the ledger's; needs Python 3.12 and 3.13
	.venv/bin/python -m tests.package.django_suite

foreign-live: ## Take two tasks of a public project through a rollback, a commit, a kill -9 and a flushed broker: as `make foreign`
	.venv/bin/python -m tests.package.foreign_live $(PROJECT) --source $(SOURCE) --python $(PYTHON)

wagtail: ## Run a Wagtail site's tasks on the ledger; needs Python 3.12 and a PostgreSQL, named by DATABASE_URL
	PACKAGE_WAGTAIL=1 python3 run.py test -n 0 -s tests/package/test_wagtail.py

celery-suite: ## Run Celery's own tests of tasks and canvas, plain and durable; ARGS="tasks" names a file; DATABASE_URL may name a PostgreSQL
	.venv/bin/python -m tests.package.celery_suite $(ARGS)

coverage: ## List the lines of celery_ledger, worker and store that no test runs; needs a PostgreSQL, named by DATABASE_URL
	python3 run.py test --cov=celery_ledger --cov=worker --cov=store $(ARGS)

fuzz: ## Fuzz the API against its OpenAPI document with over 20,000 cases
	DEBUG=1 FUZZ_CASES=$(or $(CASES),500) FUZZ_PATH=$(ONLY) .venv/bin/python -m pytest -q -s tests/fuzz

docs: ## Build the documentation as a site, var/site/VERSION/ (VERSION=dev); a warning is an error
	test -x .venv-docs/bin/python || python3 -m venv .venv-docs
	.venv-docs/bin/pip install -q --require-hashes -r requirements-docs.txt
	mkdir -p var/site/$(or $(VERSION),dev)
	DOCS_VERSION=$(or $(VERSION),dev) DOCS_VERSIONS="$$(cd var/site && ls -d */ | tr -d /)" \
	.venv-docs/bin/sphinx-build -W --keep-going -q -j auto -c docs/site -d var/doctrees . var/site/$(or $(VERSION),dev)
	echo '<meta http-equiv="refresh" content="0; url=$(or $(VERSION),dev)/">' > var/site/index.html
	@echo "Open var/site/index.html."

screenshots: ## Take the pictures of docs/screenshots and docs/reference/mails again; needs Chromium
	SCREENSHOTS=docs/screenshots python3 run.py test -n 0 tests/browser/test_looks.py
	.venv/bin/python -m tests.mail_pictures

prose: ## Check what people read against .ci/phrases.toml; ARGS="docs/runbook.md" names files
	.venv/bin/python -m tests.prose $(ARGS)

check: ## Format, lint, types, import contracts, prose, migrations, deployment checks
	.ci/check

format: ## Format all files with ruff
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

desk-speed: ## Measure each call of the desk with ten million rows; DATABASE_URL names a database that ends in _large
	.venv/bin/python -m tests.desk_speed

bench: bench-venv ## Measure this project and its peers side by side; ARGS="--rounds 3"; see bench/README.md
	.venv-bench/bin/python -m bench $(ARGS)

bench-quick: bench-venv ## Check in a minute that the bench runs
	.venv-bench/bin/python -m bench --quick

bench-chaos: bench-venv ## Kill processes of this project and its peers, and count lost and duplicate effects; ARGS="--seed 7"
	.venv-bench/bin/python -m bench.chaos $(ARGS)

bench-venv:
	test -x .venv-bench/bin/python || python3 -m venv .venv-bench
	.venv-bench/bin/pip install -q --require-hashes -r requirements.txt
	.venv-bench/bin/pip install -q -r bench/requirements.txt

lock: ## Pin the requirements again
	.venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -o requirements.txt requirements.in
	.venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -c requirements.txt -o requirements-dev.txt requirements-dev.in
	.venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -c requirements.txt -o requirements-docs.txt requirements-docs.in
	echo uv | .venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -c requirements-dev.txt -o requirements-uv.txt -
