# make          builds bin/muster
# make help     lists the rest

GO      ?= go
# Key managers to build in, by their tags: awskms,cloudkms,azurekms,tpmkms.
KMS     ?=
VERSION ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),dev)

# Files that `make generate` writes and that are checked in.
GENERATED := api/admin/openapi.yaml

# The version comes from git describe above; Go's own stamp would fail in a checkout that
# belongs to another user. Flags the caller has set are kept.
GOFLAGS := $(shell $(GO) env GOFLAGS)
ifeq (,$(findstring -buildvcs,$(GOFLAGS)))
GOFLAGS += -buildvcs=false
endif
export GOFLAGS GENERATED

.DEFAULT_GOAL := build
.PHONY: build build-cgo test soak bench demo demo-breach fmt generate clean help

build: ## build bin/muster: one static binary (KMS=awskms,… adds key managers)
	@scripts/setup.sh build
	CGO_ENABLED=0 $(GO) build -trimpath -tags '$(KMS)' -ldflags '-s -w -X main.version=$(VERSION)' -o bin/muster ./cmd/muster

build-cgo: ## build bin/muster-cgo, which has PKCS#11 too (needs a C compiler)
	@scripts/setup.sh build
	CGO_ENABLED=1 $(GO) build -trimpath -tags '$(KMS)' -ldflags '-s -w -X main.version=$(VERSION)' -o bin/muster-cgo ./cmd/muster

test: ## everything CI checks, in some 17 minutes on two cores; installs what it needs when root
	@scripts/setup.sh test
	@scripts/test.sh

soak: ## the same, with the long tests and ten minutes of fuzzing
	@scripts/setup.sh test
	@MUSTER_SOAK=1 FUZZ_SECONDS=600 TEST_TIMEOUT=60m scripts/test.sh

bench: ## the figures and their goals (scripts/bench.sh says what to leave out)
	@scripts/setup.sh bench
	@scripts/bench.sh

demo: build ## a scripted tour of a fresh server
	@scripts/setup.sh demo
	@scripts/demo.sh

demo-breach: build ## a stolen intermediate, 10,000 devices, two hubs; and the time to contain
	@scripts/setup.sh breach
	@scripts/demo-breach.sh

fmt: ## format the Go code
	gofmt -w $$(find . \( -name node_modules -o -name '.?*' \) -prune -o -name '*.go' -type f -print)

generate: ## write generated files anew
	$(GO) generate ./...

clean: ## remove what make made (Go's caches stay)
	rm -rf bin .cache

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
