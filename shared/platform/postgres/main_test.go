package postgres_test

import (
	"log/slog"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

var migrations = fstest.MapFS{"migrations/00001_test.sql": {Data: []byte(`-- +goose Up
CREATE TABLE counters (name text PRIMARY KEY, n int NOT NULL CONSTRAINT small CHECK (n < 1000000));
INSERT INTO counters VALUES ('a', 0), ('b', 0);
CREATE TABLE leases (name text PRIMARY KEY, holder text NOT NULL, expires_at timestamptz NOT NULL);
`)}}

func database(t *testing.T) (db *pgxpool.Pool, url string) {
	t.Helper()
	url = testenv.Postgres(t, migrations)
	return open(t, url), url
}

func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Options{URL: url, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}
