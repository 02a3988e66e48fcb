package postgres_test

import (
	"context"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/postgres/migrate"
)

// with is a database's URL with one parameter more.
func with(t *testing.T, dbURL, parameter, value string) string {
	t.Helper()
	u, err := url.Parse(dbURL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set(parameter, value)
	u.RawQuery = q.Encode()
	return u.String()
}

// One line says what to set. What a session cannot set is played by a function that is
// found before PostgreSQL's own.
func TestOpen_RefusesAServerThatIsSetUpInAnotherWay(t *testing.T) {
	t.Parallel()
	for setting, c := range map[string]struct{ value, want string }{
		"max_prepared_transactions":     {"0", "set it to 100 in postgresql.conf and restart the server"},
		"server_version_num":            {"140011", "PostgreSQL 14: 15 or later is needed"},
		"default_transaction_isolation": {"serializable", "set it to 'read committed'"},
	} {
		db, dbURL := database(t)
		_, err := db.Exec(t.Context(), `CREATE SCHEMA other;
			CREATE FUNCTION other.current_setting(s text) RETURNS text LANGUAGE sql AS
			$$ SELECT CASE s WHEN '`+setting+`' THEN '`+c.value+`' ELSE pg_catalog.current_setting(s) END $$`)
		if err != nil {
			t.Fatal(err)
		}
		opts := postgres.Options{URL: with(t, dbURL, "search_path", "other,pg_catalog,public"), PreparedTransactions: true, Logger: slog.New(slog.DiscardHandler)}
		if _, err := postgres.Open(t.Context(), opts); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", setting, err)
		}
		if setting == "max_prepared_transactions" {
			opts.PreparedTransactions = false
			without, err := postgres.Open(t.Context(), opts)
			if err != nil {
				t.Fatal("a service that prepares nothing: ", err)
			}
			without.Close()
		}
	}
}

// everyConnection runs a statement on each connection of the pool.
func everyConnection(t *testing.T, db *pgxpool.Pool, sql string) {
	t.Helper()
	var all sync.WaitGroup
	for range db.Config().MaxConns {
		conn, err := db.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Error(err)
			}
		})
		defer conn.Release()
	}
	all.Wait()
}

// Each connection has the statement prepared when somebody alters the table. No client hears of it.
func TestWrite_GoesOnWhenATableIsAltered(t *testing.T) {
	t.Parallel()
	db, dbURL := database(t)
	g := postgres.Grouped(db, postgres.GroupOptions{})
	defer g.Close()
	const returning = `UPDATE counters SET n = n + 1 WHERE name = 'a' RETURNING name`
	queue := func(b *pgx.Batch) {
		b.Queue(returning).QueryRow(func(row pgx.Row) error { return row.Scan(new(string)) })
	}
	other := open(t, dbURL)
	for what, run := range map[string]func() error{
		"Write":   func() error { return postgres.Write(t.Context(), db, queue) },
		"Grouped": func() error { return g.Write(t.Context(), queue) },
		"Read":    func() error { return postgres.Read(t.Context(), db, queue) },
		"InTx": func() error {
			return postgres.InTx(t.Context(), db, func(ctx context.Context, tx pgx.Tx) error {
				return tx.QueryRow(ctx, returning).Scan(new(string))
			})
		},
	} {
		for _, kind := range []string{"varchar(30)", "text"} {
			everyConnection(t, db, returning)
			if _, err := other.Exec(t.Context(), `ALTER TABLE counters ALTER COLUMN name TYPE `+kind); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := run(); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
	}
}

// A server that became a standby: its connections are given up, and no new ones are made to
// it. What was asked was not done, and can be asked again.
func TestWrite_LeavesAServerThatTakesNoWrites(t *testing.T) {
	t.Parallel()
	db, dbURL := database(t)
	admin := open(t, dbURL)
	readOnly := func(value string) {
		t.Helper()
		_, err := admin.Exec(t.Context(), `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = `+value+`', current_database()); END $$`)
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func() error { return postgres.Write(t.Context(), db, func(b *pgx.Batch) { b.Queue(count, "a") }) }

	everyConnection(t, db, `SET default_transaction_read_only = on`)
	if err := write(); err != nil {
		t.Errorf("new connections would take it: %v", err)
	}
	everyConnection(t, db, `SET default_transaction_read_only = on`)
	readOnly("on")
	if err := write(); !postgres.IsUnavailable(err) || postgres.IsIndefinite(err) {
		t.Errorf("on a read-only server: %v", err)
	}
	readOnly("off")
	if err := write(); err != nil || n(t, db, "a") != 2 {
		t.Errorf("afterwards: %v, a = %d", err, n(t, db, "a"))
	}
}

// Poolers are used with other modes of the protocol, and there pgx finds out later what it
// cannot encode.
func TestWrite_WhatCannotBeEncodedIsNotSentInAnyMode(t *testing.T) {
	t.Parallel()
	_, dbURL := database(t)
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		db := open(t, with(t, dbURL, "default_query_exec_mode", mode))
		err := postgres.Write(t.Context(), db, func(b *pgx.Batch) {
			b.Queue(`SELECT 1`)
			b.Queue(count, make(chan int))
		})
		if err == nil || postgres.IsIndefinite(err) || postgres.IsUnavailable(err) {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// Replicas that start together wait for each other's migration, and not for a clock.
func TestUp_ReplicasThatStartTogetherTakeTurnsAtOnce(t *testing.T) {
	t.Parallel()
	_, dbURL := database(t)
	files := fstest.MapFS{
		"migrations/00001_test.sql": migrations["migrations/00001_test.sql"],
		"migrations/00002_slow.sql": {Data: []byte("-- +goose Up\nCREATE TABLE once (id int);\nSELECT pg_sleep(0.3);\n")},
	}
	begun := time.Now()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if err := migrate.Up(t.Context(), dbURL, files); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("three replicas took %v", took)
	}
}
