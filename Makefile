# The front door. Needs Rust, Go and a C compiler, and some of Debian's packages
# (hack/setup.sh installs what is missing where it may, and names the rest). Everything fetched or built once is kept in .cache/.

CARGO ?= cargo
KINDS := vncpasswords clustervncpasswords
STEP := hack/step.sh
# The test programs but for e2e, the quick ones first. tests/architecture.rs compares the list with the files.
TESTS := architecture chart observability credentials emulator cli protocol operator crash
IMAGES := $(or $(CARGO_TARGET_DIR),target)/image

.DEFAULT_GOAL := help
# One thing at a time: the steps share the target directory, and their output is read by people.
.NOTPARALLEL:

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show the main job on a private control plane; KEEP=1 leaves it up
	@hack/setup.sh demo
	@hack/demo.sh run

.PHONY: demo-stop
demo-stop: ## Stop a demo that KEEP=1 left up
	@hack/demo.sh stop

.PHONY: test
test: export STEP_TIMES := $(abspath $(or $(CARGO_TARGET_DIR),target)/test-times)
test: ## Everything that CI runs; prints its parts and their times
	@mkdir -p "$$(dirname "$$STEP_TIMES")" && rm -f "$$STEP_TIMES"
	@$(STEP) 'tools' hack/setup.sh test
	@$(STEP) 'control plane' hack/control-plane.sh build
	@$(STEP) 'cluster' hack/cluster.sh build
	@$(STEP) 'helm' hack/helm.sh version
	@$(MAKE) --no-print-directory lint
	@$(STEP) 'compile' $(CARGO) test --locked --no-run
	@$(STEP) 'unit tests' $(CARGO) test --locked --lib --bins
	@$(STEP) 'examples in docs' $(CARGO) test --locked --doc
	@for test in $(TESTS); do $(STEP) "$$test" $(CARGO) test --locked --test $$test || exit 1; done
	@$(STEP) 'demo' hack/demo.sh run --no-build
	@$(MAKE) --no-print-directory e2e
	@$(STEP) --summary

.PHONY: e2e
e2e: ## Install and operate the chart on a private cluster with a real kubelet, as root; ARGS names the tests
	@hack/setup.sh e2e
	@$(STEP) 'cluster' hack/cluster.sh build
	@$(STEP) 'helm' hack/helm.sh version
	@$(STEP) 'image' hack/image.sh operator
	@$(STEP) 'image of the emulator' hack/image.sh emulator
	@$(STEP) 'plugin' hack/plugin.sh
	@$(STEP) 'krew' hack/krew.sh version
	@$(STEP) 'compile' $(CARGO) test --locked --test e2e --no-run
	@$(STEP) 'end to end' hack/cluster.sh run --image $(IMAGES)/operator.tar --image $(IMAGES)/emulator.tar \
	  $(CARGO) test --locked --offline --test e2e -- --include-ignored --test-threads=1 $(ARGS)

.PHONY: lint
lint: ## Format, scripts, clippy, documentation and dependencies, without changing anything
	@hack/setup.sh test
	@$(STEP) 'format' $(CARGO) fmt --all --check
	@$(STEP) 'scripts' shellcheck --external-sources --source-path=SCRIPTDIR .ci/run crates/kubectl-vncpassword/package/kubectl_complete-vncpassword $(wildcard hack/*.sh)
	@$(STEP) 'kinds of the chart' diff -r crds charts/vncpassword-operator/files/crds
	@$(STEP) 'alerts' hack/promtool.sh check rules charts/vncpassword-operator/files/alerts.yaml
	@$(STEP) 'dependencies' hack/cargo-deny.sh --log-level error check bans licenses sources
	@$(STEP) 'clippy' $(CARGO) clippy --locked --all-targets -- --deny warnings
	@RUSTDOCFLAGS='--deny warnings' $(STEP) 'documentation' $(CARGO) doc --locked --no-deps --document-private-items

.PHONY: audit
audit: ## Dependencies against the advisory database (asks the network)
	@hack/cargo-deny.sh check advisories

.PHONY: bench
bench: ## Benchmarks on a private control plane, release build; ARGS='--peer --bare' measures side by side (docs/benchmarks.md)
	@hack/setup.sh demo
	@hack/control-plane.sh build
	@$(CARGO) bench --locked --bench operator -- $(ARGS)

.PHONY: crds
crds: ## Write crds/ anew from the types in crates/core/src/api, and the chart's copy
	@for kind in $(KINDS); do \
	  file=crds/vncpassword.dev_$$kind.yaml; \
	  $(CARGO) run --quiet --locked -- crds $$kind > $$file.new && mv $$file.new $$file || { rm -f $$file.new; exit 1; }; \
	done
	@cp crds/*.yaml charts/vncpassword-operator/files/crds/

.PHONY: manifest
manifest: ## Write manifests/install.yaml anew from the chart
	@hack/manifest.sh > manifests/install.yaml.new && mv manifests/install.yaml.new manifests/install.yaml

.PHONY: image
image: ## Build the operator's image into target/image/operator.tar, without a container engine
	@hack/setup.sh demo
	@hack/image.sh operator

.PHONY: plugin
plugin: ## Pack the kubectl plugin and its Krew manifest into target/plugin
	@hack/setup.sh demo
	@hack/plugin.sh

.PHONY: control-plane
control-plane: ## Build etcd, kube-apiserver and kubectl into the cache, once
	@hack/setup.sh demo
	@hack/control-plane.sh build

.PHONY: setup
setup: ## Install what `make test` needs, or name it where it cannot be installed
	@hack/setup.sh test

.PHONY: clean
clean: ## Remove what was built here; the cache of tools stays
	@hack/demo.sh stop
	@$(CARGO) clean

.PHONY: clean-cache
clean-cache: clean ## Remove the cache of tools and of the control plane as well
	@rm -rf "$${VNCPASSWORD_CACHE:-.cache}"
