# Targets for people. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BUILD   := CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/postern-db/postern/internal/cli.version=$(VERSION)"

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the one static binary, bin/postern
	$(BUILD) -o bin/postern ./cmd/postern

.PHONY: demo
demo: demo-deps build ## see the main job done on a throwaway PostgreSQL; DEMO=scram: on one that asks for passwords
	./bin/postern demo $(if $(filter scram,$(DEMO)),--auth=password)

.PHONY: test
test: deps ## run the whole suite with the race detector, on PostgreSQL 13 to 18
	go test -race -timeout 20m ./...

.PHONY: chaos
chaos: deps ## let everything break for CHAOS_SECONDS=300, as CHAOS_SEED says
	CHAOS_SECONDS=$(or $(CHAOS_SECONDS),300) CHAOS_SEED=$(CHAOS_SEED) go test -race -count 1 -v -timeout 0 ./internal/chaos

.PHONY: check
check: bin/golangci-lint ## format and lint
	bin/golangci-lint run ./...
	go mod verify

.PHONY: bench
bench: deps ## run the benchmarks
	tools/bench.sh

.PHONY: fuzz
fuzz: ## fuzz every decoder of untrusted bytes, FUZZTIME=1m each
	tools/fuzz.sh $(or $(FUZZTIME),1m)

.PHONY: docs
docs: ## regenerate the reference pages that tests keep current
	go test ./internal/cli ./internal/hub -run 'Current$$' -update

.PHONY: deps
deps: ## install what the tests need: PostgreSQL 13 to 18, clients of several languages, a C compiler, openssl
	tools/pg/install.sh all
	tools/clients/install.sh

.PHONY: demo-deps
demo-deps:
	tools/pg/install.sh debian

bin/golangci-lint: tools/golangci-lint.mod tools/golangci-lint.sum
	@echo "building golangci-lint (once)"
	go build -modfile=tools/golangci-lint.mod -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@
