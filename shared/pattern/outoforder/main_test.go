package outoforder_test

import (
	"log/slog"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/outoforder"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// database is one of a test's own, with the package's tables.
func database(t *testing.T, more string) *pgxpool.Pool {
	t.Helper()
	files := fstest.MapFS{"migrations/00001_test.sql": {Data: []byte("-- +goose Up\n" + outoforder.Schema + more)}}
	db, err := postgres.Open(t.Context(), postgres.Options{URL: testenv.Postgres(t, files), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}
