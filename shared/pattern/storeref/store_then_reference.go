package storeref

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
)

// ErrInTransaction means: somebody tried to store a document while a transaction
// was open, which would hold its locks for as long as the store takes.
var ErrInTransaction = errors.New("storeref: store inside a database transaction")

// Store keeps the documents of one directory.
type Store struct {
	Bucket *blob.Bucket
	Dir    string

	// Grace is the age from which a document without a reference is removed.
	Grace time.Duration
}

// Ref names a stored document.
type Ref struct {
	Name string

	// Before is the latest time, by the database's clock, at which a reference
	// may be committed.
	Before time.Time
}

// The names sort by time: a directory for each hour, and in it the moment and
// something unique. The sweep can go on where it stopped without reading the past.
const (
	hourLayout   = "2006010215"
	momentLayout = "20060102T150405.000000Z"
)

// Put stores a document under a name that is new. now is the database's time,
// read before; two clocks would disagree about what is old.
//
// Pattern: store-then-reference
func (s Store) Put(ctx context.Context, now time.Time, contentType string, body []byte) (Ref, error) {
	if txmark.InTransaction(ctx) {
		return Ref{}, ErrInTransaction
	}
	now = now.UTC()
	ref := Ref{
		Name:   path.Join(s.Dir, now.Format(hourLayout), now.Format(momentLayout)+"-"+uuid.NewString()),
		Before: now.Add(s.Grace / 2),
	}
	err := s.Bucket.WriteAll(ctx, ref.Name, body, &blob.WriterOptions{ContentType: contentType, DisableContentTypeDetection: true})
	if err != nil {
		return Ref{}, fmt.Errorf("storeref: store %s: %w", ref.Name, err)
	}
	return ref, nil
}

// Get reads a document.
func (s Store) Get(ctx context.Context, name string) ([]byte, error) {
	body, err := s.Bucket.ReadAll(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("storeref: read %s: %w", name, err)
	}
	return body, nil
}

// Sweep removes up to limit documents that no row speaks of and that are older
// than the grace, hour by hour from where it stopped. known returns those of the
// names that are referenced.
//
// Pattern: garbage-collection
func (s Store) Sweep(ctx context.Context, db *pgxpool.Pool, limit int, known func(ctx context.Context, names []string) (map[string]bool, error)) (removed int64, err error) {
	from, until, err := s.span(ctx, db)
	if err != nil {
		return 0, err
	}
	for hour := from.Truncate(time.Hour); !hour.After(until); hour = hour.Add(time.Hour) {
		n, err := s.sweepHour(ctx, hour, until, limit-int(removed), known)
		removed += n
		if err != nil || int(removed) >= limit {
			return removed, err
		}
		// The hour that is not over yet is looked at again next time.
		if swept := hour.Add(time.Hour); !swept.After(until) {
			if err := s.sweptUntil(ctx, db, swept); err != nil {
				return removed, err
			}
		}
	}
	return removed, nil
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
			return until, fmt.Errorf("storeref: list %s: %w", s.Dir, err)
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

func (s Store) sweepHour(ctx context.Context, hour, until time.Time, limit int, known func(context.Context, []string) (map[string]bool, error)) (removed int64, err error) {
	objects := s.Bucket.List(&blob.ListOptions{Prefix: path.Join(s.Dir, hour.Format(hourLayout)) + "/"})
	var names []string
	for end := false; !end && int(removed) < limit; {
		object, err := objects.Next(ctx)
		end = errors.Is(err, io.EOF)
		if err != nil && !end {
			return removed, fmt.Errorf("storeref: list %s: %w", s.Dir, err)
		}
		if !end && olderThan(object.Key, until) {
			names = append(names, object.Key)
		}
		if len(names) < lookedUpAtOnce && !end {
			continue
		}
		n, err := s.remove(ctx, names, limit-int(removed), known)
		removed += n
		if err != nil {
			return removed, err
		}
		names = nil
	}
	return removed, nil
}

// olderThan reads the age from the name. What has no such name is not ours.
func olderThan(name string, until time.Time) bool {
	moment, _, _ := strings.Cut(path.Base(name), "-")
	at, err := time.Parse(momentLayout, moment)
	return err == nil && at.Before(until)
}

func (s Store) remove(ctx context.Context, names []string, limit int, known func(context.Context, []string) (map[string]bool, error)) (removed int64, err error) {
	if len(names) == 0 {
		return 0, nil
	}
	referenced, err := known(ctx, names)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if referenced[name] || int(removed) >= limit {
			continue
		}
		if err := s.Bucket.Delete(ctx, name); err != nil {
			return removed, fmt.Errorf("storeref: remove %s: %w", name, err)
		}
		removed++
	}
	return removed, nil
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
