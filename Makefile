# Two commands do everything: `make run` serves, `make test` tests. The rest is for people who work on maser.
.DEFAULT_GOAL := help
PREFIX ?= /usr/local
.PHONY: help run build install uninstall deb test test-vm accept bench fmt clippy fuzz loom miri clean

# Short of criterion's usual times, so that all the figures fit into ten minutes.
STAGES := --warm-up-time 1 --measurement-time 2

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## serve this machine's clock on port 11123 of the loopback addresses, with a live screen
	target/release/maser serve --screen

build: ## build the release binary, installing what the build needs
	@tests/setup build
	cargo build --release --locked

install: ## install under PREFIX (/usr/local), for a package under DESTDIR; what is in /etc stays as it is
	@packaging/install install "$(PREFIX)" "$(DESTDIR)"

uninstall: ## remove what install put there, but for the configuration
	@packaging/install uninstall "$(PREFIX)" "$(DESTDIR)"

deb: ## make a Debian package, in target/debian
	@packaging/deb

test: ## run every test (35 minutes, under 60 cold; needs root for the network namespaces)
	@tests/run all

test-vm: ## boot a VM with real timing devices and run tests in it (about 6 minutes; the first time also setup)
	@tests/run setup vm

accept: ## the full-length runs: the quick start measured, system calls a packet, benchmarks, fuzzing for 10 minutes a target
	@tests/run accept

bench: ## the README's figures: stages, then maser beside chronyd and bare servers under load (about 25 minutes; QUICK=1: over 13)
	@tests/setup bench
	cargo build --release --locked -p maser-load -p maser-sys --bin maser-load --examples
	$(if $(filter-out 0,$(QUICK)),,cargo bench --locked --bench stages -- $(STAGES))
	cargo bench --locked --bench rig

fmt: ## format the code
	cargo fmt --all

clippy: ## lint as CI does
	cargo clippy --workspace --all-targets --locked -- -D warnings

fuzz: ## fuzz both targets for a minute each
	fuzz/run frame 60
	fuzz/run datagram 60

loom: ## model-check the snapshot's cell
	@tests/run loom

miri: ## run the tests of the cell and of the memory that the kernel fills under Miri
	@tests/run miri

clean: ## remove what was built
	cargo clean
