package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

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
//
// A merger belongs to one goroutine.
type merger struct {
	db    *pgxpool.Pool
	forms map[string]form // by the statement for one row
}

// form is how an insert of one row is written for many.
type form struct {
	many      string // empty: there is none
	leavesOut bool
}

// askPatience bounds the question for a form: everybody in the group waits for it.
const askPatience = time.Second

func newMerger(db *pgxpool.Pool) *merger { return &merger{db: db, forms: map[string]form{}} }

// merge returns what to send instead of queued.
func (m *merger) merge(ctx context.Context, queued []*pgx.QueuedQuery) []*pgx.QueuedQuery {
	alike := map[string][]*pgx.QueuedQuery{}
	for _, q := range queued {
		alike[q.SQL] = append(alike[q.SQL], q)
	}
	forms := map[string]string{}
	for sql, same := range alike {
		if len(same) == 1 {
			continue
		}
		form, err := m.form(ctx, sql)
		if err != nil {
			return queued // as it is; whatever is wrong will be seen there
		}
		if form.many != "" && (!form.leavesOut || !anyListens(same)) {
			forms[sql] = form.many
		}
	}
	var merged []*pgx.QueuedQuery
	for _, q := range queued {
		form, merges := forms[q.SQL]
		switch {
		case !merges:
			merged = append(merged, q)
		case q == alike[q.SQL][0]:
			merged = append(merged, asOne(form, alike[q.SQL]))
		}
	}
	return merged
}

// leavesOut matches an insert that may write fewer rows than it is given. Whose row that
// was cannot be told from the result of a merged one.
var leavesOut = regexp.MustCompile(`(?s)ON CONFLICT.*(DO NOTHING|DO UPDATE.*WHERE)`)

func anyListens(rows []*pgx.QueuedQuery) bool {
	return slices.ContainsFunc(rows, func(q *pgx.QueuedQuery) bool { return q.Fn != nil })
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
				results.Next() // its part, if it returns something
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

func (p partOf) Exec() (pgconn.CommandTag, error) {
	p.results.Next()
	return pgconn.NewCommandTag("INSERT 0 1"), p.results.Err()
}
func (p partOf) QueryRow() pgx.Row        { return rowOf(p) }
func (p partOf) Query() (pgx.Rows, error) { return &rowsOf{Rows: p.results}, nil }
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

// rowsOf are rows of which there is one.
type rowsOf struct {
	pgx.Rows
	seen bool
}

func (r *rowsOf) Next() bool {
	if r.seen {
		return false
	}
	r.seen = true
	return r.Rows.Next()
}
func (r *rowsOf) Close() {
	if !r.seen {
		r.Next()
	}
}

// form returns the form for many rows of an insert of one. The server is asked once
// for the types, and whether it takes the form.
func (m *merger) form(ctx context.Context, sql string) (form, error) {
	if known, ok := m.forms[sql]; ok {
		return known, nil
	}
	found := form{leavesOut: leavesOut.MatchString(sql)}
	if before, values, after, ok := cutValues(sql); ok {
		ctx, cancel := context.WithTimeout(ctx, askPatience)
		defer cancel()
		err := m.db.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
			one, err := conn.Conn().Prepare(ctx, "", sql)
			if err != nil {
				return err
			}
			var types []string
			for _, oid := range one.ParamOIDs {
				t, ok := conn.Conn().TypeMap().TypeForOID(oid)
				if !ok {
					return nil // a type of the application's own: no form
				}
				types = append(types, t.Name)
			}
			many := manyRows(before, values, after, types)
			if _, err = conn.Conn().Prepare(ctx, "", many); err == nil {
				found.many = many
			}
			return err
		})
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); err != nil && (!ok || pgErr.Code[:2] != "42") {
			return form{}, err // nobody has said that it has none
		}
	}
	m.forms[sql] = found
	return found, nil
}

// insertInto is what may stand before VALUES in an insert of one row.
var insertInto = regexp.MustCompile(`^\s*INSERT INTO \S+( AS \S+)?\s*(\([^()$]*\)\s*)?$`)

// cutValues takes INSERT … VALUES (…) … apart.
func cutValues(sql string) (before, values, after string, ok bool) {
	before, rest, ok := strings.Cut(sql, "VALUES (")
	if !ok || !insertInto.MatchString(before) {
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
