package storeref_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"example.com/failwell/shared/pattern/storeref"
	"example.com/failwell/shared/platform/postgres"
)

const documents = `
CREATE TABLE documents (
    id               int         PRIMARY KEY,
    name             text        NOT NULL,
    referenced_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    reference_before timestamptz NOT NULL,
    CONSTRAINT in_time CHECK (referenced_at <= reference_before)
);`

func newStore(t *testing.T) storeref.Store {
	t.Helper()
	bucket := memblob.OpenBucket(nil)
	t.Cleanup(func() { _ = bucket.Close() })
	return storeref.Store{Bucket: bucket, Dir: "receipts", Grace: time.Hour}
}

func put(t *testing.T, s storeref.Store, at time.Time, body string) storeref.Ref {
	t.Helper()
	ref, err := s.Put(t.Context(), at, "text/plain", []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func reference(t *testing.T, db *pgxpool.Pool, id int, ref storeref.Ref) error {
	t.Helper()
	_, err := db.Exec(t.Context(), `INSERT INTO documents (id, name, reference_before) VALUES ($1, $2, $3)`, id, ref.Name, ref.Before)
	return err
}

func sweep(t *testing.T, s storeref.Store, db *pgxpool.Pool, limit int) int64 {
	t.Helper()
	removed, err := s.Sweep(t.Context(), db, limit, func(ctx context.Context, names []string) (map[string]bool, error) {
		return storeref.Known(db.Query(ctx, `SELECT name FROM documents WHERE name = ANY($1)`, names))
	})
	if err != nil {
		t.Fatal(err)
	}
	return removed
}

func stored(t *testing.T, s storeref.Store, name string) bool {
	t.Helper()
	ok, err := s.Bucket.Exists(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestADocumentNeverChangesUnderItsReader(t *testing.T) {
	t.Parallel()
	s, now := newStore(t), time.Now()
	first, second := put(t, s, now, "first"), put(t, s, now, "second")
	for _, c := range []struct {
		ref  storeref.Ref
		want string
	}{{first, "first"}, {second, "second"}} {
		if got, err := s.Get(t.Context(), c.ref.Name); err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", c.ref.Name, got, err)
		}
	}
}

func TestOnlyOldDocumentsWithoutAReferenceGo(t *testing.T) {
	t.Parallel()
	db, s := database(t, documents), newStore(t)
	old, now := time.Now().Add(-5*time.Hour), time.Now()
	orphan, kept := put(t, s, old, "orphan"), put(t, s, old, "kept")
	young := put(t, s, now.Add(10*time.Second-s.Grace), "young") // in an hour that is being swept
	kept.Before = now.Add(time.Hour)                             // referenced in its time
	if err := reference(t, db, 1, kept); err != nil {
		t.Fatal(err)
	}
	// What somebody else put there is nobody's garbage.
	for _, name := range []string{"receipts/README", path.Dir(orphan.Name) + "/README"} {
		if err := s.Bucket.WriteAll(t.Context(), name, []byte("x"), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := sweep(t, s, db, 100); n != 1 {
		t.Errorf("%d removed", n)
	}
	for name, want := range map[string]bool{orphan.Name: false, kept.Name: true, young.Name: true, path.Dir(orphan.Name) + "/README": true, "receipts/README": true} {
		if got := stored(t, s, name); got != want {
			t.Errorf("%s is there: %v", name, got)
		}
	}
}

// A writer that was held up for longer than half of the grace cannot commit its
// reference any more: the sweep may be removing its document at this moment.
func TestALateReferenceIsRefused(t *testing.T) {
	t.Parallel()
	db, s := database(t, documents), newStore(t)
	late := put(t, s, time.Now().Add(-31*time.Minute), "late")
	if err := reference(t, db, 1, late); !postgres.Violates(err, "in_time") {
		t.Errorf("late: %v", err)
	}
	if err := reference(t, db, 2, put(t, s, time.Now().Add(-29*time.Minute), "in time")); err != nil {
		t.Errorf("in time: %v", err)
	}
}

// The sweep removes a few at a time, remembers how far it came, and leaves
// nothing behind whatever the limit.
func TestASweepGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	db, s := database(t, documents), newStore(t)
	for i := range 25 {
		put(t, s, time.Now().Add(-time.Duration(i/10+2)*time.Hour), fmt.Sprint(i))
	}
	removed := int64(0)
	for range 25 {
		n := sweep(t, s, db, 7)
		if n > 7 {
			t.Errorf("%d at once", n)
		}
		removed += n
	}
	if removed != 25 {
		t.Errorf("%d removed", removed)
	}
	left := 0
	objects := s.Bucket.List(&blob.ListOptions{Prefix: "receipts/"})
	for {
		if _, err := objects.Next(t.Context()); err != nil {
			break
		}
		left++
	}
	if left > 0 {
		t.Errorf("%d left", left)
	}
}

func TestStoringInsideATransactionIsRefused(t *testing.T) {
	t.Parallel()
	db, s := database(t, documents), newStore(t)
	err := postgres.InTx(t.Context(), db, func(ctx context.Context, _ pgx.Tx) error {
		_, err := s.Put(ctx, time.Now(), "text/plain", nil)
		return err
	})
	if !errors.Is(err, storeref.ErrInTransaction) {
		t.Error(err)
	}
}
