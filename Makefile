# Each target is what CI runs, and nothing else.

SHELL := /bin/bash
GUEST_TARGET := x86_64-unknown-linux-gnu
GUEST := target/$(GUEST_TARGET)/guest/sublet-guest
P ?= all
SEEDS ?= 20000
FIRST ?= 1000

.PHONY: help setup demo test lint guest program images bench soak broken mutants clean-images

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup: ## install what is missing (idempotent; as root or with sudo)
	@scripts/setup

guest: ## build the small static program that runs inside a partition
	@RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" cargo build --quiet --profile guest --locked -p sublet-guest --target $(GUEST_TARGET)

program: guest ## build `sublet`
	@cargo build --release --locked -p sublet

images: setup program ## build the operating systems into target/depot
	@scripts/images target/release/sublet $(GUEST) target/depot

demo: images ## the main job, end to end, on real partitions of this computer
	@scripts/demo

test: setup guest ## every test, with real partitions among them
	@scripts/test

soak: ## more seeds, 10 GiB out of a guest, 100 real sequences: `make soak SEEDS=20000 FIRST=1000`
	@SUBLET_SEEDS=$(SEEDS) SUBLET_FIRST=$(FIRST) cargo test --release --locked -p sublet-testing --test simulation whatever -- --nocapture
	@SUBLET_FLOOD_MIB=10240 cargo test --release --locked -p sublet-host --test ssh a_flood_costs -- --nocapture
	@SUBLET_SEQUENCES=10000 cargo test --release --locked -p sublet-host --lib sequences -- --nocapture
	@scripts/test real _for_long --ignored

broken: ## builds that are broken on purpose: the simulation has to catch each
	@scripts/broken

mutants: ## break the code in every small place: a test has to notice (needs cargo-mutants)
	@scripts/mutants

lint: ## format and clippy
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings
	@cd images/wasm/kernel && cargo fmt --check && cargo clippy --lib --bins --tests --features kernel --locked -- -D warnings

bench: $(if $(filter p4 p5 p6 p7 p8 caps all,$(P)),images) ## compare with peers: `make bench P=p1`
	@bench/run $(P)
