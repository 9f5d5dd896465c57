# Everything a person does here; `make` lists it.
export DAGSTER_HOME := $(CURDIR)/.dagster
export DAGSTER_DISABLE_TELEMETRY := 1
VENV := .venv
BIN := $(VENV)/bin
PATH := $(CURDIR)/$(BIN):$(PATH)
PYTHONS ?= python3.13 python3.12 python3.11 python3.10 python3
# One line for each table as it is built; what dbt says of failures at its end is kept for the end of ours.
SHORT_OUTPUT := { gsub(/\033\[[0-9;]*m/, "") } / START | PASS | OK hook/ { next } /^Completed with/ { ended = hidden = 1 } \
    /^Traceback/ { ended = hidden = 1 } /^Failure in/ { hidden = 0 } /^(Warning in|Done)/ { hidden = 1 } \
    !ended { print; fflush() } ended && !hidden { print >".dagster/failures" }
IS_SUPPORTED := import sys, venv, ensurepip; raise SystemExit(not (3, 10) <= sys.version_info < (3, 14))

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/installed .dagster/dagster.yaml  ## Make the environment (.venv)

$(VENV)/installed: requirements.lock
	@rm -rf $(VENV)
	@echo "Installing into $(VENV) (a minute or two) ..."
	@if command -v uv >/dev/null; then \
	    uv venv --quiet --python '>=3.10,<3.14' $(VENV) && \
	    uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock; \
	else \
	    for python in $(PYTHONS); do \
	        "$$python" -c "$(IS_SUPPORTED)" 2>/dev/null && break; python=; \
	    done; \
	    [ -n "$$python" ] || { echo "No Python 3.10 to 3.13 with venv was found: install one (on Debian python3 and python3-venv), or uv." >&2; exit 1; }; \
	    "$$python" -m venv $(VENV) && \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; \
	fi
	@touch $@

.dagster/dagster.yaml:
	@mkdir -p .dagster && ln -sf ../orchestration/dagster.yaml $@

# Without LANDING_DIR the sample deliveries are the landing folder; a folder that is there already is left as it is.
deliveries-landed: setup
	@[ -n "$$LANDING_DIR" ] || [ -e landing ] || cp -R seeds/landing landing

manifest: setup
	@dbt --quiet parse

run: deliveries-landed manifest  ## Build everything that is new through Dagster, and say what came of it
	@echo "Building from $${LANDING_DIR:-landing} into $${WAREHOUSE_PATH:-warehouse.duckdb} (Dagster's log: .dagster/run.log) ..."
	@: >.dagster/failures
	@{ dagster job execute -f orchestration/definitions.py -j refresh 2>.dagster/run.log; echo $$? >.dagster/status; } \
	    | awk '$(SHORT_OUTPUT)'
	@dbt --quiet run-operation summary
	@if [ "$$(cat .dagster/status)" = 0 ]; then \
	    echo 'Next: `make query` asks the marts, `make dev` opens Dagster, `make docs` what each table means.'; \
	else \
	    cat .dagster/failures; echo "The run failed: what is named above, and what depends on it, is as its last good build left it."; exit 1; \
	fi

dev: deliveries-landed  ## Open Dagster's UI, with its daemon, on http://127.0.0.1:3000
	dagster dev -h 127.0.0.1 -f orchestration/definitions.py

docs: deliveries-landed  ## Open the documentation of the tables on http://127.0.0.1:8080
	dbt docs generate && dbt docs serve --host 127.0.0.1

query: setup  ## Ask the marts of the last whole build, also during one: SQL="select * from marts.fct_orders"
	@python -c "$$QUERY"

define QUERY
import os, sys, duckdb
marts = os.environ.get("WAREHOUSE_PATH", "warehouse.duckdb").removesuffix(".duckdb") + "_marts.duckdb"
if not os.path.isfile(marts):
    sys.exit(f"{marts} is not there yet: `make run` makes it.")
tables = "select schema_name || '.' || table_name as table, estimated_size as rows from duckdb_tables() where schema_name <> 'main' order by 1"
try:
    print(duckdb.connect(marts, read_only=True).sql(os.environ.get("SQL") or tables))
except duckdb.Error as error:
    sys.exit(str(error))
endef
export QUERY

why: setup  ## Explain the newest incident, also during a build: RUN=id of Dagster's run, JSON=1 for machines
	@python transform/macros/engine/why.py $(if $(RUN),--run $(RUN)) $(if $(JSON),--json)

test: setup  ## Run every test
	pytest

pictures: setup  ## Take the README's pictures anew, with the package chromium
	PICTURES=tests/pictures pytest --numprocesses 0 tests/test_browser.py

soak: setup  ## Try to break it for as long as you like: MINUTES=60 SEED=number (a seed tells the same stories again)
	SOAK_MINUTES=$(or $(MINUTES),60) $(if $(SEED),SOAK_SEED=$(SEED)) pytest --dist load tests/test_paths.py tests/test_same_tables.py tests/test_drills.py tests/test_kills.py tests/test_readers.py

BENCH = BENCH_COMMAND="make $@$(if $(ROWS), ROWS='$(ROWS)')" python bench/bench.py
BENCH_OPTIONS = $(if $(ROWS),--rows $(ROWS)) $(if $(OUT),--out $(OUT))

bench: setup  ## Measure how fast it is, in half an hour, into bench/RESULTS.md; ROWS="first_build retry" measures only these
	@$(BENCH) full $(BENCH_OPTIONS) $(if $(OUT)$(ROWS),,--out bench/RESULTS.md)

bench-quick: setup  ## The same with small sizes, in minutes; OUT=file keeps the table
	@$(BENCH) quick $(BENCH_OPTIONS)

boundary: manifest  ## Check that orchestration sequences work and means nothing, and that models listen to nothing
	@python -m boundary orchestration
	@if python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; \
	then COLUMNS=160 dbt-bouncer run --config-file boundary/dbt-bouncer.yml; \
	else echo "The models are not checked: dbt-bouncer needs Python 3.11 or later."; fi

graph: manifest  ## Print what runs when and what depends on what, and write it to orchestration/GRAPH.md
	@python boundary/graph.py orchestration/GRAPH.md 2>.dagster/graph.log || { tail -1 .dagster/graph.log >&2; exit 1; }

lint: setup  ## Check the style of the Python and SQL code
	ruff check . && ruff format --check . && sqlfluff lint transform/models cleanup_models/models tests/data

deliveries: setup  ## Make deliveries: DAYS=10 ORDERS=1000 (order changes a day) OUT=folder
	python seeds/make_deliveries.py --days $(or $(DAYS),10) --orders $(or $(ORDERS),1000) --out $(or $(OUT),deliveries)

# An older reader opens a file of DuckDB 1.5; sqlglot 30.25 is the last with ready wheels for Python 3.10.
lock:  ## Resolve requirements.lock anew (needs uv)
	printf 'duckdb<2\nsqlglot<30.26\n' | uv pip compile pyproject.toml --group dev --constraint - --upgrade \
	    --generate-hashes --universal --python-version 3.10 --no-strip-extras --no-emit-index-url --no-annotate \
	    --no-header --output-file requirements.lock
	python3 -c "$$TWINS"

# To pip in hash mode a package with extras is not the same one without them, and some need both.
define TWINS
import re, pathlib
lock = pathlib.Path("requirements.lock")
lock.write_text(re.sub(r"(?m)^([\w.-]+)\[\w+\](==.*\n(?: .*\n)*)", r"\g<0>\1\2", lock.read_text()))
endef
export TWINS

clean:  ## Remove what builds made, except the environment and the landing folder
	rm -rf target logs .dagster warehouse.duckdb warehouse.duckdb.* warehouse_marts.duckdb* warehouse_incidents.json* warehouse_unopened.json

.DEFAULT_GOAL := help
.PHONY: help setup deliveries-landed manifest run dev docs query why test pictures soak bench bench-quick boundary graph lint deliveries lock clean
