# Each target is one plain line; what it does is in scripts/.
.PHONY: help setup build test lint format demo bench bench-cluster scale check-kernel chaos soak wheel clean
.DEFAULT_GOAL := help

help:  ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' Makefile | expand -t 16
setup:  ## check the system, make .venv, install what raycore needs, build it
	@scripts/build
build:  ## after an edit of C++: build the kernel again (seconds)
	@scripts/build
test: build  ## all tests, two files at a time (ARGS="-k name" chooses)
	@scripts/test $(ARGS)
lint: build  ## formatting, types, layers, stubs, public surface
	@scripts/lint
demo: build  ## the main job: a hyper-parameter search on real scans
	@.venv/bin/python examples/main_job.py $(ARGS)
bench: build  ## this project and its peers, side by side (ARGS=--quick, --publish; --help)
	@scripts/bench $(ARGS)
bench-cluster: build  ## the same between the nodes of a cluster, beside its peers' clusters
	@scripts/bench --cluster $(ARGS)
scale: build  ## how it scales: real clusters of 3 and 10 nodes, the same predicted, then 10,000 (ARGS=--quick, --publish)
	@.venv/bin/python -m benchmarks.scale $(ARGS)
format:  ## rewrite Python and C++ sources into the one format
	@scripts/format
check-kernel:  ## crash points and sanitizers (SHORT=1: the short form)
	@scripts/check_kernel
chaos: build  ## every attack of docs/reliability.md in its full form, figures at the end
	@RAY_CHAOS=full .venv/bin/python -m pytest tests/chaos tests/properties tests/simulator tests/wire tests/cluster tests/node/cluster $(ARGS)
soak: build  ## mixed work with a fault every ten seconds, for SOAK_SECONDS (8 hours); a busy cluster, for 30 minutes
	@SOAK_SECONDS=$(or $(SOAK_SECONDS),28800) .venv/bin/python -m pytest -s tests/chaos/test_soak.py tests/chaos/test_busy_cluster.py $(ARGS)
wheel: setup  ## a wheel in dist/
	@.venv/bin/python -m pip wheel --no-deps --wheel-dir dist .
clean:  ## remove .venv and everything built
	@scripts/clean
