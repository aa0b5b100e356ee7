# The same names as run.py has, and what a developer needs besides. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help run demo test containers faults chaos mutants mutation coverage fuzz check format lock matrix foreign-beat celery-suite bench bench-quick bench-chaos bench-venv

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Start everything; Ctrl-C stops it
	python3 run.py

demo: ## Place one order and show what became of each of its tasks
	python3 run.py demo

test: ## Run the suite; ARGS="-k checkout" goes to pytest
	python3 run.py test $(ARGS)

containers: ## Build the image, kill containers of the compose stack and of pytest-celery; needs a Docker engine
	python3 run.py test -n 0 tests/containers $(ARGS)

faults: ## Show every fault of docs/reference/faults.md; DATABASE_URL names a PostgreSQL, ARGS="-k F23" one fault
	python3 run.py test -n 0 -s -m "(fault or slow_fault) and not chaos" $(ARGS)

chaos: ## Break everything at random for MINUTES=10, by SEED=7; needs a PostgreSQL, named by DATABASE_URL
	CHAOS_SEED=$(or $(SEED),1) CHAOS_MINUTES=$(or $(MINUTES),2) python3 run.py test -n 0 -s -m chaos tests/faults/test_chaos.py

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

foreign-beat: ## Run django-celery-beat's own tests, plain and beside the package
	.venv/bin/python -m tests.package.foreign_beat

celery-suite: ## Run Celery's own tests of tasks, plain and durable; ARGS="plain -k retry"; DATABASE_URL may name a PostgreSQL
	.venv/bin/python -m tests.package.celery_suite $(ARGS)

coverage: ## Name the lines of celery_ledger, worker and store that no test runs; needs a PostgreSQL, named by DATABASE_URL
	python3 run.py test --cov=celery_ledger --cov=worker --cov=store $(ARGS)

fuzz: ## Hold the API to its OpenAPI document with 20,000 cases and more
	DEBUG=1 FUZZ_CASES=$(or $(CASES),500) FUZZ_PATH=$(ONLY) .venv/bin/python -m pytest -q -s tests/fuzz

check: ## Format, lint, types, import contracts, migrations, deployment checks
	.ci/check

format: ## Have ruff put all files into form
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

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
