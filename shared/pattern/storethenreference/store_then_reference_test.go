package storethenreference_test

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

	"example.com/failwell/shared/pattern/storethenreference"
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

func newStore(t *testing.T) storethenreference.Store {
	t.Helper()
	bucket := memblob.OpenBucket(nil)
	t.Cleanup(func() { _ = bucket.Close() })
	return storethenreference.New(storethenreference.Config{Bucket: bucket, Dir: "receipts", Grace: time.Hour})
}

func put(t *testing.T, s storethenreference.Store, at time.Time, body string) storethenreference.Ref {
	t.Helper()
	ref, err := s.Put(t.Context(), storethenreference.ClockReading{Database: at, Read: time.Now()}, "text/plain", []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func reference(t *testing.T, db *pgxpool.Pool, id int, ref storethenreference.Ref) error {
	t.Helper()
	_, err := db.Exec(t.Context(), `INSERT INTO documents (id, name, reference_before) VALUES ($1, $2, $3)`, id, ref.Name, ref.CommitBy)
	return err
}

func sweep(t *testing.T, s storethenreference.Store, db *pgxpool.Pool, limit int) int64 {
	t.Helper()
	removed, err := s.Sweep(t.Context(), db, limit, func(ctx context.Context, names []string) ([]string, error) {
		rows, _ := db.Query(ctx, `SELECT name FROM documents WHERE name = ANY($1)`, names)
		return pgx.CollectRows(rows, pgx.RowTo[string])
	})
	if err != nil {
		t.Fatal(err)
	}
	return removed
}

func stored(t *testing.T, s storethenreference.Store, name string) bool {
	t.Helper()
	ok, err := s.Bucket.Exists(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestStore_DocumentNeverChangesUnderItsReader(t *testing.T) {
	t.Parallel()
	s, now := newStore(t), time.Now()
	first, second := put(t, s, now, "first"), put(t, s, now, "second")
	for _, c := range []struct {
		ref  storethenreference.Ref
		want string
	}{{first, "first"}, {second, "second"}} {
		if got, err := s.Get(t.Context(), c.ref.Name); err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", c.ref.Name, got, err)
		}
	}
}

func TestGet_RefusesWhatIsNotTheDocumentThatWasStored(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	ref := put(t, s, time.Now(), "receipt")
	for _, damaged := range []string{"", "receip", "receipT", "receipt "} {
		if err := s.Bucket.WriteAll(t.Context(), ref.Name, []byte(damaged), nil); err != nil {
			t.Fatal(err)
		}
		if body, err := s.Get(t.Context(), ref.Name); !errors.Is(err, storethenreference.ErrDamaged) || body != nil {
			t.Errorf("%q: %q, %v", damaged, body, err)
		}
	}
	if err := s.Bucket.Delete(t.Context(), ref.Name); err != nil {
		t.Fatal(err)
	}
	if body, err := s.Get(t.Context(), ref.Name); !errors.Is(err, storethenreference.ErrDamaged) || body != nil {
		t.Errorf("removed: %q, %v", body, err)
	}
}

func TestSweep_RemovesOnlyOldDocumentsWithoutAReference(t *testing.T) {
	t.Parallel()
	db, s := database(t, documents), newStore(t)
	old, now := time.Now().Add(-5*time.Hour), time.Now()
	orphan, kept := put(t, s, old, "orphan"), put(t, s, old, "kept")
	young := put(t, s, now.Add(10*time.Second-s.Grace), "young") // in an hour that is being swept
	kept.CommitBy = now.Add(time.Hour)                           // referenced in its time
	if err := reference(t, db, 1, kept); err != nil {
		t.Fatal(err)
	}
	// What another program put there is not our garbage.
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

// The clock of the database was ahead once, or a person has edited the row.
func TestSweep_DoesNotBelieveThatItHasSweptTheFuture(t *testing.T) {
	t.Parallel()
	db, s := database(t, documents), newStore(t)
	orphan := put(t, s, time.Now().Add(-5*time.Hour), "orphan")
	if _, err := db.Exec(t.Context(), `INSERT INTO storeref_sweeps VALUES ('receipts', now() + interval '100 years')`); err != nil {
		t.Fatal(err)
	}
	if n := sweep(t, s, db, 100); n != 1 || stored(t, s, orphan.Name) {
		t.Errorf("%d removed", n)
	}
}

// A writer that was held up for longer than half of the grace cannot commit its
// reference any more: the sweep may be removing its document at this moment.
func TestReference_TooLateIsRefused(t *testing.T) {
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
func TestSweep_GoesOnWhereItStopped(t *testing.T) {
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

func TestStore_InsideATransactionIsRefused(t *testing.T) {
	t.Parallel()
	db, s := database(t, documents), newStore(t)
	err := postgres.InTx(t.Context(), db, func(ctx context.Context, _ pgx.Tx) error {
		_, put := s.Put(ctx, storethenreference.ClockReading{Database: time.Now(), Read: time.Now()}, "text/plain", nil)
		_, get := s.Get(ctx, "receipts/x")
		_, sweep := s.Sweep(ctx, db, 1, nil)
		for what, err := range map[string]error{"put": put, "get": get, "sweep": sweep} {
			if !errors.Is(err, storethenreference.ErrInTransaction) {
				t.Errorf("%s: %v", what, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A round reads what has grown old enough since the one before, and nothing else.
func TestSweep_DoesNotLookUpAgainWhatItHasSeen(t *testing.T) {
	t.Parallel()
	db, s := database(t, documents), newStore(t)
	asked := 0
	round := func() int64 {
		asked = 0
		removed, err := s.Sweep(t.Context(), db, 1000, func(_ context.Context, names []string) ([]string, error) {
			asked += len(names)
			return names, nil // all of them have a reference
		})
		if err != nil {
			t.Fatal(err)
		}
		return removed
	}
	old := time.Now().Add(-s.Grace - time.Second)
	for i := range 600 { // more than are looked up at once
		put(t, s, old.Add(-time.Duration(i)*10*time.Millisecond), "kept")
	}
	if round(); asked != 600 {
		t.Errorf("the first round asks for %d", asked)
	}
	put(t, s, time.Now().Add(10*time.Millisecond-s.Grace), "kept, and old enough in a moment")
	time.Sleep(20 * time.Millisecond)
	if round(); asked > 1 {
		t.Errorf("the second round asks for %d", asked)
	}
}

// The sweep does not come back, so nothing may appear where it has been.
func TestPut_RefusesAWriterThatWasHeldUp(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	_, err := s.Put(t.Context(), storethenreference.ClockReading{Database: time.Now(), Read: time.Now().Add(-31 * time.Minute)}, "text/plain", nil)
	if !errors.Is(err, storethenreference.ErrTooLate) {
		t.Errorf("late: %v", err)
	}
}
