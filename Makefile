# The same names as run.py has, and what a developer needs besides. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help run demo test containers faults chaos mutants mutation coverage canvas-fire fuzz docs screenshots prose check format lock matrix upgrade harness foreign foreign-live foreign-beat foreign-results django-suite wagtail celery-suite desk-speed bench bench-quick bench-chaos bench-canvas bench-cliffs bench-venv

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Start everything; Ctrl-C stops it
	python3 run.py

demo: ## Place one order and show the outcome of each of its tasks
	python3 run.py demo

test: ## Run the suite; ARGS="-k checkout" goes to pytest
	python3 run.py test $(ARGS)

containers: ## Build the image, kill containers of the compose stack and of pytest-celery; needs a Docker engine
	python3 run.py test -n 0 tests/containers $(ARGS)

faults: ## Show every fault of docs/reference/faults.md; DATABASE_URL names a PostgreSQL, ARGS="-k F23" one fault
	python3 run.py test -n 0 -s -m "(fault or slow_fault) and not chaos" $(ARGS)

chaos: ## Break everything at random for MINUTES=10, by SEED=7; needs a PostgreSQL, named by DATABASE_URL
	CHAOS_SEED=$(or $(SEED),1) CHAOS_MINUTES=$(or $(MINUTES),2) python3 run.py test -n 0 -s -m chaos tests/faults/test_chaos.py

.PHONY: drill-poolers drill-failover drill-brokers drill-partitions drill-clocks drill-snapshots drill-old drill-round-trips manifests
drill-snapshots: ## What a claim costs under a transaction that stays open; ROWS=600000 is ten minutes of a thousand a second
	python3 run.py test -n 0 -s -m drill tests/drills/test_snapshots.py $(ARGS)

drill-old: ## An old ledger: STAGES="fill compare prune snapshot week"; DATABASE_URL names a PostgreSQL database that ends in _large and may be emptied
	.venv/bin/python -m tests.drills.old $(or $(STAGES),fill compare prune snapshot week)

drill-round-trips: ## What an order costs workers and relay in round trips, by statement; needs PostgreSQL's binaries
	python3 run.py test -n 0 -s -m drill tests/drills/test_round_trips.py $(ARGS)

manifests: ## Hold the manifests for Kubernetes against its schemas; in a virtual environment of its own
	test -x .venv-manifests/bin/kubernetes-validate || (python3 -m venv .venv-manifests && .venv-manifests/bin/pip install -q kubernetes-validate)
	.venv-manifests/bin/kubernetes-validate $(filter-out deploy/kubernetes/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml))

drill-partitions: ## Two hosts, as network namespaces, cut off from each other for a minute; needs root and PostgreSQL's binaries
	python3 run.py test -n 0 -s -m drill tests/drills/test_partitions.py $(ARGS)

drill-clocks: ## Web, relays and workers whose clocks are thirty seconds ahead and behind; needs a C compiler and PostgreSQL
	python3 run.py test -n 0 -s -m drill tests/drills/test_clocks.py $(ARGS)

drill-brokers: ## A Redis that fails over by Sentinels, a RabbitMQ cluster that loses a node, a slow mail server; needs PostgreSQL
	python3 run.py test -n 0 -s -m drill tests/drills/test_brokers.py $(ARGS)

drill-failover: ## A primary that dies, a standby that is away, a network that is cut; needs haproxy and PostgreSQL's binaries
	python3 run.py test -n 0 -s -m drill tests/drills/test_failover.py $(ARGS)

drill-poolers: ## PgBouncer before web, workers and relays, restarted under load; needs pgbouncer and PostgreSQL's binaries
	python3 run.py test -n 0 -s -m drill tests/drills/test_poolers.py $(ARGS)

canvas-fire: ## Run COUNT=200 chords, chains and nestings under a kill a second and three empty brokers, and plain Celery's; DATABASE_URL names a PostgreSQL
	FIRE_COUNT=$(or $(COUNT),200) FIRE_MEMBERS=$(or $(MEMBERS),50) FIRE_KILLS=100000 FIRE_PAUSE=1 FIRE_SEED=$(or $(SEED),1) \
	python3 run.py test -n 0 -s --timeout 7200 tests/faults/test_canvas.py -k f171
	DEBUG=1 FIRE_COUNT=$(or $(COUNT),200) FIRE_MEMBERS=$(or $(MEMBERS),50) FIRE_PAUSE=1 FIRE_SEED=$(or $(SEED),1) \
	.venv/bin/python -m tests.plain_canvas

bench-cliffs: ## Ordinary tasks on hot rows, among failing and slow ones, of many names, and behind a backlog; BENCH_DATABASE and BENCH_REDIS may be emptied
	.venv/bin/python -m bench.cliffs $(ARGS)

bench-canvas: ## What chords cost, and how long chains and chords grow; BENCH_DATABASE and BENCH_REDIS may be emptied
	.venv/bin/python -m bench.canvases

mutants: ## Take guards away and see their tests fail; needs a PostgreSQL, named by DATABASE_URL
	.venv/bin/python -m tests.mutants $(ARGS)

mutation: ## Change ledger and consumer in every small way and name what no test notices; in a copy, half an hour
	test -x .venv-mutation/bin/cosmic-ray || (python3 -m venv .venv-mutation && .venv-mutation/bin/pip install -q cosmic-ray==8.7.0)
	rm -rf var/mutation && git clone -q . var/mutation
	cd var/mutation && export DEBUG=1 DATABASE_URL=sqlite:///$$PWD/mutation.sqlite3 PATH=$$PWD/../../.venv-mutation/bin:$$PATH && \
	cosmic-ray init tests/mutation.toml session.sqlite && cr-filter-operators session.sqlite tests/mutation.toml && \
	cosmic-ray exec tests/mutation.toml session.sqlite && cr-report --surviving-only --show-diff session.sqlite

matrix: ## Test the package on every Python, Django, Celery, database and broker that it names; ARGS="-s ledger"; needs a PostgreSQL and RabbitMQ
	test -x .venv-nox/bin/nox || (python3 -m venv .venv-nox && .venv-nox/bin/pip install -q nox==2026.10.20)
	rm -rf var/matrix
	.venv-nox/bin/nox $(ARGS)

foreign-beat: ## Run django-celery-beat's own tests, plain and alongside the package
	.venv/bin/python -m tests.package.foreign_beat

foreign-results: ## Run django-celery-results' own tests, plain and alongside the package; needs a PostgreSQL at localhost
	.venv/bin/python -m tests.package.foreign_results

upgrade: ## Have a project go from an earlier version to this one with work in flight: BEFORE=a-commit
	PACKAGE_BEFORE=$(BEFORE) python3 run.py test -n 0 -s tests/package/test_upgrade.py

harness: ## Have due-work-harness judge the package, and plain Celery; needs Python 3.12 and a PostgreSQL, named by DATABASE_URL
	.venv/bin/python -m tests.package.harness

foreign: ## Run a public project's own tests, plain and with the package: PROJECT=bookwyrm SOURCE=a-clone PYTHON=an-interpreter; see examples/foreign
	.venv/bin/python -m tests.package.foreign $(PROJECT) --source $(SOURCE) --python $(PYTHON) -- $(ARGS)

django-suite: ## Run Django's own tests of tasks, with its backends and with the ledger's; needs Python 3.12 and 3.13
	.venv/bin/python -m tests.package.django_suite

foreign-live: ## Take two tasks of a public project through a rollback, a commit, a kill -9 and a flushed broker: as `make foreign`
	.venv/bin/python -m tests.package.foreign_live $(PROJECT) --source $(SOURCE) --python $(PYTHON)

wagtail: ## Have a Wagtail site's tasks run on the ledger; needs Python 3.12 and a PostgreSQL, named by DATABASE_URL
	PACKAGE_WAGTAIL=1 python3 run.py test -n 0 -s tests/package/test_wagtail.py

celery-suite: ## Run Celery's own tests of tasks and canvas, plain and durable; ARGS="tasks" names a file; DATABASE_URL may name a PostgreSQL
	.venv/bin/python -m tests.package.celery_suite $(ARGS)

coverage: ## Name the lines of celery_ledger, worker and store that no test runs; needs a PostgreSQL, named by DATABASE_URL
	python3 run.py test --cov=celery_ledger --cov=worker --cov=store $(ARGS)

fuzz: ## Hold the API to its OpenAPI document with 20,000 cases and more
	DEBUG=1 FUZZ_CASES=$(or $(CASES),500) FUZZ_PATH=$(ONLY) .venv/bin/python -m pytest -q -s tests/fuzz

docs: ## Build the documentation as a site, var/site/VERSION/ (VERSION=dev); a warning is an error
	test -x .venv-docs/bin/python || python3 -m venv .venv-docs
	.venv-docs/bin/pip install -q --require-hashes -r requirements-docs.txt
	mkdir -p var/site/$(or $(VERSION),dev)
	DOCS_VERSION=$(or $(VERSION),dev) DOCS_VERSIONS="$$(cd var/site && ls -d */ | tr -d /)" \
	.venv-docs/bin/sphinx-build -W --keep-going -q -j auto -c docs/site -d var/doctrees . var/site/$(or $(VERSION),dev)
	echo '<meta http-equiv="refresh" content="0; url=$(or $(VERSION),dev)/">' > var/site/index.html
	@echo "Open var/site/index.html."

screenshots: ## Draw the pictures of docs/screenshots and docs/reference/mails again; needs Chromium
	SCREENSHOTS=docs/screenshots python3 run.py test -n 0 tests/browser/test_looks.py
	.venv/bin/python -m tests.mail_pictures

prose: ## Check what people read against .ci/phrases.toml; ARGS="docs/runbook.md" names files
	.venv/bin/python -m tests.prose $(ARGS)

check: ## Format, lint, types, import contracts, prose, migrations, deployment checks
	.ci/check

format: ## Have ruff put all files into form
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

desk-speed: ## How long each call of the desk takes at ten million rows; DATABASE_URL names a database that ends in _large
	.venv/bin/python -m tests.desk_speed

bench: bench-venv ## Measure this project and its peers side by side; ARGS="--rounds 3"; see bench/README.md
	.venv-bench/bin/python -m bench $(ARGS)

bench-quick: bench-venv ## Prove in a minute that the bench runs
	.venv-bench/bin/python -m bench --quick

bench-chaos: bench-venv ## Kill this project and its peers alike, and count what is left; ARGS="--seed 7"
	.venv-bench/bin/python -m bench.chaos $(ARGS)

bench-venv:
	test -x .venv-bench/bin/python || python3 -m venv .venv-bench
	.venv-bench/bin/pip install -q --require-hashes -r requirements.txt
	.venv-bench/bin/pip install -q -r bench/requirements.txt

lock: ## Pin the requirements anew
	.venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -o requirements.txt requirements.in
	.venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -c requirements.txt -o requirements-dev.txt requirements-dev.in
	.venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url -c requirements.txt -o requirements-docs.txt requirements-docs.in
	echo uv | .venv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -c requirements-dev.txt -o requirements-uv.txt -
