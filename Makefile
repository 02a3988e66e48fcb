# Everything starts here: `make help`.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

# Packages whose tests are long, and packages whose tests only read or start other programs:
# the race detector sees one process, and nothing in theirs can race.
LONG := scripts/(e2e|large|fork|live/browser)
ALONE := scripts/(catalogue|lab/exercises|lab/experiments/edits)

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z][a-z-]*:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install PostgreSQL and RabbitMQ if neither they nor a Docker engine are here (Debian, Ubuntu).
	@scripts/deps.sh

.PHONY: demo
demo: deps ## Guided tour: orders, crashes, retries, and the verdict. Under a minute.
	@go run ./scripts/demo

.PHONY: run
run: deps ## The whole system as local processes, until Ctrl-C.
	@go run ./scripts/run

.PHONY: test
test: deps ## The tests, on a real PostgreSQL and RabbitMQ. Under five minutes.
	@go run ./scripts/testenv -- go test -timeout 10m $$(go list ./... | grep -vE '/$(LONG)$$')

.PHONY: test-long
test-long: deps ## The rest: a crash at every fault point, large tables, whole forks, the live page in a browser; and make test's with the race detector. About a quarter of an hour.
	@scripts/deps.sh pgbouncer || echo "without PgBouncer, its test is skipped"
	@long=$$(go list ./... | grep -E '/$(LONG)$$') || exit 0; go run ./scripts/testenv -- go test -timeout 30m $$long # a fork has none
	@go run ./scripts/testenv -- go test -race -timeout 20m $$(go list ./... | grep -vE '/($(LONG)|$(ALONE))$$')

.PHONY: tools
tools: ## Fetch and build the linters.
	@for tool in $(GOLANGCI_LINT) $(ACTIONLINT); do go run $$tool --version; done

.PHONY: lint
lint: ## gofmt, go vet, golangci-lint (import arrows included), actionlint. The first time it compiles golangci-lint, which takes minutes.
	@test -z "$$(gofmt -l services shared scripts)" || { echo "not gofmt clean:"; gofmt -l services shared scripts; exit 1; }
	@go vet ./...
	@go run $(GOLANGCI_LINT) run
	@go run $(ACTIONLINT)

.PHONY: vet-others
vet-others: ## What can be known here of macOS and Windows: vet all of it, build the services.
	@for os in darwin windows; do GOOS=$$os go vet ./...; GOOS=$$os go build ./services/...; done

.PHONY: vulncheck
vulncheck: ## Hold what we call in other modules against the Go vulnerability database (vuln.go.dev).
	@go run $(GOVULNCHECK) ./...

.PHONY: dist
dist: ## Build conform and ops for Linux, macOS and Windows into bin/dist, with their checksums.
	@rm -rf bin/dist; mkdir -p bin/dist
	@for command in conform ops; do \
		test -d scripts/$$command || continue; \
		for target in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64; do \
			export CGO_ENABLED=0 GOOS=$${target%/*} GOARCH=$${target#*/}; \
			go build -trimpath -ldflags="-s -w" -o bin/dist/$$command-$$GOOS-$$GOARCH$$(go env GOEXE) ./scripts/$$command; \
		done; \
	done
	@cd bin/dist && sha256sum * >SHA256SUMS

.PHONY: up
up: ## docker compose: build and start everything, wait until healthy.
	@scripts/docker/compose.sh up

.PHONY: down
down: ## docker compose: stop everything and remove its data.
	@scripts/docker/compose.sh down

.PHONY: check-containers
check-containers: ## The containers: build, healthy, an order, a crash, down. With a private engine where none runs (root, Debian).
	@scripts/docker/check.sh

.PHONY: lab
lab: deps ## 24 experiments: each pattern taken away by an edit, one client and one real fault against both systems; and each page as it was run. Two minutes.
	@go run ./scripts/lab run all --compare docs/patterns

.PHONY: sweep
sweep: deps ## Crash, failure and delay at every fault point; then the audit. About five minutes.
	@go run ./scripts/lab sweep --report docs/sweep.md

.PHONY: alarms
alarms: deps ## Provoke the failure of each alarm, with Debian's Prometheus: it sounds, and no other. About six minutes.
	@scripts/deps.sh prometheus
	@go run ./scripts/observe --report docs/alarms.md

.PHONY: bench
bench: deps ## Measure beside the limit of this machine. About twenty minutes; BENCH=quick: two minutes.
	@go run ./scripts/bench $(if $(filter quick,$(BENCH)),--quick,--report docs/performance.md)

.PHONY: mutants
mutants: deps ## Take patterns out of the source, and see that the audit turns red.
	@go run ./scripts/lab mutants

.PHONY: record
record: deps ## Bring every bug of docs/track-record.md back, and see that its test finds it.
	@go run ./scripts/testenv -- go run ./scripts/lab record

.PHONY: exercise
exercise: ## The course (docs/course): begin an exercise, a copy of the tree with a bug in it: make exercise N=1.
	@go run ./scripts/lab exercise "$(N)"

.PHONY: check
check: deps ## The course: check what you made of it: make check N=1.
	@go run ./scripts/lab check "$(N)"

.PHONY: course
course: deps ## Prove the course's exercises: each red with its bug, green without it.
	@go run ./scripts/testenv -- go run ./scripts/lab exercises

.PHONY: conform
conform: deps ## Hold our endpoints against the published cases for idempotency keys and webhooks.
	@go run ./scripts/lab conform

.PHONY: fork
fork: ## Copy it all under another name: make fork MODULE=github.com/acme/pay NAME=pay [WITHOUT=lab,demo,bench,e2e,containers].
	@go run ./scripts/fork --module "$(MODULE)" --name "$(NAME)" $(if $(DIR),--dir "$(DIR)") $(if $(WITHOUT),--without "$(WITHOUT)")

.PHONY: catalogue
catalogue: ## Check that every pattern leads to its page, its experiment and its code, and every page shows the code as it is.
	@go run ./scripts/catalogue check

.PHONY: chaos
chaos: deps ## 200 orders while services, database and broker are being killed; then the audit.
	@go run ./scripts/lab chaos --orders 200 $(CHAOS)
