# The commands that people and CI run. "make help" lists them.

GO     ?= go
BIN    := bin
OUT    ?= out
ARCHES := amd64 arm64
# What goes into an image: no C, no paths of this machine, no symbols.
STATIC := CGO_ENABLED=0 GOOS=linux
# The CLI has C for the catalog, as docs/dependencies.md says. With "make TAGS=
# build" it does without both.
TAGS   := libsqlite3
ALLOW  := -Wl,-z,now
CLI    := $(if $(TAGS),CGO_ENABLED=1 CGO_LDFLAGS_ALLOW=$(ALLOW),$(STATIC))

DEMO   := testdata/recipes/demo.toml
ARM64  := testdata/recipes/arm64.toml
IMAGE  := $(OUT)/prose-0-generic-amd64.qcow2

.DEFAULT_GOAL := help
.PHONY: help setup build plugin demo check test arm64 soak bench golden clean FORCE

help: ## list the commands
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## install the tools that are missing (Debian, Ubuntu)
	@testdata/scripts/setup

build: setup $(BIN)/prose-image $(BIN)/packer-plugin-prose $(ARCHES:%=$(BIN)/prose-firstboot-linux-%) $(BIN)/pebble $(BIN)/pebble-challtestsrv $(BIN)/pod/index.json ## make the programs and the pod double

$(BIN)/prose-image: FORCE
	@$(CLI) $(GO) build -tags='$(TAGS)' -trimpath -o $@ ./cmd/$(@F)

$(BIN)/packer-plugin-prose: FORCE
	@$(STATIC) $(GO) build -trimpath -o $@ ./cmd/$(@F)

# The agent has 9 MiB: no HTTP/2, and calls are inlined only where that saves
# time (a run with nothing to do: 41 ms instead of 38, and 0.6 MiB less).
SMALL := -tags=nethttpomithttp2 -gcflags=all=-l -gcflags=crypto/...= -gcflags=runtime/...= -gcflags=internal/...= -ldflags='-s -w'

$(BIN)/prose-firstboot-linux-%: FORCE
	@$(STATIC) GOARCH=$* $(GO) build $(SMALL) -trimpath -o $@ ./cmd/prose-firstboot

# The authority and the name server of scenarios.
$(BIN)/pebble $(BIN)/pebble-challtestsrv: testdata/tools/go.mod
	@$(STATIC) $(GO) build -trimpath -modfile=testdata/tools/go.mod -o $@ github.com/letsencrypt/pebble/v2/cmd/$(@F)

$(BIN)/pod/index.json: FORCE
	@$(GO) run ./testdata/pod/cmd/pod-registry build -o $(BIN)/pod >/dev/null

# The double's digests move with its sources, and the demo's lock with them.
$(DEMO:.toml=.lock): $(BIN)/pod/index.json | $(BIN)/prose-image
	$(BIN)/prose-image lock --update $(DEMO)

# Both architectures in one index, as registries have them.
$(BIN)/pod-arches/index.json: FORCE
	@$(GO) run ./testdata/pod/cmd/pod-registry build -arch amd64,arm64 -o $(BIN)/pod-arches >/dev/null

$(ARM64:.toml=.lock): $(BIN)/pod-arches/index.json | $(BIN)/prose-image
	$(BIN)/prose-image lock --update $(ARM64)

plugin: build ## make the Packer plugin as packer init wants it, in bin/plugin
	@testdata/scripts/plugin $(BIN) $(BIN)/plugin

demo: build $(DEMO:.toml=.lock) ## bake the demo image and boot it until its Pod answers; KEEP=1 leaves it running
	$(BIN)/prose-image bake $(DEMO) -o $(OUT)
	@testdata/scripts/demo $(BIN)/prose-image $(IMAGE)

check: setup ## look at the sources: form, vet, staticcheck
	@testdata/scripts/check

test: build check $(DEMO:.toml=.lock) ## run every test, from tables to booted machines
	@testdata/scripts/test

arm64: build $(ARM64:.toml=.lock) ## bake an image for arm64 and boot it
	$(GO) test -count=1 -timeout 90m -v ./testdata/arm64

soak: build $(DEMO:.toml=.lock) $(ARM64:.toml=.lock) ## run the long tests and write what they found to docs/soak.md
	@testdata/scripts/soak

bench: build $(DEMO:.toml=.lock) ## measure, and write docs/benchmarks.md
	@testdata/scripts/bench

golden: build $(DEMO:.toml=.lock) ## rewrite the goldens; look at what git says then
	@testdata/scripts/golden

clean: ## remove what was made here; the user's cache stays
	rm -rf $(BIN) $(OUT)
