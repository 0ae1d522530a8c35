# Leasehold's commands. `make` alone lists them. CI runs `make test`, so what passes here passes there.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

CARGO_BIN := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin
export PATH := $(PATH):$(CARGO_BIN)

# Homebrew keeps PostgreSQL's programs off the path.
ifneq ($(wildcard /opt/homebrew/opt/postgresql@16/bin),)
export PATH := $(PATH):/opt/homebrew/opt/postgresql@16/bin
endif

# Further arguments: make demo ARGS=--keep, make bench ARGS=--quick, make test ARGS='-E test(sql_10)'
ARGS ?=

.PHONY: help setup demo test bench build fmt lint doc deny check-files unit doctests setup-%

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup-demo ## A scripted day of real jobs, with a table of what happened (ARGS=--keep leaves it running)
	cargo build --locked --package leasehold
	target/debug/leasehold demo $(ARGS)

test: setup-test check-files lint doc unit doctests ## All that CI checks: formatting, lints, docs, tests

bench: setup-bench ## Our figures beside BullMQ's and bare scripts' (ARGS=--quick for a short run)
	cargo build --locked --release --package leasehold --package leasehold-bench
	@scripts/bench-peers.sh
	target/release/leasehold-bench $(ARGS)

setup: setup-test ## Install what the tests need and this machine lacks

build: setup-build ## The release binary, target/release/leasehold
	cargo build --locked --release --package leasehold

fmt: setup-lint ## Format the code
	cargo fmt --all

lint: setup-lint ## Check formatting; clippy with warnings denied
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings

doc: ## Build the documentation with warnings denied
	RUSTDOCFLAGS='--deny warnings' cargo doc --locked --workspace --no-deps --quiet

deny: ## Check licences, bans and sources of dependencies (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo 'make deny needs it: cargo install --locked cargo-deny'; exit 1; }
	cargo deny --locked check licenses bans sources $(ARGS)

# What `make test` is made of.

check-files:
	@scripts/check-files.sh

unit:
	cargo nextest run --locked --workspace $(ARGS)

doctests:
	cargo test --locked --workspace --doc --quiet

setup-%:
	@scripts/setup.sh $*
