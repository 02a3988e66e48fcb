package changerecord_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// The change that a message makes, in these tests: money on an account.
var migrations = fstest.MapFS{"migrations/00001_inbox.sql": {Data: []byte("-- +goose Up\n" + changerecord.Schema + `
CREATE TABLE accounts (name text PRIMARY KEY, balance int NOT NULL);
CREATE TABLE entries (id bigserial PRIMARY KEY, account text NOT NULL REFERENCES accounts, amount int NOT NULL);
INSERT INTO accounts VALUES ('acme', 0);
`)}}

const patience = 30 * time.Second // for what should take milliseconds, on a machine that is busy

func open(tb testing.TB) *pgxpool.Pool {
	tb.Helper()
	db, err := postgres.Open(context.Background(), postgres.Options{
		URL: testenv.Postgres(tb, migrations), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(db.Close)
	return db
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}
