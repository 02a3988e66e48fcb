// Package large tests with large tables: what is right for ten rows must be
// right, and quick, for a million.
package large

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

var (
	system *stack.Stack
	acme   *shop.Shop
	truth  *audit.Databases
)

func TestMain(m *testing.M) {
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "large:", err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (int, error) {
	ctx := context.Background()
	started, err := world.Start(ctx, stack.Options{Out: os.Stderr, IgnoreGiven: true, Env: map[string][]string{
		stack.Payments: {"RECONCILE_GRACE=1h", "RECONCILE_OVERLAP=10m", "RECEIPT_POLL=1h"}, // the planted payments need no receipts
	}})
	if err != nil {
		return 1, err
	}
	defer started.Close()
	system, acme, truth = started.System, started.Shop, started.Truth
	return m.Run(), nil
}

func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// run executes statements one by one. Planting takes longer than the services'
// own statements may.
func run(ctx context.Context, t *testing.T, db *pgxpool.Pool, statements ...string) {
	t.Helper()
	conn, err := db.Acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for _, sql := range append([]string{`SET statement_timeout = 0`}, statements...) {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%v\n%s", err, sql)
		}
	}
}

// superuser opens a database as the server's own user.
func superuser(ctx context.Context, database string) (*pgxpool.Pool, error) {
	u, err := url.Parse(system.Servers.PostgresURL)
	if err != nil {
		return nil, err
	}
	u.Path = "/" + database
	return pgxpool.New(ctx, u.String())
}
