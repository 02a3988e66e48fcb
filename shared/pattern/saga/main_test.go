package saga_test

import (
	"context"
	_ "embed"
	"log/slog"
	"os"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

//go:embed schema.sql
var schema string

// database is one of a test's own, with the tables of this package and of those that
// it is built on.
func database(t testing.TB) *pgxpool.Pool {
	t.Helper()
	tables := "-- +goose Up\n" + schema
	for _, other := range []string{"../outbox/schema.sql", "../changerecord/schema.sql"} {
		text, err := os.ReadFile(other)
		if err != nil {
			t.Fatal(err)
		}
		tables += string(text)
	}
	files := fstest.MapFS{"migrations/00001_test.sql": {Data: []byte(tables)}}
	db, err := postgres.Open(context.Background(), postgres.Options{URL: testenv.Postgres(t, files), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}
