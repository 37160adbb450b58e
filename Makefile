# Everything a newcomer types. Each target sets up what it needs and is quick when that is there.
#
#   make run          a real VM from launch to quit, printed live, then replayed from its log
#   make test         style, types, and all tests, on every QEMU version
#   make check        style and types only
#   make golden       rewrite the expected texts of the tests; look at the diff, commit what you understand
#   make bench        speed, as ratios against the peers
#   make soak         fifty VMs in one process, plugging and unplugging for five minutes
#   make fuzz         a minute of bytes that nobody thought of, for the importers
#   make killpoints   who owns a VM is killed after each record of its log, and each command; minutes
#   make docs         rewrite the generated parts of docs/
#   make conformance  the tests with everything recorded afresh and every long case
#   make stories      record tests/stories again

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check bench soak fuzz golden killpoints docs conformance stories qemu qemu-release guest

run: $(VENV)/base qemu-release
	$(BIN)/python scripts/main_job.py

test: check qemu guest $(VENV)/test
	$(BIN)/pytest

check: $(VENV)/check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/bench qemu-release
	$(BIN)/python -m bench

SOAK ?= --vms 50 --seconds 300
soak: $(VENV)/base qemu-release
	$(BIN)/python scripts/soak.py $(SOAK)

FUZZ ?= -max_total_time=60
fuzz: $(VENV)/fuzz
	@mkdir -p .cache/fuzz
	$(BIN)/python fuzz/importers.py -dict=fuzz/importers.dict -max_len=4096 -timeout=10 -rss_limit_mb=2048 $(FUZZ) .cache/fuzz fuzz/seeds

golden: qemu guest $(VENV)/test
	$(BIN)/pytest --rewrite

killpoints: qemu $(VENV)/test
	QEMUSTATE_FULL=1 $(BIN)/pytest tests/vm/test_crash.py

docs: $(VENV)/base
	$(BIN)/python scripts/make_docs.py

conformance: qemu guest $(VENV)/test
	QEMUSTATE_FULL=1 $(BIN)/pytest

stories: qemu guest $(VENV)/base
	$(BIN)/python scripts/record_stories.py

# What can't be set up is named by these and skipped by the tests; it is no failure here.
qemu:
	@$(PYTHON) scripts/setup_qemu.py

qemu-release:
	@$(PYTHON) scripts/setup_qemu.py 7.2

guest:
	@scripts/build_guest.sh --if-possible

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "make: can't create $(VENV): apt-get install python3-venv" >&2; exit 1; }

$(VENV)/base: $(BIN)/python pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check -e .
	@touch $@

# One stamp per extra of pyproject.toml.
$(VENV)/test $(VENV)/check $(VENV)/bench $(VENV)/fuzz: $(VENV)/%: $(BIN)/python pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check -e '.[$*]'
	@touch $@
