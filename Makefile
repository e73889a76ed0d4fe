# Eastgate's one door. Every target sets up what it needs by itself; `make -n TARGET` shows how.
#
#   make demo     the four scenarios end to end on this machine: no root, no cluster
#   make test     every test that needs no root, a real kube-apiserver among them (the first run builds it: 5 minutes)
#   make check    format, lint, types, import contracts
#   make bench    side by side with Envoy and bare mitmdump
#   make venv     .venv/bin/eastgate
#   make images   the images of the sidecar and of the control plane, with docker, podman or buildah (TAG=, BASE=)
#   make e2e-netns, make e2e-cluster   as root: real kernels, and a real Kubernetes node (or the cluster of KUBECONFIG)
#   make wheel    dist/eastgate-*.whl
#   make lock     resolve the dependencies again (changes locks/)

SHELL      := /bin/sh
VENV       := .venv
BIN        := $(VENV)/bin
STAMP      := $(VENV)/.eastgate-ready
# One more than there are cores: many tests wait for sockets.
JOBS       ?= $(shell echo $$(( $$(nproc) + 1 )))
COMPILE    := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.12
# What the control plane imports, of the core's dependencies and of its own; versions are those of locks/dev.txt.
WEBHOOK_PACKAGES := PyJWT cryptography PyYAML google-re2 typer rich prometheus-client flask kubernetes urllib3 httptools msgspec
TAG        ?= $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' eastgate/__init__.py)
BASE       ?=
export PYTHONHASHSEED := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help venv demo test check bench images e2e-netns e2e-cluster wheel lock clean format
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#  *\(make .*\)/  \1/p' Makefile

venv: $(STAMP)

$(STAMP): locks/dev.txt pyproject.toml hack/find-python
	@test -x $(BIN)/python || { python=$$(hack/find-python) && "$$python" -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --require-hashes --only-binary :all: -r locks/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: venv
	$(BIN)/eastgate demo

test: venv
	hack/run-tests $(BIN)/python $(JOBS)

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: venv
	@hack/need wrk=wrk nginx=nginx-light h2load=nghttp2-client
	$(BIN)/python -m bench

e2e-netns: venv
	@hack/need nft=nftables iptables=iptables ip=iproute2
	hack/pytest $(BIN)/python netns --timeout 300 e2e/netns

e2e-cluster: venv
	@test -n "$$KUBECONFIG" || hack/need nft=nftables iptables=iptables ip=iproute2 openssl=openssl runc=runc conntrack=conntrack buildah=buildah mmdebstrap=mmdebstrap
	@test -n "$$KUBECONFIG" || { hack/kubernetes/build node && hack/kubernetes/build runtime; } >/dev/null
	hack/pytest $(BIN)/python cluster --timeout 900 e2e/cluster

images: venv
	@rm -rf dist
	@$(MAKE) --no-print-directory wheel >/dev/null
	PYTHON=$(BIN)/python hack/images $(TAG) $(BASE)

wheel: venv
	$(BIN)/python -m build --no-isolation --wheel --outdir dist .

lock: venv
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --group dev --extra webhook --output-file locks/dev.txt pyproject.toml
	$(COMPILE) --no-emit-package grpcio --output-file locks/sidecar.txt pyproject.toml
	printf '%s\n' $(WEBHOOK_PACKAGES) | $(COMPILE) --constraint locks/dev.txt --output-file locks/webhook.txt -

clean:
	rm -rf $(VENV) .cache dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
