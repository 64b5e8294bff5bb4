# Needs rustup (https://rustup.rs), Go 1.21 or newer (https://go.dev/doc/install), a C compiler and make; fetches the rest by itself.

CLUSTER = cargo run --quiet --package atomix-tests --bin atomix-cluster --
DENY = target/tools/bin/cargo-deny
DENY_VERSION = 0.20.2

# Another version of Kubernetes than usual, e.g. make test-cluster KUBERNETES=1.33: see tests/controlplane/kubernetes-*
export ATOMIX_KUBERNETES = $(KUBERNETES)

.PHONY: help demo up down image dist test test-cluster test-nodes bench harness toolchain

help: ## Say what can be done here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

demo: harness ## Bring a cluster up on this machine and walk through an example (the first time builds for 25 to 40 minutes)
	$(CLUSTER) demo

up: harness ## Bring a cluster with the controller up on this machine, in the background; NODES=3 with so many real nodes (root, Linux)
	$(CLUSTER) up

down: harness ## Take the cluster down
	$(CLUSTER) down

image: harness ## Build the controller's image into dist/, without a container engine
	$(CLUSTER) image

dist: harness ## Build everything that a user applies into dist/: manifests, plugins, examples, chart, the controller's image, checksums
	$(CLUSTER) dist

test: toolchain $(DENY) ## Prove everything: style, lints, documentation, licences, unit tests, cluster tests
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --package atomix-tests --test nodes --bench nodes -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	$(DENY) check bans licenses sources
	@$(MAKE) --no-print-directory harness
	$(CLUSTER) build
	$(CLUSTER) clients
	$(CLUSTER) manifests
	ATOMIX_PREBUILT=1 RUST_LIB_BACKTRACE=0 cargo test --workspace
	@if $(CLUSTER) nodes; then $(MAKE) test-nodes; \
	else echo "NOT RUN here: the tests on real nodes, for the reason above (make test-nodes)"; fi

test-cluster: harness ## Prove it on a control plane alone; KUBERNETES=1.33 with another version, of those in tests/controlplane
	$(CLUSTER) build
	$(CLUSTER) clients
	$(CLUSTER) manifests
	ATOMIX_PREBUILT=1 RUST_LIB_BACKTRACE=0 cargo test --package atomix-tests --test cluster

test-nodes: harness ## Prove it on real nodes with real storage (root, Linux)
	$(CLUSTER) nodes
	$(CLUSTER) build
	$(CLUSTER) manifests
	ATOMIX_PREBUILT=1 RUST_LIB_BACKTRACE=0 cargo test --package atomix-tests --test nodes -- --test-threads=2

bench: harness ## Measure; tables go to target/bench/
	$(CLUSTER) build
	$(CLUSTER) manifests
	ATOMIX_PREBUILT=1 cargo bench --package atomix-tests --bench plan --bench cluster --bench grpc
	@if $(CLUSTER) nodes; then ATOMIX_PREBUILT=1 cargo bench --package atomix-tests --bench nodes; \
	else echo "NOT RUN here: what is measured on real nodes, for the reason above"; fi

# What CLUSTER runs, here with cargo's own progress: the first time it takes minutes.
harness: toolchain
	@cargo build --package atomix-tests --bin atomix-cluster

# Rust of the version in rust-toolchain.toml with what it lists there, also where rustup is told not to install by itself.
toolchain:
	@command -v cc > /dev/null || { echo "a C compiler is missing: install gcc or clang (Debian: apt install gcc, macOS: xcode-select --install)"; exit 1; }
	@command -v cargo > /dev/null || { echo "Rust is missing: https://rustup.rs"; exit 1; }
	@cargo fmt --version > /dev/null 2>&1 && cargo clippy --version > /dev/null 2>&1 \
		&& test -d "$$(rustc --print target-libdir --target wasm32-unknown-unknown)" || rustup toolchain install

$(DENY):
	cargo install --locked --root target/tools cargo-deny@$(DENY_VERSION)
