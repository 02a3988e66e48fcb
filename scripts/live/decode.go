package live

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// confirmEvery is how often the server is told what we have read: it keeps its log from
// there on.
const confirmEvery = time.Second

// decode reads the log of one database and hands on every transaction, until ctx ends or
// the connection breaks. The log is written by the database, so a service that was
// killed is in it with all that it has committed, and with nothing else.
//
// The slot is temporary: it is gone with our connection, however that ends, and a page
// that is not open keeps nothing on the disk. It is made for two-phase commit, so a
// prepared transaction is seen when it is prepared.
func decode(ctx context.Context, name, database string, ready func(), tell func(...Event)) error {
	keys, err := primaryKeys(ctx, database)
	if err != nil {
		return err
	}
	u, err := url.Parse(database)
	if err != nil {
		return err
	}
	q := u.Query()
	q.Set("replication", "database")
	u.RawQuery = q.Encode()
	conn, err := pgconn.Connect(ctx, u.String())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // ends the slot too
	slot := "live_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if _, err := conn.Exec(ctx, "SET timezone = 'UTC'; SELECT pg_create_logical_replication_slot('"+slot+"', 'test_decoding', true, true)").ReadAll(); err != nil {
		return fmt.Errorf("the log of %s cannot be read (it needs wal_level=logical): %w", name, err)
	}
	err = pglogrepl.StartReplication(ctx, conn, slot, 0, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication, PluginArgs: []string{`"include-timestamp" 'on'`, `"skip-empty-xacts" 'on'`},
	})
	if err != nil {
		return err
	}
	ready()
	t := transaction{lane: name, keys: keys}
	var read pglogrepl.LSN
	for confirmed := time.Now(); ; {
		if time.Since(confirmed) >= confirmEvery {
			if err := pglogrepl.SendStandbyStatusUpdate(ctx, conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: read}); err != nil {
				return err
			}
			confirmed = time.Now()
		}
		soon, cancel := context.WithDeadline(ctx, confirmed.Add(confirmEvery))
		message, err := conn.ReceiveMessage(soon)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case pgconn.Timeout(err):
			continue
		case err != nil:
			return err
		}
		if refused, ok := message.(*pgproto3.ErrorResponse); ok {
			return pgconn.ErrorResponseToPgError(refused)
		}
		data, ok := message.(*pgproto3.CopyData)
		if !ok || len(data.Data) == 0 {
			continue
		}
		switch data.Data[0] {
		case pglogrepl.PrimaryKeepaliveMessageByteID:
			alive, err := pglogrepl.ParsePrimaryKeepaliveMessage(data.Data[1:])
			if err != nil {
				return err
			}
			read = max(read, alive.ServerWALEnd)
		case pglogrepl.XLogDataByteID:
			log, err := pglogrepl.ParseXLogData(data.Data[1:])
			if err != nil {
				return err
			}
			read = max(read, log.WALStart)
			tell(t.line(string(log.WALData))...)
		}
	}
}

// primaryKeys are the columns of each table's key.
func primaryKeys(ctx context.Context, database string) (map[string][]string, error) {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx) //nolint:errcheck // only read
	rows, err := conn.Query(ctx, `
		SELECT c.relname::text, array_agg(a.attname::text ORDER BY a.attnum)
		  FROM pg_index i
		  JOIN pg_class c     ON c.oid = i.indrelid
		  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
		 WHERE i.indisprimary AND c.relnamespace = 'public'::regnamespace
		 GROUP BY c.relname`)
	if err != nil {
		return nil, err
	}
	keys := map[string][]string{}
	var table string
	var columns []string
	_, err = pgx.ForEachRow(rows, []any{&table, &columns}, func() error {
		keys[table] = columns
		return nil
	})
	return keys, err
}

// transaction collects the lines of one transaction.
type transaction struct {
	lane string
	keys map[string][]string
	rows []Row
}

// What test_decoding writes of the end of a transaction.
var ending = regexp.MustCompile(`^(COMMIT|PREPARE TRANSACTION|COMMIT PREPARED|ROLLBACK PREPARED) (?:'([^']*)', txid )?\d+ \(at (.*)\)$`)

// withoutNews are tables that change all the time and tell nothing.
var withoutNews = map[string]bool{"leases": true, "goose_db_version": true, "storeref_sweeps": true, "merchants": true}

// line takes one line of test_decoding; the last one of a transaction makes an event, in
// the sandbox's database one for each of its parties.
func (t *transaction) line(text string) []Event {
	if rest, ok := strings.CutPrefix(text, "table public."); ok {
		table, rest, _ := strings.Cut(rest, ": ")
		op, tuple, _ := strings.Cut(rest, ": ")
		if _, after, ok := strings.Cut(tuple, " new-tuple: "); ok && strings.HasPrefix(tuple, "old-key: ") {
			tuple = after
		}
		if !withoutNews[table] {
			row := Row{Table: table, Op: op, Cols: columns(tuple)}
			var key []string
			for _, column := range t.keys[table] {
				key = append(key, row.col(column))
			}
			row.Key = strings.Join(key, " ")
			t.rows = append(t.rows, row)
		}
		return nil
	}
	m := ending.FindStringSubmatch(text)
	if m == nil {
		return nil // BEGIN
	}
	at, err := time.Parse("2006-01-02 15:04:05.999999-07", m[3])
	if err != nil {
		at = time.Now()
	}
	rows := t.rows
	t.rows = nil
	e := Event{At: at, Lane: t.lane, GID: m[2], Kind: map[string]string{
		"COMMIT": Commit, "PREPARE TRANSACTION": Prepare, "COMMIT PREPARED": CommitPrepared, "ROLLBACK PREPARED": RollbackPrepared,
	}[m[1]], Text: m[1]}
	if e.GID != "" {
		e.refs = idsIn(e.GID)
		e.Rows = rows
		return []Event{e}
	}
	var events []Event
	for _, row := range rows {
		lane := t.lane
		if lane == "sandbox" {
			lane, _, _ = strings.Cut(row.Table, "_")
		}
		if n := len(events); n == 0 || events[n-1].Lane != lane {
			e.Lane, e.Rows = lane, nil
			events = append(events, e)
		}
		last := &events[len(events)-1]
		last.Rows = append(last.Rows, row)
	}
	return events
}

// columns reads a tuple: name[type]:value name[type]:'it”s quoted' …
func columns(tuple string) map[string]*string {
	cols := map[string]*string{}
	for tuple != "" {
		name, rest, ok := strings.Cut(tuple, "[")
		if !ok {
			break // (no-tuple-data)
		}
		kind, rest, ok := strings.Cut(rest, "]:")
		if !ok {
			break
		}
		var value string
		quoted := strings.HasPrefix(rest, "'")
		if quoted {
			value, rest = unquote(rest[1:])
			rest = strings.TrimPrefix(rest, " ")
		} else {
			value, rest, _ = strings.Cut(rest, " ")
		}
		name, tuple = strings.Trim(name, `"`), rest
		switch {
		case !quoted && value == "null":
			cols[name] = nil
		case !quoted && value == "unchanged-toast-datum": // it stays what it was
		default:
			if kind == "bytea" {
				value = readable(value)
			}
			cols[name] = &value
		}
	}
	return cols
}

// unquote reads up to the closing quote.
func unquote(s string) (value, rest string) {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, "'")
		b.WriteString(before)
		if !ok || !strings.HasPrefix(after, "'") {
			return b.String(), after
		}
		b.WriteByte('\'')
		s = after[1:]
	}
}

// readable turns bytes into text where they are text.
func readable(value string) string {
	raw, err := hex.DecodeString(strings.TrimPrefix(value, `\x`))
	if err != nil || !utf8.Valid(raw) {
		return value
	}
	return string(raw)
}
