#!/usr/bin/env bash
# The container check that continuous integration runs: build, up to healthy, an
# order through it, a container whose process dies and comes back, and down. A
# private engine and local stand-ins are used where there is no engine or no
# registry. One line a step; always cleans up.
set -euo pipefail
cd "$(dirname "$0")/../.."
began=$SECONDS
step() { printf '%4ds  %s\n' $((SECONDS - began)) "$*"; }
die() { step "FAILED: $*"; exit 1; }

own_engine=
cleanup() {
  status=$?
  if [ "$status" -ne 0 ] && docker info >/dev/null 2>&1; then
    scripts/docker/compose.sh ps || true
    scripts/docker/compose.sh logs --tail 15 2>&1 | cut -c1-300 || true
  fi
  scripts/docker/compose.sh down >/dev/null 2>&1 || true
  # Kept: the images in it, so that the next run need not build them again.
  [ -z "$own_engine" ] || scripts/docker/engine.sh stop keep
  exit "$status"
}
trap cleanup EXIT

if ! docker info >/dev/null 2>&1; then
  eval "$(scripts/docker/engine.sh start)"
  own_engine=yes
  step "private Docker engine $(docker version -f '{{.Server.Version}}')"
fi
if ! docker image inspect postgres:18.1 >/dev/null 2>&1 && ! timeout 60 docker pull -q postgres:18.1 >/dev/null 2>&1; then
  eval "$(scripts/docker/standins.sh 2>/dev/null)"
  step "no registry: stand-ins $POSTGRES_IMAGE $RABBITMQ_IMAGE $BUILDER_IMAGE"
fi

# Other ports than the defaults, so that a system that is up is left alone.
export COMPOSE_PROJECT_NAME=failwell-check
export ORDERS_PORT=18081 PAYMENTS_PORT=18082 LEDGER_PORT=18083 SANDBOX_PORT=18084 RABBITMQ_PORT=18672
scripts/docker/compose.sh build >/dev/null 2>&1 || scripts/docker/compose.sh build || die "build"
step "images built: $(docker image inspect -f '{{.Size}}' failwell/orders | awk '{printf "%.0f MB", $1/1e6}') for orders"
scripts/docker/compose.sh up >/dev/null 2>&1 || die "not healthy"
step "all healthy"

key=sk_lab_acme
order() { # order IDEMPOTENCY_KEY: prints the order's id
  local token
  token=$(curl -fsS "http://127.0.0.1:$SANDBOX_PORT/v1/tokens" -H 'Content-Type: application/json' \
    -d '{"card":"4242424242424242"}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
  curl -fsS "http://127.0.0.1:$ORDERS_PORT/v1/orders" -H "Authorization: Bearer $key" -H "Idempotency-Key: $1" \
    -H 'Content-Type: application/json' \
    -d '{"customer_id":"cus_1","items":[{"sku":"mug","quantity":1}],"payment_token":"'"$token"'","callback_url":"http://sandbox:8080/merchant/webhooks/mer_acme"}' |
    sed 's/.*"id":"\(ord_[^"]*\)".*/\1/'
}
confirmed() { # confirmed ORDER: waits for its end
  for _ in $(seq 1 300); do
    curl -fsS "http://127.0.0.1:$ORDERS_PORT/v1/orders/$1" -H "Authorization: Bearer $key" | grep -q '"status":"confirmed"' && return
    sleep 0.1
  done
  return 1
}
first=$(order check-1) || die "order not accepted"
confirmed "$first" || die "order not confirmed"
step "an order went through: $first"
for _ in $(seq 1 100); do
  curl -fsS "http://127.0.0.1:$SANDBOX_PORT/merchant/callbacks?order_id=$first" | grep -q '"signature_valid":true' && break
  sleep 0.1
done
curl -fsS "http://127.0.0.1:$SANDBOX_PORT/merchant/callbacks?order_id=$first" | grep -q '"signature_valid":true' || die "no callback"
step "the merchant was called back"

container=$(scripts/docker/compose.sh ps -q payments)
before=$(docker inspect -f '{{.RestartCount}}' "$container")
curl -fsS -X PUT "http://127.0.0.1:$PAYMENTS_PORT/lab/faults" -d '{"point":"payments.authorise.after-processor","action":"crash"}' >/dev/null
second=$(order check-2) || die "order not accepted"
confirmed "$second" || die "order not confirmed after the crash"
after=$(docker inspect -f '{{.RestartCount}}' "$container")
[ "$after" -gt "$before" ] || die "the container did not die"
step "payments died with the answer in its hands, came back (restarts $before -> $after), and the order went through"
if [ "$(docker inspect -f '{{.Config.User}}' "$container")" != 65534:65534 ]; then die "a service runs as root"; fi

# The same images serve the tests through dockertest.
FAILWELL_REQUIRE_DOCKER=1 go test -count=1 -run TestContainers ./shared/platform/testenv >/dev/null || die "dockertest"
step "PostgreSQL and RabbitMQ for tests, through dockertest"
scripts/docker/compose.sh down >/dev/null 2>&1
[ -z "$(docker ps -aq)" ] || [ -z "$own_engine" ] || die "containers left behind"
step "down"
