# Every target first runs tools/setup, which takes a fraction of a second when nothing is missing, and then the command
# that a person would type. `make` alone prints this list.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup ready host-given test test-integration test-integration-clean lint bench

# Passed on through the environment, because libtest accepts no options of its own. Unset stays unset.
export HOST SCENARIO
ifdef CERTS
export BOMA_IT_CERTS := $(CERTS)
endif
ifdef KEEP
export BOMA_IT_KEEP := $(KEEP)
endif

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | column -t -s $$'\t' 2>/dev/null \
	  || sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1: \2/p' Makefile

setup: ## packages, the Ansible venvs, libvirt's daemons; ends with a report
	@tools/setup

# The other targets call this: it prints one line when there is nothing to do.
ready:
	@tools/setup --brief

test: ready ## every test of the project, real trials included; SKIP="name ...": all but these
	cargo test $(if $(SKIP),-- --exact $(addprefix --skip ,$(SKIP)))

test-integration: host-given ready ## HOST=name [SCENARIO=name|all] [CERTS=tier] [KEEP=1]: the plain cycle of a host, or a scenario
	@# As in the driver, no scenario means the plain cycle. A filter that matches nothing would be a green run of no tests,
	@# so `plan` checks the names first.
	@case "$$SCENARIO" in \
	  all) set -- "$$HOST::"; plan= ;; \
	  '' | cycle) set -- --exact "$$HOST::cycle"; plan= ;; \
	  *) set -- --exact "$$HOST::$$SCENARIO"; plan=$$SCENARIO ;; esac; \
	  cargo it plan --host "$$HOST" $${plan:+--scenario "$$plan"} >/dev/null; \
	  set -x; cargo test --test integration -- "$$@"

host-given:
	@[ -n "$$HOST" ] || { echo 'make test-integration: expected HOST=name, as in: make test-integration HOST=askari' >&2; exit 2; }

test-integration-clean: ready ## destroy every boma-it-* VM and what belongs to it
	cargo test-integration-clean

lint: ready ## every lint of the project
	tools/lint

bench: ready ## the project's figures, measured here
	bench/run
