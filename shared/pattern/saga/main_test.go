package saga_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// database is one of a test's own, with the tables of this package and of those that
// it is built on.
func database(t testing.TB) *pgxpool.Pool {
	t.Helper()
	tables := saga.Schema + outbox.Schema + changerecord.Schema
	files := fstest.MapFS{"migrations/00001_test.sql": {Data: []byte("-- +goose Up\n" + tables)}}
	db, err := postgres.Open(context.Background(), postgres.Options{URL: testenv.Postgres(t, files), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}
