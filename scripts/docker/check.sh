#!/usr/bin/env bash
# The container check that continuous integration runs: build, up to healthy, an
# order through it, a container whose process dies and comes back, and down; with the
# fourth service of docs/fork.md beside the three, added as it says there. A private
# engine and local stand-ins are used where there is no engine or no
# registry. One line a step; always cleans up; the last line of a failure says why.
set -Eeuo pipefail
cd "$(dirname "$0")/../.."
began=$SECONDS
step() { printf '%4ds  %s\n' $((SECONDS - began)) "$*"; }
reason=
die() { reason=$*; exit 1; }
trap 'reason=${reason:-"line $LINENO: $BASH_COMMAND"}' ERR

# try WHAT COMMAND…: runs it quietly; when it fails, shows what it said.
try() {
  local what=$1
  shift
  if ! "$@" >"$work/said" 2>&1; then
    tail -n 60 "$work/said"
    die "$what: $* (its output is above)"
  fi
}

own_engine=
root=$PWD
work=$(mktemp -d)
# Ports other than the defaults and a name of our own: a system that is up is left alone.
export COMPOSE_PROJECT_NAME=failwell-check
export LAB_PORT=18080 ORDERS_PORT=18090-18099 PAYMENTS_PORT=18082 LEDGER_PORT=18083 SANDBOX_PORT=18084 LOYALTY_PORT=18085 RABBITMQ_PORT=18672 GRAFANA_PORT=18300 PROMETHEUS_PORT=18309

# states shows each container: whether it lives, and what it died of.
states() {
  local id
  for id in $(docker ps -aq --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME"); do
    docker inspect -f '{{.Name}}: {{.State.Status}}, exit code {{.State.ExitCode}}, out of memory {{.State.OOMKilled}}, {{.RestartCount}} restarts{{if .State.Health}}, {{.State.Health.Status}}{{end}}{{if .State.Error}}, {{.State.Error}}{{end}}' "$id"
    docker inspect -f '{{if .State.Health}}{{range .State.Health.Log}}{{if .ExitCode}}    health check: {{.Output}}{{end}}{{end}}{{end}}' "$id" | grep . | tail -n 1 || true
  done
}
cleanup() {
  status=$?
  trap - ERR
  set +e
  docker rm -f failwell-check-door >/dev/null 2>&1
  if [ "$status" -ne 0 ] && docker info >/dev/null 2>&1; then
    scripts/docker/compose.sh logs --tail 15 2>&1 | cut -c1-300
    states
  fi
  scripts/docker/compose.sh down >"$work/down" 2>&1 || [ "$status" -eq 0 ] || tail -n 5 "$work/down"
  # Kept: the images in it, so that the next run need not build them again.
  [ -z "$own_engine" ] || scripts/docker/engine.sh stop keep
  rm -rf "$work"
  [ "$status" -eq 0 ] || step "FAILED: ${reason:-status $status}"
  exit "$status"
}
trap cleanup EXIT

if ! docker info >/dev/null 2>&1; then
  vars=$(scripts/docker/engine.sh start) || die "no Docker engine, and none can be started"
  eval "$vars"
  own_engine=yes
  step "private Docker engine $(docker version -f '{{.Server.Version}}')"
fi
postgres=$(sed -n 's/.*{POSTGRES_IMAGE:-\([^}]*\)}.*/\1/p' docker-compose.yml)
if ! docker image inspect "$postgres" >/dev/null 2>&1 && ! timeout 60 docker pull -q "$postgres" >"$work/pull" 2>&1; then
  vars=$(scripts/docker/standins.sh 2>"$work/standins") || { tail -n 20 "$work/standins"; die "neither a registry ($(tail -n 1 "$work/pull")) nor stand-ins"; }
  eval "$vars"
  step "no registry ($(tail -n 1 "$work/pull" | cut -c1-100)): stand-ins $POSTGRES_IMAGE $RABBITMQ_IMAGE $BUILDER_IMAGE"
fi

# The fourth service goes into a copy, and all images are built from that: a second
# build for it alone would compile everything once more.
scripts/docker/fourth.sh "$work/copy"
cd "$work/copy"
# Orders believe one more authority than the public ones: the one of the https callback.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=check -addext subjectAltName=DNS:sandbox \
  -keyout "$work/key.pem" -out "$work/cert.pem" 2>"$work/said" || { cat "$work/said"; die "no certificate"; }
chmod 644 "$work/key.pem" && chmod 755 "$work" # for the container's user
printf 'services: {orders: {volumes: ["%s/cert.pem:/etc/ssl/certs/check.pem:ro"]}}\n' "$work" >docker-compose.override.yml
step "a fourth service, as docs/fork.md adds it"

try "what an earlier run left" scripts/docker/compose.sh down
try "build" scripts/docker/compose.sh build
step "images built: $(docker image inspect -f '{{.Size}}' failwell/orders | awk '{printf "%.0f MB", $1/1e6}') for orders"
try "not healthy" scripts/docker/compose.sh up
step "all healthy"

key=$(sed -n 's/^MERCHANTS=[^:]*:\([^:]*\):.*/\1/p' scripts/lab.env)
# The port that was taken out of the range.
orders=http://$(docker port "$(scripts/docker/compose.sh ps -q orders)" 8080 | head -n 1)
callback=http://sandbox:8080
run=$(date +%s)-$$ # keys that no earlier run has used
# ask METHOD URL…: the answer's body; where it is an error, that is shown.
ask() { curl -sS --fail-with-body --max-time 30 -X "$@" || { echo "(curl: $?, $2)" >&2; return 1; }; }
order() { # order IDEMPOTENCY_KEY: prints the order's id
  local token answer
  answer=$(ask POST "http://127.0.0.1:$SANDBOX_PORT/v1/tokens" -H 'Content-Type: application/json' -d '{"card":"4242424242424242"}') || { echo "$answer" >&2; return 1; }
  token=$(sed 's/.*"token":"\([^"]*\)".*/\1/' <<<"$answer")
  answer=$(ask POST "$orders/v1/orders" -H "Authorization: Bearer $key" -H "Idempotency-Key: $1" \
    -H 'Content-Type: application/json' \
    -d '{"customer_id":"cus_1","items":[{"sku":"mug","quantity":1}],"payment_token":"'"$token"'","callback_url":"'$callback'/merchant/webhooks/mer_acme"}') || { echo "$answer" >&2; return 1; }
  sed 's/.*"id":"\(ord_[^"]*\)".*/\1/' <<<"$answer"
}
# within SECONDS WANTED URL…: asks until the answer contains it; shows the last answer otherwise.
within() {
  local deadline=$((SECONDS + $1)) wanted=$2 answer=
  shift 2
  while [ "$SECONDS" -lt "$deadline" ]; do
    answer=$(ask GET "$@" 2>&1) || true
    case $answer in *"$wanted"*) return 0 ;; esac
    sleep 0.2
  done
  echo "no $wanted in: $answer"
  return 1
}
confirmed() { within 120 '"status":"confirmed"' "$orders/v1/orders/$1" -H "Authorization: Bearer $key"; }

first=$(order "check-$run-1") || die "order not accepted"
confirmed "$first" || die "order $first not confirmed within 120 s"
step "an order went through: $first"
within 60 '"signature_valid":true' "http://127.0.0.1:$SANDBOX_PORT/merchant/callbacks?order_id=$first" || die "no callback for $first within 60 s"
step "the merchant was called back"

if grep -q '^  lab:$' docker-compose.yml; then # a fork may have no live page
  # The page's stream of the order: its recording has begun with it.
  within 30 '"log of ledger":""' "http://127.0.0.1:$LAB_PORT/api/events" --max-time 3 || die "the live page does not watch"
  step "the live page reads the databases' logs, the broker's copies and the sandbox's calls"
  page=http://127.0.0.1:$LAB_PORT
  placed=$(ask POST "$page/api/order" -H "Origin: $page" -H 'Content-Type: application/json' -d '{"card":"4242424242424242","sku":"mug","quantity":1}') || die "the live page places no order: $placed"
  case $placed in *'"status":202'*) ;; *) die "the live page's order is not accepted: $placed" ;; esac
  within 30 '"reconciliation"' "$page/api/operator" || die "the live page does not know what waits for a person"
  step "the live page places an order, and knows what waits for a person"
fi
within 60 '{"orders":1,"points":12}' "http://127.0.0.1:$LOYALTY_PORT/v1/points" -H "Authorization: Bearer $key" || die "no points for $first within 60 s"
step "the fourth service gave points for it"

# The same over TLS: the sandbox's own network gets a second door, on 8443. It is ours from
# end to end; no request leaves the network of these containers.
authorities=$(docker cp "$(scripts/docker/compose.sh ps -q orders)":/etc/ssl/certs/ca-certificates.crt - | tar -xO | grep -c BEGIN)
[ "$authorities" -gt 100 ] || die "the image believes $authorities authorities"
mkdir "$work/door"
cat >"$work/door/main.go" <<'GO'
package main

import (
	"net/http"
	"net/http/httputil"
	"net/url"
)

func main() {
	to := &url.URL{Scheme: "http", Host: "127.0.0.1:8080"}
	panic(http.ListenAndServeTLS(":8443", "/tls/cert.pem", "/tls/key.pem", httputil.NewSingleHostReverseProxy(to)))
}
GO
try "door" env CGO_ENABLED=0 go build -o "$work/door/door" "$work/door/main.go"
try "door" docker run -d --rm --name failwell-check-door --network "container:$(scripts/docker/compose.sh ps -q sandbox)" -v "$work:/tls:ro" --entrypoint /tls/door/door failwell/orders
callback=https://sandbox:8443
over=$(order "check-$run-tls") || die "order not accepted"
within 60 '"signature_valid":true' "http://127.0.0.1:$SANDBOX_PORT/merchant/callbacks?order_id=$over" || die "no https callback for $over within 60 s"
docker rm -f failwell-check-door >/dev/null
callback=http://sandbox:8080
step "and over https, by $authorities authorities and one of ours"

try "two processes of orders" scripts/docker/compose.sh up --scale orders=2
[ "$(scripts/docker/compose.sh ps -q orders | wc -l)" -eq 2 ] || die "there are not two processes of orders"
try "one again" scripts/docker/compose.sh up --scale orders=1
step "two processes of orders, each with its port"

container=$(scripts/docker/compose.sh ps -q payments)
before=$(docker inspect -f '{{.RestartCount}}' "$container")
ask PUT "http://127.0.0.1:$PAYMENTS_PORT/lab/faults" -d '{"point":"payments.authorise.after-processor","action":"crash"}' >"$work/said" || { cat "$work/said"; die "the crash cannot be ordered"; }
second=$(order "check-$run-2") || die "order not accepted"
confirmed "$second" || die "order $second not confirmed within 120 s of the crash"
after=$(docker inspect -f '{{.RestartCount}}' "$container")
[ "$after" -gt "$before" ] || die "the container did not die"
step "payments died with the answer in its hands, came back (restarts $before -> $after), and the order went through"
if [ "$(docker inspect -f '{{.Config.User}}' "$container")" != 65534:65534 ]; then die "a service runs as root"; fi

# Prometheus and Grafana, where their image can be had.
observe=$(sed -n 's/.*{OBSERVE_IMAGE:-\([^}]*\)}.*/\1/p' docker-compose.yml)
observe_here() {
  docker image inspect "$observe" >/dev/null 2>&1 && return
  [ -z "${POSTGRES_IMAGE:-}" ] && timeout 300 docker pull -q "$observe" >"$work/pull" 2>&1 # with stand-ins there is no registry
}
if observe_here; then
  try "observe" scripts/docker/compose.sh --profile observe up -d observe
  for _ in $(seq 1 120); do
    boards=$(curl -fs "http://127.0.0.1:$GRAFANA_PORT/api/search?query=&type=dash-db" | grep -o '"uid":"failwell-[a-z]*"' | sort -u | wc -l) || true
    targets=$(curl -fs "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/targets" | grep -o '"health":"up"' | wc -l) || true
    alarms=$(curl -fs "http://127.0.0.1:$PROMETHEUS_PORT/api/v1/rules" | grep -o '"type":"alerting"' | wc -l) || true
    [ "$boards/$targets/$alarms" != "3/3/$(grep -c 'alert:' scripts/observe/rules.yml)" ] || break
    sleep 1
  done
  [ "$boards/$targets" = 3/3 ] && [ "$alarms" -gt 0 ] || die "observe: $boards dashboards, $targets targets that are up, $alarms alarms"
  step "observe: 3 dashboards, 3 targets, $alarms alarms"
else
  step "observe: not run, $observe is not here and cannot be had"
fi

try "down" scripts/docker/compose.sh down
[ -z "$(docker ps -aq --filter name=failwell)" ] || { docker ps -a; die "containers left behind"; }
step "down"
cd "$root"

# The file for production: refuses to start without its settings, and knows nothing of the lab.
plain() { env -i PATH="$PATH" HOME="$HOME" DOCKER_HOST="${DOCKER_HOST:-}" "$@" "$root/scripts/docker/compose.sh" -f scripts/docker/production.yml config >"$work/said" 2>&1; }
if plain; then die "production.yml starts without settings"; fi
grep -q IMAGES "$work/said" || { cat "$work/said"; die "production.yml does not say what is missing"; }
given=()
for name in $(grep -o '\${[A-Z_]*:?' scripts/docker/production.yml | tr -d '${:?'); do given+=("$name=x"); done
plain "${given[@]}" || { cat "$work/said"; die "production.yml"; }
if grep -iE 'lab|fault|sandbox|private' "$work/said"; then die "production.yml has something of the lab"; fi
step "production.yml: without its settings it refuses, with them nothing of the lab is in it"

if [ -f .devcontainer/setup.sh ]; then # a fork may have none
  # The dev container's script, in a Debian with Go. What is compiled already need not be again.
  builder=${BUILDER_IMAGE:-$(sed -n 's/.*{BUILDER_IMAGE:-\([^}]*\)}.*/\1/p' docker-compose.yml | head -n 1)}
  try "dev container" docker run --rm --network host -v "$work/copy:$root" -v "$(go env GOCACHE):/root/.cache/go-build" -v "$(go env GOMODCACHE):/root/go/pkg/mod" \
    -w "$root" "$builder" bash .devcontainer/setup.sh
  grep -q 'Every invariant held' "$work/said" || { tail "$work/said"; die "the dev container's demo does not say that it held"; }
  step "the dev container's script: $(tail -n 1 "$work/said")"
fi

# The same images serve the tests through dockertest. After the others: two brokers at
# once are more than a small machine starts in time.
export FAILWELL_REQUIRE_DOCKER=1
try "dockertest" go test -count=1 -run TestContainers ./shared/testenv
step "PostgreSQL and RabbitMQ for tests, through dockertest"
