package postgres

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// rowMemory is how long a row counts as locked after a batch could not get its lock.
const rowMemory = time.Second

// rowKey guesses which row a statement wants: an insert the one that it would make, by all
// its arguments; any other statement the one that its first argument names. Where the
// guess is too wide, batches are written alone that could have been in a group; where it
// is too narrow, a group waits for lockTimeout once more. Nothing depends on it but speed.
type rowKey struct{ sql, arguments string }

func keyOf(q *pgx.QueuedQuery) rowKey {
	named := q.Arguments
	if !strings.HasPrefix(strings.TrimSpace(q.SQL), "INSERT") && len(named) > 1 {
		named = named[:1]
	}
	return rowKey{sql: q.SQL, arguments: fmt.Sprint(named...)}
}

// lockedRows are the rows whose lock a batch could not get a moment ago. Without
// them, each group would meet a batch that wants such a row, and every member would wait
// for lockTimeout with it.
type lockedRows struct {
	mu    sync.Mutex
	until map[rowKey]time.Time
}

func (l *lockedRows) add(row rowKey, d time.Duration) {
	if row == (rowKey{}) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.until == nil {
		l.until = map[rowKey]time.Time{}
	}
	l.until[row] = time.Now().Add(d)
}

func (l *lockedRows) remove(row rowKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.until, row)
}

// wantedBy returns the first row among them that a batch wants, or nil.
func (l *lockedRows) wantedBy(queries []*pgx.QueuedQuery) *rowKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.until) == 0 {
		return nil
	}
	now := time.Now()
	for row, until := range l.until {
		if now.After(until) {
			delete(l.until, row)
			continue
		}
		for _, q := range queries {
			if q.SQL == row.sql && keyOf(q) == row {
				return &row
			}
		}
	}
	return nil
}
