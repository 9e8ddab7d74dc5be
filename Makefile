# tuxwatch. Every target sets itself up; see README.md.
SHELL := /bin/bash
GO ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOFILES := $(shell git ls-files '*.go')
SCRIPTS := $(shell git ls-files scripts .ci | xargs -r grep -lE '^\#!.*(bash|/sh)' 2>/dev/null)
PYTHON := $(shell git ls-files '*.py' | grep -v '^models/')
RUFF := build/model-venv-test/bin/ruff
RUFFLAGS := --quiet --no-cache --config models/pyproject.toml
LDFLAGS := -s -w -X tuxwatch/firmware/version.release=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0

.PHONY: help build build-tensorflow run test test-device test-long check lint fuzz deb image flash qemu bench model clean

help: ## what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## programs in build/bin, with the TensorFlow Lite library in build/lib
	@scripts/setup build
	@mkdir -p build/bin
	@[ -e build/bin/tuxwatchd ] || echo 'building the programs (minutes, the first time)'
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o build/bin/ ./firmware/cmd/...

build-tensorflow: build ## the daemon with TensorFlow as well, for SavedModels on a workstation (setting runtime: savedmodel)
	@scripts/fetch-tensorflow
	. build/tensorflow/env && $(GO) build -trimpath -tags tensorflow -ldflags '$(LDFLAGS)' -o build/bin/ ./firmware/cmd/tuxwatchd

run: build ## everything on this machine: hub, daemon, simulated sensor, sample pictures (options: make run ARGS='--help')
	@scripts/run $(ARGS)

lint: ## formatting, vet, staticcheck, shellcheck, ruff, the model's Python tests
	@scripts/setup build check
	@unformatted=$$(gofmt -l $(GOFILES)); [ -z "$$unformatted" ] || { echo "gofmt: please format: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	shellcheck $(SCRIPTS)
	models/run check
	$(RUFF) check $(RUFFLAGS) $(PYTHON)
	$(RUFF) format --check $(RUFFLAGS) $(PYTHON)

check: build lint ## linters and the quick tests, race detector on (two minutes)
	$(GO) test -race -short ./...

test: build lint ## every test, booting the card image included (half an hour)
	@scripts/setup deb image emulator
	$(GO) test -race -timeout 30m $$($(GO) list ./... | grep -vE '^tuxwatch/scripts/(image|emulator)')
	@scripts/test-tensorflow
	@scripts/fuzz 10000x
	$(GO) test -race -short ./scripts/emulator/...
	@scripts/image/build --if-missing
	$(GO) test -timeout 40m ./scripts/image/...
	$(GO) test -v -timeout 60m -run '^TestDevice$$' ./scripts/emulator

test-device: build ## boots the image in the emulated Raspberry Pi, and goes through all that the device does (15 minutes)
	@scripts/setup deb image emulator
	@scripts/image/build --if-missing
	$(GO) test -v -timeout 60m ./scripts/emulator

fuzz: ## each fuzz target for a minute
	@scripts/fuzz 60s

test-long: test ## the long forms of the tests as well: 1000 kills, ten power cuts, two whole images, fuzzing for a minute each
	TUXWATCH_LONG=1 $(GO) test -race -timeout 120m ./scripts/e2e/... ./scripts/deb/...
	TUXWATCH_KILLS=60 $(GO) test -race -timeout 60m ./firmware/outbox/...
	TUXWATCH_LONG=1 $(GO) test -timeout 120m -p 1 ./scripts/image/... ./scripts/emulator/...
	@scripts/fuzz 60s

deb: ## Debian packages of the Raspberry Pi, in build (another processor: make deb ARCH=amd64)
	@scripts/setup build deb
	@scripts/build-deb --arch $(or $(ARCH),arm64)

image: ## the SD card image of the Raspberry Pi, in build (its options: scripts/image/build --help)
	@scripts/setup build deb image
	@scripts/image/build

flash: ## write the image to an SD card: make flash DEV=/dev/sdX
	@scripts/flash/run $(ARGS) $(if $(DEV),'$(DEV)' $(if $(IMAGE),'$(IMAGE)'),--list)

qemu: build ## boot the image here, as a Raspberry Pi with a sensor, a camera and a hub (options: make qemu ARGS='--help')
	@scripts/setup emulator
	@scripts/qemu $(ARGS)

bench: build ## speed and memory as ratios to named peers
	@scripts/setup bench
	@scripts/bench/run

model: ## train the released model again from openly licensed material
	@models/train

clean: ## remove everything that was built
	rm -rf build
