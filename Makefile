# Everything runs in .venv, which is made once and again whenever pyproject.toml changes.
# make setup LOCKED=1 installs the versions of requirements.lock, the ones that were tested together.
# make site DEMO=folder shows what `knowsam-lite demo` wrote to that folder.
# ARGS goes to the program:  make train ARGS="--data path/to/folder --labeled 15"   make test ARGS="-k metrics"
PYTHON ?= python3
ARGS ?=
LOCKED ?=
DEMO ?=
EXTRAS := cluster,coco,course,dev,onnx,pretrained,volumes
BIN := .venv/bin
STAMP := .venv/.installed
EXTRA := .venv-extra/.installed
SITE := .venv/.site
PURELIB := import sysconfig; print(sysconfig.get_path("purelib"))

.DEFAULT_GOAL := help
.PHONY: help setup train test test-extra lint lab site slides lock clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(STAMP)  ## make .venv and install the package with its extras

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "found Python %d.%d, expected 3.11 or newer: run make PYTHON=python3.12, say" % v[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check $(if $(LOCKED),-c requirements.lock) -e '.[$(EXTRAS)]'
	touch $(STAMP)

# Without glibc's cache of small blocks a step at 256 px takes 0.1 to 0.6 GB less: docs/speed.md.
train: export GLIBC_TUNABLES := glibc.malloc.tcache_count=0
# Without AVX-512 the run of the README has the same digits on more processors: docs/scale.md.
ifeq ($(ARGS)$(shell grep -m1 -o avx512f /proc/cpuinfo 2>/dev/null),avx512f)
train: export ATEN_CPU_CAPABILITY := avx2
train: export ONEDNN_MAX_CPU_ISA := AVX2
endif
train: $(STAMP)  ## train the whole method on the embedded data
	$(BIN)/knowsam-lite train $(ARGS)

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two tests at a time, on one thread each; the few that ask for two threads do not spin while they wait.
test: lint  ## lint, then every test
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/pytest -n 2 --dist worksteal $(ARGS)

# A second environment that sees the first, so that what nbgrader wants changes nothing there.
$(EXTRA): $(STAMP)
	$(PYTHON) -m venv .venv-extra
	echo "import site; site.addsitedir('$$($(BIN)/python -c '$(PURELIB)')')" > $$(.venv-extra/bin/python -c '$(PURELIB)')/first.pth
	.venv-extra/bin/python -m pip install --disable-pip-version-check -e '.[extra,site]'
	touch $(EXTRA)

test-extra: $(EXTRA)  ## nbgrader for real; notebooks, annotator and demo in a browser (needs chromium)
	.venv-extra/bin/python -m pytest tests/extra $(ARGS)

lab: $(STAMP)  ## open JupyterLab at a page of all chapters and of what is done
	$(BIN)/python -m knowsam_lite.course start notebooks/start.ipynb
	cd notebooks && ../$(BIN)/jupyter lab start.ipynb

$(SITE): $(STAMP)
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[site]'
	touch $(SITE)

site: $(SITE)  ## the course, the pages and the reference as a site: build/site/index.html
	rm -rf build/site
	$(BIN)/python -m knowsam_lite.course site build/site $(if $(DEMO),--demo $(DEMO))

slides: $(STAMP)  ## headings, equations and figures of every chapter: build/slides
	$(BIN)/python -m knowsam_lite.course slides build/slides

lock: $(STAMP)  ## write the versions of .venv to requirements.lock, for every system and this Python or newer
	$(BIN)/python -m pip install --disable-pip-version-check 'uv>=0.9'
	$(BIN)/python -m pip freeze --exclude-editable > .venv/versions.txt
	$(BIN)/uv pip compile pyproject.toml --universal --python-version $$($(BIN)/python -c 'import platform; print(platform.python_version())') --extra '$(EXTRAS)' -c .venv/versions.txt \
		--no-annotate --custom-compile-command 'make lock' --quiet -o requirements.lock

clean:  ## remove caches and build output; .venv, .venv-extra and runs stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
