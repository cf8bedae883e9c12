# The front door. Needs Rust, Go and a C compiler, and some of Debian's packages
# (hack/setup.sh names what is missing, `make setup` installs it). Everything fetched or built once is kept in .cache/.

CARGO ?= cargo
KINDS := vncpasswords clustervncpasswords
STEP := hack/step.sh
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
test: ## Everything that CI runs
	@$(STEP) 'tools' hack/setup.sh test
	@$(STEP) 'control plane' hack/control-plane.sh build
	@$(STEP) 'cluster' hack/cluster.sh build
	@$(STEP) 'helm' hack/helm.sh version
	@$(MAKE) --no-print-directory lint
	@$(STEP) 'tests' $(CARGO) test --locked
	@$(STEP) 'demo' hack/demo.sh run --no-build
	@$(MAKE) --no-print-directory e2e

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
setup: ## Install the Debian packages that are missing (as root)
	@hack/setup.sh install

.PHONY: clean
clean: ## Remove what was built here; the cache of tools stays
	@hack/demo.sh stop
	@$(CARGO) clean

.PHONY: clean-cache
clean-cache: clean ## Remove the cache of tools and of the control plane as well
	@rm -rf "$${VNCPASSWORD_CACHE:-.cache}"
