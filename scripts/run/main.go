// Command run runs the whole system as local processes until Ctrl-C, prints
// where everything is, and writes the addresses to .run/env.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"example.com/failwell/scripts/command"
	"example.com/failwell/scripts/stack"
	"example.com/failwell/shared/testenv"
)

func main() { command.Main("run", run) }

func run(ctx context.Context) error {
	// One in a directory: a second one would overwrite the addresses of the first, and
	// take them away when it ends.
	unlock, err := lock(".run")
	if err != nil {
		return err
	}
	defer unlock()

	fmt.Printf("Starting PostgreSQL, RabbitMQ, %s …\n", strings.Join(stack.Processes, ", "))
	opts := stack.Options{Out: os.Stdout, Env: tracesAsSet()}
	serve := func(context.Context, *stack.Stack) (string, func(), error) { return "", func() {}, nil }
	if livePage != nil {
		serve = livePage(&opts)
	}
	s, err := stack.Start(ctx, opts)
	if err != nil {
		return err
	}
	defer s.Close()
	page, closePage, err := serve(ctx, s)
	if err != nil {
		return err
	}
	defer closePage()

	path, env := filepath.Join(".run", "env"), s.Env()
	if page != "" {
		env["LAB_URL"] = page
	}
	if err := writeEnv(path, env); err != nil {
		return err
	}
	defer os.Remove(path) //nolint:errcheck // addresses of processes that are gone; harmless if it stays
	if err := writeRequests(filepath.Join(".run", "requests.http"), s.Env()); err != nil {
		return err
	}

	fmt.Print("\nEverything is up.\n\n")
	for _, name := range stack.Processes {
		fmt.Printf("  %-9s %s\n", name, s.URL[name])
	}
	fmt.Printf("  %-9s %s\n", "logs", s.Dir)
	if page != "" {
		fmt.Printf("\nSee it, and break it: %s\n", page)
	}
	fmt.Print(howToOrder)
	fmt.Println("Ctrl-C stops everything.")

	<-ctx.Done()
	fmt.Println("\nStopping …")
	return nil
}

// tracesAsSet gives the services what is set here of OpenTelemetry's variables: docs/traces.md.
func tracesAsSet() map[string][]string {
	set := slices.DeleteFunc(os.Environ(), func(variable string) bool { return !strings.HasPrefix(variable, "OTEL_") })
	env := map[string][]string{}
	for _, service := range stack.Services {
		env[service] = set
	}
	return env
}

// livePage is the lab's page in the browser: told of the stack before it starts, and
// served once it runs. nil where live.go is missing, as in a fork without the lab.
var livePage func(*stack.Options) (serve func(context.Context, *stack.Stack) (url string, end func(), err error))

// howToOrder is what to type next.
const howToOrder = `
Place an order (paste into another terminal, in this directory):

  set -a; . .run/env; set +a
  TOKEN=$(curl -s $SANDBOX_URL/v1/tokens -H 'Content-Type: application/json' -d '{"card":"4242424242424242"}' | sed 's/.*"token":"\([^"]*\)".*/\1/')
  curl -si $ORDERS_URL/v1/orders -H "Authorization: Bearer $MERCHANT_KEY" -H 'Idempotency-Key: my-first-order' \
    -H 'Content-Type: application/json' \
    -d '{"customer_id":"cus_1","items":[{"sku":"mug","quantity":2}],"payment_token":"'$TOKEN'","callback_url":"'$SANDBOX_URL'/merchant/webhooks/mer_acme"}'

Send the last command again: the same answer, and Idempotent-Replayed: true.
More to send, in an editor: .run/requests.http
`

// lock makes the directory ours until unlock, or until we die.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // the lab's addresses are no secret
		return nil, err
	}
	file, err := testenv.Lock(filepath.Join(dir, "lock"), false)
	if err != nil {
		return nil, fmt.Errorf("the system is running already from this directory, its addresses are in %s; stop that one first (Ctrl-C), or copy the repository (%w)",
			filepath.Join(dir, "env"), err)
	}
	return func() { _ = file.Close() }, nil
}

// writeRequests writes docs/requests.http with the addresses of this run.
func writeRequests(path string, env map[string]string) error {
	text, err := os.ReadFile(filepath.Join("docs", "requests.http"))
	if err != nil {
		return err
	}
	env["MERCHANT_ENDPOINT"] = env["SANDBOX_URL"]
	for name, value := range env {
		text = regexp.MustCompile(`(?m)^@`+name+` = .*`).ReplaceAllLiteral(text, []byte("@"+name+" = "+value))
	}
	return os.WriteFile(path, text, 0o644) //nolint:gosec // the lab's addresses and keys are no secret
}

// writeEnv writes KEY='value' lines that a shell can source.
func writeEnv(path string, env map[string]string) error {
	var lines []string
	for key, value := range env {
		lines = append(lines, fmt.Sprintf("%s='%s'\n", key, value))
	}
	slices.Sort(lines)
	return os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600)
}
