package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// merger puts those inserts of a batch that differ only in their values into one
// statement. To start a statement and to end it costs PostgreSQL more than the row
// that a small one writes, and each is a message on the wire both ways.
//
//	INSERT INTO inbox (source, message_id) VALUES ($1, $2)
//
// queued thirty times becomes, once, with an array for each parameter:
//
//	INSERT INTO inbox (source, message_id)
//	SELECT r.p1, r.p2 FROM unnest($1::text[], $2::uuid[]) AS r (p1, p2)
//
// A merged statement stands where the first of its kind stood, and each writing's
// statements keep their order. So one writing's statements have others' between them,
// as they may have anyway under READ COMMITTED. What one of the rows violates refuses
// the whole statement; the group then tries each writing alone.
//
// Updates are never merged: an UPDATE … FROM changes a row once, however often it is
// named, and the second change would be lost without a word.
type merger struct {
	db    *pgxpool.Pool
	mu    sync.Mutex
	forms map[string]string // an insert of one row, and its form for many; empty: it has none
}

func newMerger(db *pgxpool.Pool) *merger { return &merger{db: db, forms: map[string]string{}} }

// merge returns what to send instead of queued.
func (m *merger) merge(ctx context.Context, queued []*pgx.QueuedQuery) []*pgx.QueuedQuery {
	alike := map[string][]*pgx.QueuedQuery{}
	for _, q := range queued {
		alike[q.SQL] = append(alike[q.SQL], q)
	}
	var merged []*pgx.QueuedQuery
	for _, q := range queued {
		same := alike[q.SQL]
		form := ""
		if len(same) > 1 {
			form = m.form(ctx, q.SQL)
		}
		switch {
		case form == "":
			merged = append(merged, q)
		case q == same[0]:
			merged = append(merged, asOne(form, same))
		}
	}
	return merged
}

// asOne is the statement for all of these rows. Each of them hears its own part of
// the result.
func asOne(form string, rows []*pgx.QueuedQuery) *pgx.QueuedQuery {
	columns := make([]any, len(rows[0].Arguments))
	for c := range columns {
		column := make([]any, len(rows))
		for r, row := range rows {
			column[r] = row.Arguments[c]
		}
		columns[c] = column
	}
	one := &pgx.QueuedQuery{SQL: form, Arguments: columns}
	one.Query(func(results pgx.Rows) error {
		part := partOf{results: results}
		for _, row := range rows {
			if row.Fn == nil {
				continue
			}
			if err := row.Fn(part); err != nil {
				return err
			}
		}
		return nil
	})
	return one
}

// partOf is a merged statement's result as one of its rows sees it.
type partOf struct{ results pgx.Rows }

var errMerged = errors.New("postgres: an insert of one row returns one row or nothing")

func (p partOf) Exec() (pgconn.CommandTag, error) {
	if p.results.Next(); p.results.Err() != nil {
		return pgconn.CommandTag{}, p.results.Err()
	}
	return pgconn.NewCommandTag("INSERT 0 1"), nil
}
func (p partOf) QueryRow() pgx.Row        { return rowOf(p) }
func (p partOf) Query() (pgx.Rows, error) { return nil, errMerged }
func (p partOf) Close() error             { return nil }
func (p partOf) Tx() pgx.Tx               { return nil }

type rowOf struct{ results pgx.Rows }

func (r rowOf) Scan(into ...any) error {
	if !r.results.Next() {
		if err := r.results.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	return r.results.Scan(into...)
}

// form returns the form for many rows of an insert of one, or nothing. The types come
// from the server, which is asked once.
func (m *merger) form(ctx context.Context, sql string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	form, known := m.forms[sql]
	if known {
		return form
	}
	if before, values, after, ok := cutValues(sql); ok {
		types, err := m.types(ctx, sql)
		if err != nil {
			return "" // one by one, then; whatever is wrong will be seen there
		}
		form = manyRows(before, values, after, types)
	}
	m.forms[sql] = form
	return form
}

func (m *merger) types(ctx context.Context, sql string) (types []string, err error) {
	err = m.db.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		described, err := conn.Conn().Prepare(ctx, "", sql)
		if err != nil {
			return err
		}
		for _, oid := range described.ParamOIDs {
			t, ok := conn.Conn().TypeMap().TypeForOID(oid)
			if !ok {
				return fmt.Errorf("postgres: a parameter of an unknown type, oid %d", oid)
			}
			types = append(types, t.Name)
		}
		return nil
	})
	return types, err
}

// cutValues takes INSERT … VALUES (…) … apart.
func cutValues(sql string) (before, values, after string, ok bool) {
	before, rest, ok := strings.Cut(sql, "VALUES (")
	if !ok || !strings.HasPrefix(strings.TrimSpace(sql), "INSERT INTO ") {
		return "", "", "", false
	}
	open, quoted := 1, false
	for i, c := range rest {
		switch {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(':
			open++
		case c == ')':
			open--
		}
		if open == 0 {
			after = rest[i+1:]
			return before, rest[:i], after, !strings.HasPrefix(strings.TrimSpace(after), ",") && !strings.Contains(after, "$")
		}
	}
	return "", "", "", false
}

// manyRows reads each parameter $n as the column pn of a set of rows.
func manyRows(before, values, after string, types []string) string {
	columns, names := make([]string, len(types)), make([]string, len(types))
	for i := len(types); i > 0; i-- { // from the last: $1 is also the beginning of $10
		columns[i-1], names[i-1] = fmt.Sprintf("$%d::%s[]", i, types[i-1]), fmt.Sprintf("p%d", i)
		values = strings.ReplaceAll(values, fmt.Sprintf("$%d", i), "r."+names[i-1])
	}
	return before + "SELECT " + values + " FROM unnest(" + strings.Join(columns, ", ") + ") AS r (" + strings.Join(names, ", ") + ")" + after
}
