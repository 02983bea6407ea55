# Each target is what CI runs, and nothing else.

SHELL := /bin/bash
GUEST_TARGET := x86_64-unknown-linux-gnu
GUEST := target/$(GUEST_TARGET)/guest/sublet-guest
P ?= all

.PHONY: help setup demo test lint guest program images bench soak clean-images

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

lint: ## format and clippy
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings

bench: $(if $(filter p5 all,$(P)),images) ## compare with peers: `make bench P=p1`
	@bench/run $(P)
