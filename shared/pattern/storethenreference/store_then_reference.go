package storethenreference

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"example.com/failwell/shared/platform/postgres/txmark"
	"example.com/failwell/shared/platform/required"
)

// Schema creates the table of this package. Copy it into a migration.
//
//go:embed schema.sql
var Schema string

// ErrInTransaction means: somebody tried to store a document while a transaction
// was open, which would hold its locks for as long as the store takes.
var ErrInTransaction = errors.New("storethenreference: store inside a database transaction")

// ErrTooLate means: so much time has passed since the database's time was read that
// the sweep may have gone past it. Read the time again, and store again.
var ErrTooLate = errors.New("storethenreference: the moment of the document is too long ago")

// ErrDamaged means: what was put there is gone, or another document stands in its place,
// which must not be shown. To try again does not help.
var ErrDamaged = errors.New("storethenreference: the document is not the one that was stored")

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
	Name string // ends with the length and the SHA-256 of the document, see Get

	// CommitBy is the latest time, by the database's clock, at which a reference
	// may be committed.
	CommitBy time.Time
}

// The names sort by time: a directory for each minute, and in it the moment and
// something unique. The sweep can go on where it stopped without reading the past.
const (
	minuteLayout = "2006010215/04"
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
// Pattern: io-inside-transaction (refused here)
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
		Name:     path.Join(s.Dir, now.Format(minuteLayout), now.Format(stampLayout)+"-"+uuid.NewString()+seal(body)),
		CommitBy: now.Add(s.Grace / 2),
	}
	err := s.Bucket.WriteAll(ctx, ref.Name, body, &blob.WriterOptions{ContentType: contentType, DisableContentTypeDetection: true})
	if err != nil {
		return Ref{}, fmt.Errorf("storethenreference: store %s: %w", ref.Name, err)
	}
	return ref, nil
}

// seal ends the name of a document, so that the holder of the reference can tell whether
// the document is whole.
func seal(body []byte) string { return fmt.Sprintf("-%d-%x", len(body), sha256.Sum256(body)) }

// Get reads a document, and returns ErrDamaged when it is not the one that was stored
// under this name: removed, cut off, emptied or exchanged.
func (s Store) Get(ctx context.Context, name string) ([]byte, error) {
	if txmark.InTransaction(ctx) {
		return nil, ErrInTransaction
	}
	body, err := s.Bucket.ReadAll(ctx, name)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, fmt.Errorf("%w: %s is not there", ErrDamaged, name)
	}
	if err != nil {
		return nil, fmt.Errorf("storethenreference: read %s: %w", name, err)
	}
	if !strings.HasSuffix(name, seal(body)) {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrDamaged, name, len(body))
	}
	return body, nil
}

// lookedUpAtOnce bounds one question to the database.
const lookedUpAtOnce = 500

// Sweep removes up to limit documents that no row speaks of and that are older than the
// grace, minute by minute from where it stopped. known returns those of the names that
// are referenced.
//
// Pattern: garbage-collection
func (s Store) Sweep(ctx context.Context, db *pgxpool.Pool, limit int, known func(ctx context.Context, names []string) ([]string, error)) (removed int64, err error) {
	if txmark.InTransaction(ctx) {
		return 0, ErrInTransaction
	}
	from, until, err := s.span(ctx, db)
	for err == nil && from.Before(until) {
		end := from.Truncate(time.Minute).Add(time.Minute)
		if end.After(until) {
			end = until
		}
		names, err := s.written(ctx, from, end)
		if err != nil {
			return removed, err
		}
		for some := range slices.Chunk(names, lookedUpAtOnce) {
			referenced, err := known(ctx, some)
			if err != nil {
				return removed, err
			}
			for _, name := range some {
				switch {
				case slices.Contains(referenced, name):
					continue
				case removed == int64(limit):
					return removed, nil // the next round begins with this minute again
				}
				if err := s.Bucket.Delete(ctx, name); err != nil {
					return removed, fmt.Errorf("storethenreference: remove %s: %w", name, err)
				}
				removed++
			}
		}
		if len(names) > 0 || end.Equal(until) {
			_, err := db.Exec(ctx, `
				INSERT INTO storeref_sweeps AS s (dir, swept_until)
				VALUES ($1, $2)
				    ON CONFLICT (dir) DO UPDATE
				   SET swept_until = GREATEST(s.swept_until, EXCLUDED.swept_until)`,
				s.Dir, end)
			if err != nil {
				return removed, err
			}
		}
		from = end
	}
	return removed, err
}

// span is what is old enough and has not been swept. The first sweep begins with the
// oldest document.
func (s Store) span(ctx context.Context, db *pgxpool.Pool) (from, until time.Time, err error) {
	var swept *time.Time
	err = db.QueryRow(ctx, `
		SELECT now() - $2::interval,
		       (SELECT swept_until
		          FROM storeref_sweeps
		         WHERE dir = $1)`,
		s.Dir, s.Grace).Scan(&until, &swept)
	until = until.UTC()
	if err != nil {
		return from, until, err
	}
	if swept != nil && !swept.After(until) { // one that lies ahead would keep the sweep from running until then
		return swept.UTC(), until, nil
	}
	hours := s.Bucket.List(&blob.ListOptions{Prefix: s.Dir + "/", Delimiter: "/"})
	for {
		object, err := hours.Next(ctx)
		if errors.Is(err, io.EOF) {
			return until, until, nil
		}
		if err != nil {
			return from, until, fmt.Errorf("storethenreference: list %s: %w", s.Dir, err)
		}
		if from, err = time.Parse(minuteLayout, path.Base(object.Key)+"/00"); err == nil {
			return from, until, nil
		}
	}
}

// written lists the documents that were stored from one moment until another of the
// same minute. What has no moment in its name is not ours.
func (s Store) written(ctx context.Context, from, until time.Time) (names []string, err error) {
	objects := s.Bucket.List(&blob.ListOptions{Prefix: path.Join(s.Dir, from.Format(minuteLayout)) + "/"})
	for {
		object, err := objects.Next(ctx)
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return nil, fmt.Errorf("storethenreference: list %s: %w", s.Dir, err)
		}
		stamp, _, _ := strings.Cut(path.Base(object.Key), "-")
		at, err := time.Parse(stampLayout, stamp)
		if err == nil && !at.Before(from) && at.Before(until) {
			names = append(names, object.Key)
		}
	}
}
