# Everything runs from .venv, which the first target that needs it sets up. Paths are relative and quoted: the
# checkout may lie in a folder with a space in its name.
PYTHON ?= python3
DATA ?= ../shared/data
PY := .venv/bin/python
BACKSIGHT := .venv/bin/backsight
PACKAGES := packages/features packages/ingest packages/model

.DEFAULT_GOAL := demo
.PHONY: demo journey test check prove bench feast-suite clean

.venv/ready: constraints.txt pyproject.toml $(PACKAGES:=/pyproject.toml) tests/fakeworld/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("error: backsight needs Python 3.11 or newer; name one: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip
	$(PY) -m pip install --quiet --constraint constraints.txt --build-constraint constraints.txt --group dev \
		--editable "packages/features[team]" $(addprefix --editable ,$(PACKAGES)) --editable tests/fakeworld
	@touch $@

# The whole way on a made-up world: raw files in, a judged forecast out. No key, no server, no network.
demo: export BACKSIGHT_HOME := build/demo/home
demo: .venv/ready
	rm -rf build/demo
	$(BACKSIGHT) sample build/demo/world --seed 7
	$(BACKSIGHT) pull dump --layout binance-1h build/demo/world/bars
	$(BACKSIGHT) pull dump --layout cryptonews build/demo/world/news
	$(BACKSIGHT) pull dump --layout reddit-first-seen build/demo/world/posts
	$(BACKSIGHT) pull dump --layout alfred-intervals build/demo/world/macro/vintages
	$(BACKSIGHT) pull dump --layout fred-date-value build/demo/world/macro/daily
	$(BACKSIGHT) pull dump --layout fear-greed build/demo/world/index
	$(BACKSIGHT) score --scorer sentfin-tiny-bert
	$(BACKSIGHT) build --bars binance:BTC-USDT:1h
	$(BACKSIGHT) apply
	$(BACKSIGHT) train --bars binance:BTC-USDT:1h --service forecast_1h --compare price_1h
	$(BACKSIGHT) publish --service forecast_1h --length 48 --at 2024-06-30T00:01:00Z
	$(BACKSIGHT) forecast BTC-USDT --at 2024-06-30T00:01:00Z

# The same on real files, which are not part of the project: make journey DATA=folder
journey: export BACKSIGHT_HOME := build/journey
journey: .venv/ready
	rm -rf build/journey
	$(BACKSIGHT) pull dump --layout cryptodatadownload "$(DATA)/ohlcv/cdd_bitstamp_BTCUSD_1h.csv.gz"
	$(BACKSIGHT) pull dump --layout cryptonews "$(DATA)/news/cryptonews_semicolon_2021-2022.csv.gz"
	$(BACKSIGHT) pull dump --layout bitcoin-sentiments "$(DATA)/news/bitcoin_sentiments_21_24.csv.gz"
	$(BACKSIGHT) pull dump --layout reddit-first-seen "$(DATA)/reddit"
	$(BACKSIGHT) pull dump --layout alfred-intervals "$(DATA)/macro/vintages"
	$(BACKSIGHT) pull dump --layout fred-date-value "$(DATA)/macro/codex_date_value"
	$(BACKSIGHT) pull dump --layout fear-greed "$(DATA)/sentiment_index"
	$(BACKSIGHT) score --scorer sentfin-tiny-bert
	$(BACKSIGHT) build --bars bitstamp:BTC-USD:1h
	$(BACKSIGHT) apply
	$(BACKSIGHT) train --bars bitstamp:BTC-USD:1h --service forecast_1h --compare price_1h --since 2021-10-12
	$(BACKSIGHT) promote build/journey/models/forecast_1h-* --override "to see a forecast; it is worth what the verdict says"
	$(BACKSIGHT) publish --service forecast_1h --length 48 --at 2022-08-20T01:01:00Z
	$(BACKSIGHT) forecast BTC-USD --at 2022-08-20T01:01:00Z

# Two at a time; the tests of a file stay together, as they share what is dear to make. Many start programs, which would
# each compile the packages anew where Python is told to keep no bytecode.
test: export PYTHONDONTWRITEBYTECODE :=
test: .venv/ready
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: .venv/ready
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	.venv/bin/lint-imports

prove: .venv/ready
	$(PY) -m pytest -m prove -rP --durations=0

bench: .venv/ready
	for promise in asof audit book build ingest online serve start train; do $(PY) "benchmarks/$$promise.py" || exit 1; done

# Feast's own tests of offline stores, from a checkout of Feast: make feast-suite FEAST=folder/feast/sdk/python
feast-suite: .venv/ready
	PYTHONPATH="$(CURDIR)/tests/feast_suite:$(FEAST)" FULL_REPO_CONFIGS_MODULE=asof_repo_configuration \
		$(PY) -m pytest "$(FEAST)/tests" --rootdir "$(FEAST)" --integration -m universal_offline_stores

clean:
	rm -rf .venv build .backsight
