package migrate_test

import (
	"context"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/failwell/shared/platform/postgres/migrate"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// An index of a large table is built CONCURRENTLY, which waits for every statement that is
// under way: a replica that waited for the lock inside the database would wait for the
// build, and the build for it: a deadlock that neither side can see.
func TestUp_ReplicasThatStartTogetherBuildAnIndexConcurrently(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		"migrations/00001_table.sql": {Data: []byte("-- +goose Up\nCREATE TABLE things (id int);\nINSERT INTO things SELECT generate_series(1, 300000);\n")},
		"migrations/00002_index.sql": {Data: []byte("-- +goose NO TRANSACTION\n-- +goose Up\nCREATE INDEX CONCURRENTLY things_id ON things (id);\n")},
	}
	url := testenv.Postgres(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var replicas errgroup.Group
	for range 4 {
		replicas.Go(func() error { return migrate.Up(ctx, url, files) })
	}
	if err := replicas.Wait(); err != nil {
		t.Error(err)
	}
}
