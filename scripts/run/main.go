// Command run runs the whole system as local processes until Ctrl-C, prints
// where everything is, and writes the addresses to .run/env.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"example.com/failwell/scripts/stack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "run:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	fmt.Println("Starting PostgreSQL, RabbitMQ, the sandbox and the three services …")
	s, err := stack.Start(ctx, stack.Options{Out: os.Stdout})
	if err != nil {
		return err
	}
	defer s.Close()

	path := filepath.Join(".run", "env")
	if err := writeEnv(path, s.Env()); err != nil {
		return err
	}
	defer os.Remove(path) //nolint:errcheck // addresses of processes that are gone; harmless if it stays

	fmt.Printf(`
Everything is up.

  orders    %[1]s
  payments  %[2]s
  ledger    %[3]s
  sandbox   %[4]s   (card processor, bank, a merchant's webhook endpoint)
  logs      %[5]s

Place an order (paste into another terminal, in this directory):

  set -a; . .run/env; set +a
  TOKEN=$(curl -s $SANDBOX_URL/v1/tokens -H 'Content-Type: application/json' -d '{"card":"4242424242424242"}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
  curl -si $ORDERS_URL/v1/orders -H "Authorization: Bearer $MERCHANT_KEY" -H 'Idempotency-Key: my-first-order' \
    -H 'Content-Type: application/json' \
    -d '{"customer_id":"cus_1","items":[{"sku":"mug","quantity":2}],"payment_token":"'$TOKEN'","callback_url":"'$SANDBOX_URL'/merchant/webhooks/mer_acme"}'

Send the last command again: the same answer, and Idempotent-Replayed: true.
Ctrl-C stops everything.
`, s.URL[stack.Orders], s.URL[stack.Payments], s.URL[stack.Ledger], s.URL[stack.Sandbox], s.Dir)

	<-ctx.Done()
	fmt.Println("\nStopping …")
	return nil
}

// writeEnv writes KEY='value' lines that a shell can source.
func writeEnv(path string, env map[string]string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // the lab's addresses are no secret
		return err
	}
	var lines []string
	for key, value := range env {
		lines = append(lines, fmt.Sprintf("%s='%s'\n", key, value))
	}
	slices.Sort(lines)
	return os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600)
}
