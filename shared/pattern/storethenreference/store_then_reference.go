package storethenreference

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"gocloud.dev/blob"

	"example.com/failwell/shared/platform/postgres/txmark"
	"example.com/failwell/shared/platform/required"
)

// ErrInTransaction means: somebody tried to store a document while a transaction
// was open, which would hold its locks for as long as the store takes.
var ErrInTransaction = errors.New("storethenreference: store inside a database transaction")

// ErrTooLate means: so much time has passed since the database's time was read that
// the sweep may have gone past it. Read the time again, and store again.
var ErrTooLate = errors.New("storethenreference: the moment of the document is too long ago")

// Config is what a Store needs. All of it is required.
type Config struct {
	Bucket *blob.Bucket
	Dir    string

	// Grace is the age from which a document without a reference is removed.
	Grace time.Duration
}

// Store keeps the documents of one directory.
type Store struct {
	Config
}

// New returns a store. It panics when a field is missing.
func New(cfg Config) Store {
	required.Fields("storethenreference.Config", map[string]bool{
		"Bucket": cfg.Bucket != nil, "Dir": cfg.Dir != "", "Grace": cfg.Grace > 0,
	})
	return Store{Config: cfg}
}

// Ref names a stored document.
type Ref struct {
	Name string

	// CommitBy is the latest time, by the database's clock, at which a reference
	// may be committed.
	CommitBy time.Time
}

// The names sort by time: a directory for each hour, and in it the moment and
// something unique. The sweep can go on where it stopped without reading the past.
const (
	hourLayout   = "2006010215"
	minuteLayout = "20060102T1504"
	stampLayout  = "20060102T150405.000000Z"
)

// ClockReading is the database's time, and when it was read by our clock; two clocks would
// disagree about what is old, but each can tell how much time has passed.
type ClockReading struct {
	Database time.Time
	Read     time.Time // taken before the database was asked
}

// Put stores a document under a name that is new, at a moment not long ago: the
// sweep goes by the names, and does not come back for one that appears where it has
// been already.
//
// Pattern: store-then-reference
func (s Store) Put(ctx context.Context, at ClockReading, contentType string, body []byte) (Ref, error) {
	if txmark.InTransaction(ctx) {
		return Ref{}, ErrInTransaction
	}
	ctx, cancel := context.WithDeadlineCause(ctx, at.Read.Add(s.Grace/2), ErrTooLate)
	defer cancel()
	if ctx.Err() != nil {
		return Ref{}, context.Cause(ctx)
	}
	now := at.Database.UTC()
	ref := Ref{
		Name:     path.Join(s.Dir, now.Format(hourLayout), now.Format(stampLayout)+"-"+uuid.NewString()),
		CommitBy: now.Add(s.Grace / 2),
	}
	err := s.Bucket.WriteAll(ctx, ref.Name, body, &blob.WriterOptions{ContentType: contentType, DisableContentTypeDetection: true})
	if err != nil {
		return Ref{}, fmt.Errorf("storethenreference: store %s: %w", ref.Name, err)
	}
	return ref, nil
}

// Get reads a document.
func (s Store) Get(ctx context.Context, name string) ([]byte, error) {
	if txmark.InTransaction(ctx) {
		return nil, ErrInTransaction
	}
	body, err := s.Bucket.ReadAll(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("storethenreference: read %s: %w", name, err)
	}
	return body, nil
}

// Sweep removes up to limit documents that no row speaks of and that are older
// than the grace, from where it stopped. known returns those of the names that are
// referenced.
//
// A whole hour is listed at once, the one that is not old enough yet minute by
// minute: a round a minute would otherwise read the hour's names sixty times.
//
// Pattern: garbage-collection
func (s Store) Sweep(ctx context.Context, db *pgxpool.Pool, limit int, known func(ctx context.Context, names []string) (map[string]bool, error)) (removed int64, err error) {
	if txmark.InTransaction(ctx) {
		return 0, ErrInTransaction
	}
	from, until, err := s.span(ctx, db)
	if err != nil {
		return 0, err
	}
	round := sweep{Store: s, db: db, from: from, until: until, left: limit, known: known}
	for at := from; at.Before(until) && round.left > 0 && err == nil; {
		hour, minute := at.Truncate(time.Hour), at.Truncate(time.Minute)
		prefix, next := hour.Format(hourLayout)+"/"+minute.Format(minuteLayout), minute.Add(time.Minute)
		if end := hour.Add(time.Hour); at.Equal(hour) && !end.After(until) {
			prefix, next = hour.Format(hourLayout)+"/", end
		}
		err = round.stretch(ctx, prefix)
		at = next
	}
	if err == nil && round.left > 0 {
		err = s.sweptUntil(ctx, db, until)
	}
	return int64(limit - round.left), err
}

// span is what is old enough and has not been swept.
func (s Store) span(ctx context.Context, db *pgxpool.Pool) (from, until time.Time, err error) {
	var swept *time.Time
	err = db.QueryRow(ctx, `
		SELECT now() - $2::interval,
		       (SELECT swept_until
		          FROM storeref_sweeps
		         WHERE dir = $1)`,
		s.Dir, s.Grace).Scan(&until, &swept)
	if err != nil {
		return from, until, err
	}
	if swept != nil {
		return swept.UTC(), until.UTC(), nil
	}
	from, err = s.oldest(ctx, until.UTC())
	return from, until.UTC(), err
}

// oldest finds where the first sweep begins.
func (s Store) oldest(ctx context.Context, until time.Time) (time.Time, error) {
	hours := s.Bucket.List(&blob.ListOptions{Prefix: s.Dir + "/", Delimiter: "/"})
	for {
		object, err := hours.Next(ctx)
		if errors.Is(err, io.EOF) {
			return until, nil
		}
		if err != nil {
			return until, fmt.Errorf("storethenreference: list %s: %w", s.Dir, err)
		}
		hour, err := time.Parse(hourLayout, path.Base(object.Key))
		if err == nil {
			return hour, nil
		}
	}
}

func (s Store) sweptUntil(ctx context.Context, db *pgxpool.Pool, until time.Time) error {
	_, err := db.Exec(ctx, `
		INSERT INTO storeref_sweeps (dir, swept_until)
		VALUES ($1, $2)
		    ON CONFLICT (dir) DO UPDATE
		   SET swept_until = GREATEST(storeref_sweeps.swept_until, EXCLUDED.swept_until)`,
		s.Dir, until)
	return err
}

// lookedUpAtOnce bounds one question to the database.
const lookedUpAtOnce = 500

// sweep is one round.
type sweep struct {
	Store
	db          *pgxpool.Pool
	from, until time.Time // the moments that are looked at
	left        int       // how many may still be removed
	known       func(ctx context.Context, names []string) (map[string]bool, error)
}

// stretch sweeps the documents whose names begin with prefix.
func (w *sweep) stretch(ctx context.Context, prefix string) error {
	objects := w.Bucket.List(&blob.ListOptions{Prefix: w.Dir + "/" + prefix})
	var names []string
	var last time.Time
	for end := false; !end && w.left > 0; {
		object, err := objects.Next(ctx)
		end = errors.Is(err, io.EOF)
		if err != nil && !end {
			return fmt.Errorf("storethenreference: list %s: %w", w.Dir, err)
		}
		if !end {
			at, ours := writtenAt(object.Key)
			switch {
			case !ours || at.Before(w.from):
				continue
			case at.Before(w.until):
				names, last = append(names, object.Key), at
			default:
				end = true // names come in order, so the rest is younger still
			}
		}
		if len(names) == 0 || len(names) < lookedUpAtOnce && !end {
			continue
		}
		whole, err := w.remove(ctx, names)
		if err == nil && whole {
			// Others of this very moment may follow, so not a moment further.
			err = w.sweptUntil(ctx, w.db, last)
		}
		if err != nil {
			return err
		}
		names = nil
	}
	return nil
}

// writtenAt reads the moment from a name. What has none is not ours.
func writtenAt(name string) (at time.Time, ours bool) {
	moment, _, _ := strings.Cut(path.Base(name), "-")
	at, err := time.Parse(stampLayout, moment)
	return at, err == nil
}

// remove removes those of the names that nobody knows; false when it had to stop.
func (w *sweep) remove(ctx context.Context, names []string) (whole bool, err error) {
	referenced, err := w.known(ctx, names)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if referenced[name] {
			continue
		}
		if w.left == 0 {
			return false, nil
		}
		if err := w.Bucket.Delete(ctx, name); err != nil {
			return false, fmt.Errorf("storethenreference: remove %s: %w", name, err)
		}
		w.left--
	}
	return true, nil
}

// Known collects the names that a query returns.
func Known(rows pgx.Rows, err error) (map[string]bool, error) {
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	known := make(map[string]bool, len(names))
	for _, name := range names {
		known[name] = true
	}
	return known, err
}
