# Needs rustup (https://rustup.rs), Go 1.21 or newer (https://go.dev/doc/install), a C compiler and make; fetches the rest by itself.

CLUSTER = cargo run --quiet --package atomix-tests --bin atomix-cluster --
DENY = target/tools/bin/cargo-deny
DENY_VERSION = 0.20.2

# What `make soak` runs over and over, each time with another seed: a test program, and the tests of it.
SOAK = offline:fuzz controlplane:any_grpc_request controlplane:inputs controlplane:perturbed

# How many tests run at a time: those on a cluster wait for it more than they compute.
THREADS = $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

# Walks of tests/controlplane/perturbed and inputs. They need all processors: other tests beside them would run into their deadlines. All of
# them run in `make soak`.
HEAVY = perturbed::kills perturbed::faults perturbed::restore perturbed::stale inputs::

# Another version of Kubernetes than usual, e.g. make test-controlplane KUBERNETES=1.33: see tests/kubernetes/kubernetes-*
export ATOMIX_KUBERNETES = $(KUBERNETES)

.PHONY: help check golden demo up down image dist test test-offline test-controlplane test-nodes soak bench harness toolchain

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' Makefile

check: toolchain ## Prove what needs no cluster and no Go: formatting, lints, documentation, unit tests, golden cases, structure
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --package atomix-tests --test nodes --bench nodes -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	$(CLUSTER) manifests
	ATOMIX_PREBUILT=1 cargo test --workspace --lib --bins
	ATOMIX_PREBUILT=1 cargo test --workspace --doc
	ATOMIX_PREBUILT=1 cargo test --package atomix-tests --test offline -- --skip packaging

golden: toolchain ## Rewrite what tests compare with: the plans in tests/golden, the definitions in deploy/; then read the diff
	UPDATE=1 cargo test --workspace --lib crds
	$(CLUSTER) manifests
	ATOMIX_PREBUILT=1 UPDATE=1 cargo test --package atomix-tests --test offline -- golden groups reference

demo: harness ## Bring a cluster up on this machine and walk through an example (what it takes the first time: README)
	$(CLUSTER) demo

up: harness ## Bring a cluster with the controller up on this machine, in the background; NODES=3 with so many real nodes (root, Linux)
	$(CLUSTER) up

down: harness ## Take the cluster down
	$(CLUSTER) down

image: harness ## Build the controller's image into dist/, without a container engine
	$(CLUSTER) image

dist: harness ## Build everything that a user applies into dist/: manifests, plugins, examples, chart, the controller's image, checksums
	$(CLUSTER) dist

test: toolchain $(DENY) ## Prove everything: style, lints, documentation, licences, unit tests, tests on a control plane and on real nodes
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --package atomix-tests --test nodes --bench nodes -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	$(DENY) check bans licenses sources
	@$(MAKE) --no-print-directory harness
	$(CLUSTER) build
	$(CLUSTER) clients
	$(CLUSTER) manifests
	ATOMIX_PREBUILT=1 RUST_LIB_BACKTRACE=0 RUST_TEST_THREADS=$(THREADS) cargo test --workspace -- --skip perturbed --skip inputs::
	ATOMIX_PREBUILT=1 RUST_LIB_BACKTRACE=0 RUST_TEST_THREADS=$(THREADS) cargo test --workspace --test controlplane -- $(HEAVY)
	$(CLUSTER) rights
	@if $(CLUSTER) nodes; then $(MAKE) test-nodes; \
	else echo "NOT RUN here: the tests on real nodes, for the reason above (make test-nodes)"; fi

test-offline: harness ## Prove what needs no cluster: plans, edits, hostile guests, packaging, structure
	$(CLUSTER) build
	$(CLUSTER) manifests
	ATOMIX_PREBUILT=1 cargo test --package atomix-tests --test offline

test-controlplane: harness ## Prove it on a control plane alone; KUBERNETES=1.33 with another version, of those in tests/kubernetes
	$(CLUSTER) build
	$(CLUSTER) clients
	$(CLUSTER) manifests
	ATOMIX_PREBUILT=1 RUST_LIB_BACKTRACE=0 RUST_TEST_THREADS=$(THREADS) cargo test --package atomix-tests --test controlplane -- --skip perturbed --skip inputs::
	ATOMIX_PREBUILT=1 RUST_LIB_BACKTRACE=0 RUST_TEST_THREADS=$(THREADS) cargo test --package atomix-tests --test controlplane -- $(HEAVY)
	$(CLUSTER) rights

test-nodes: harness ## Prove it on real nodes with real storage (root, Linux)
	$(CLUSTER) nodes
	$(CLUSTER) build
	$(CLUSTER) manifests
	ATOMIX_PREBUILT=1 RUST_LIB_BACKTRACE=0 cargo test --package atomix-tests --test nodes -- --test-threads=3 --skip inputs
	ATOMIX_PREBUILT=1 RUST_LIB_BACKTRACE=0 cargo test --package atomix-tests --test nodes -- inputs

soak: harness ## Try random inputs until something is found or it is stopped (ATOMIX_FUZZ_SEED=N in a test brings them back)
	$(CLUSTER) build
	$(CLUSTER) manifests
	@while true; do \
		seed=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' '); \
		for tests in $(SOAK); do \
			echo "ATOMIX_FUZZ_SEED=$$seed, $$tests"; \
			ATOMIX_PREBUILT=1 ATOMIX_FUZZ_SEED=$$seed ATOMIX_FUZZ_TIMES=10 RUST_LIB_BACKTRACE=0 \
				cargo test --quiet --package atomix-tests --test $${tests%%:*} -- $${tests#*:} || exit 1; \
		done; \
	done

bench: harness ## Measure; tables go to target/bench/
	$(CLUSTER) build
	$(CLUSTER) manifests
	ATOMIX_PREBUILT=1 cargo bench --package atomix-tests --bench plan --bench cluster --bench grpc --bench sizes
	@if $(CLUSTER) nodes; then ATOMIX_PREBUILT=1 cargo bench --package atomix-tests --bench nodes; \
	else echo "NOT RUN here: what is measured on real nodes, for the reason above"; fi

# What CLUSTER runs, here with cargo's own progress: the first time it takes minutes.
harness: toolchain
	@cargo build --package atomix-tests --bin atomix-cluster

# Rust of the version in rust-toolchain.toml with what it lists there, also where rustup is configured not to install by itself.
toolchain:
	@command -v cc > /dev/null || { echo "a C compiler is missing: install gcc or clang (Debian: apt install gcc, macOS: xcode-select --install)"; exit 1; }
	@command -v cargo > /dev/null || { echo "Rust is missing: https://rustup.rs"; exit 1; }
	@cargo fmt --version > /dev/null 2>&1 && cargo clippy --version > /dev/null 2>&1 \
		&& test -d "$$(rustc --print target-libdir --target wasm32-unknown-unknown)" || rustup toolchain install

$(DENY):
	CARGO_PROFILE_DEV_DEBUG=false cargo install --debug --locked --root target/tools cargo-deny@$(DENY_VERSION)
