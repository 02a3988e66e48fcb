package postgres

import (
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"
)

// result is what a statement returned, kept until the outcome of its transaction is
// known. A callback that ran before that could see rows of a batch that is refused a
// statement later; and in a group its error would break off the reading of the
// results that belong to others.
type result struct {
	fields []pgconn.FieldDescription
	rows   [][][]byte
	tag    pgconn.CommandTag
}

// receive reads the result of the next statement.
func receive(answers pgx.BatchResults, keepRows bool) (result, error) {
	if !keepRows {
		tag, err := answers.Exec()
		return result{tag: tag}, err
	}
	rows, err := answers.Query()
	if err != nil {
		return result{}, err
	}
	defer rows.Close()
	var r result
	for rows.Next() {
		values := slices.Clone(rows.RawValues())
		for i, value := range values {
			values[i] = slices.Clone(value) // the next row overwrites the connection's buffer
		}
		r.rows = append(r.rows, values)
	}
	r.fields, r.tag = slices.Clone(rows.FieldDescriptions()), rows.CommandTag()
	return r, rows.Err()
}

// deliver runs the callbacks of a batch that is committed: all of them, whichever
// fails. The first error is returned.
func deliver(queries []*pgx.QueuedQuery, results []result) error {
	var failed error
	for i, q := range queries {
		if q.Fn == nil {
			continue
		}
		if err := q.Fn(answer{result: results[i]}); err != nil && failed == nil {
			failed = fmt.Errorf("%w: %w", ErrCallback, err)
		}
	}
	return failed
}

// answer is a kept result as pgx gives one to a callback.
type answer struct {
	result
	pgx.BatchResults // what a callback has no use for
}

func (a answer) Exec() (pgconn.CommandTag, error) { return a.tag, nil }
func (a answer) Query() (pgx.Rows, error)         { return &keptRows{result: a.result}, nil }
func (a answer) QueryRow() pgx.Row                { return keptRow{&keptRows{result: a.result}} }

// keptRows implements pgx.Rows without a connection.
type keptRows struct {
	result
	pgx.Rows
	next  int // the row that Next moves to
	err   error
	types *pgtype.Map
}

func (k *keptRows) Next() bool {
	if k.err != nil || k.next >= len(k.rows) {
		k.Close()
		return false
	}
	k.next++
	return true
}

func (k *keptRows) Scan(into ...any) error {
	if k.next == 0 || k.next > len(k.rows) {
		return pgx.ErrNoRows
	}
	if len(into) == 1 {
		if scanner, ok := into[0].(pgx.RowScanner); ok {
			k.err = scanner.ScanRow(k)
			return k.err
		}
	}
	k.err = pgx.ScanRow(k.TypeMap(), k.fields, k.RawValues(), into...)
	return k.err
}

func (k *keptRows) Values() ([]any, error) {
	values := make([]any, len(k.fields))
	into := make([]any, len(k.fields))
	for i := range values {
		into[i] = &values[i]
	}
	return values, k.Scan(into...)
}

// TypeMap is made when it is asked for: most results are only counted. It is not
// shared, because it remembers how it has read a type and has no lock.
func (k *keptRows) TypeMap() *pgtype.Map {
	if k.types == nil {
		k.types = pgtype.NewMap()
		pgxuuid.Register(k.types)
	}
	return k.types
}

func (k *keptRows) Close()                                       { k.next = len(k.rows) + 1 }
func (k *keptRows) Err() error                                   { return k.err }
func (k *keptRows) CommandTag() pgconn.CommandTag                { return k.tag }
func (k *keptRows) FieldDescriptions() []pgconn.FieldDescription { return k.fields }
func (k *keptRows) RawValues() [][]byte                          { return k.rows[k.next-1] }

// keptRow is the first of some rows.
type keptRow struct{ rows *keptRows }

func (r keptRow) Scan(into ...any) error {
	if !r.rows.Next() {
		return pgx.ErrNoRows
	}
	return r.rows.Scan(into...)
}
