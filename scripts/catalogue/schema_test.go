package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/postgres/migrate"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// variant is a service's table that differs from the first copy of it on purpose.
type variant struct {
	why        string
	lacks, has []string // lines of its description, against the first copy's
}

var variants = map[string]variant{
	"orders sagas": {
		why: "the saga is an order's, and has its id",
		has: []string{"constraint sagas_id_fkey FOREIGN KEY (id) REFERENCES orders(id)"},
	},
	"orders idempotency_keys": {
		why: "its work is in one database: the key is written with the answer, so it needs neither lock nor a row without answer",
		lacks: []string{
			"column body bytea NOT NULL DEFAULT '\\x'::bytea",
			"column headers jsonb NOT NULL DEFAULT '{}'::jsonb",
			"column lock_token uuid",
			"column locked_until timestamp with time zone",
			"column status smallint",
			"column operation_id uuid",
			"column traceparent text NOT NULL DEFAULT ''::text",
			"index idempotency_keys_unfinished btree (operation, locked_until) WHERE (status IS NULL)",
			"option fillfactor=70",
		},
		has: []string{
			"column body bytea NOT NULL",
			"column headers jsonb NOT NULL",
			"column status smallint NOT NULL",
		},
	},
}

// A pattern's tables stand in its schema.sql, for everyone who takes the pattern, and
// again in the migrations of each service that uses it. All copies are the same: a
// column that one of them lacks would fail only where that service meets it.
func TestSchema_IsTheSameInPatternsAndServices(t *testing.T) {
	type copied struct {
		from   string
		lines  []string
		copies int
	}
	first := map[string]*copied{} // by table: its pattern's, or that of the first service
	found := map[string]bool{}    // the variants that there are
	take := func(name, from, url string) {
		for table, got := range described(t, url) {
			if first[table] == nil {
				first[table] = &copied{from, got, 1}
				continue
			}
			first[table].copies++
			v := variants[name+" "+table]
			found[name+" "+table] = true
			want := slices.DeleteFunc(slices.Clone(first[table].lines), func(line string) bool { return slices.Contains(v.lacks, line) })
			if len(want)+len(v.lacks) != len(first[table].lines) {
				t.Errorf("%s of %s is declared to lack what %s has not", table, name, first[table].from)
			}
			want = append(want, v.has...)
			slices.Sort(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("table %s differs, - %s, + %s:\n%s", table, first[table].from, from, diff)
			}
		}
	}

	schemas, err := filepath.Glob("../../shared/pattern/*/schema.sql")
	if err != nil || len(schemas) == 0 {
		t.Fatalf("%d schemas, %v", len(schemas), err)
	}
	for _, file := range schemas {
		url := testenv.Postgres(t, nil)
		execute(t, url, file)
		take(filepath.Base(filepath.Dir(file)), strings.TrimPrefix(file, "../../"), url)
	}
	ofPatterns := slices.Collect(maps.Keys(first))
	for _, service := range (source{root: "../.."}).services() {
		url := testenv.Postgres(t, nil)
		if err := migrate.Up(t.Context(), url, os.DirFS("../../services/"+service)); err != nil {
			t.Fatal(err)
		}
		take(service, "services/"+service+"/migrations", url)
	}
	for _, table := range ofPatterns {
		if first[table].copies < 2 {
			t.Errorf("%s has a table %s, and no service has it", first[table].from, table)
		}
	}
	for name := range variants {
		if !found[name] {
			t.Errorf("%s is declared as a variant, and there is no such copy", name)
		}
	}
}

// execute runs a file of SQL.
func execute(t *testing.T, url, file string) {
	t.Helper()
	sql, err := os.ReadFile(file) //nolint:gosec // of the repository
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // the statement was confirmed
	if _, err := conn.Exec(t.Context(), string(sql)); err != nil {
		t.Fatal(err)
	}
}

// described are the tables of a database, each with its columns, constraints, indexes
// and storage options, one a line, sorted. The order of the columns is left out:
// statements name their columns.
func described(t *testing.T, url string) map[string][]string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // only read
	rows, err := conn.Query(t.Context(), `
		WITH tables AS (
			SELECT oid, relname, reloptions
			  FROM pg_class
			 WHERE relkind IN ('r', 'p')
			   AND relnamespace = 'public'::regnamespace)
		SELECT t.relname, concat_ws(' ', 'column', a.attname, format_type(a.atttypid, a.atttypmod),
		       CASE WHEN a.attcollation <> y.typcollation THEN 'COLLATE ' || c.collname END,
		       CASE WHEN a.attnotnull THEN 'NOT NULL' END,
		       CASE WHEN a.attidentity <> '' THEN 'IDENTITY ' || a.attidentity::text END,
		       CASE WHEN a.attgenerated <> '' THEN 'GENERATED ' || a.attgenerated::text END,
		       'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid))
		  FROM tables t
		  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
		  JOIN pg_type y ON y.oid = a.atttypid
		  LEFT JOIN pg_collation c ON c.oid = a.attcollation
		  LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
		 UNION ALL
		SELECT t.relname, 'constraint ' || c.conname || ' ' || pg_get_constraintdef(c.oid)
		  FROM tables t
		  JOIN pg_constraint c ON c.conrelid = t.oid AND c.contype <> 'n'
		 UNION ALL
		SELECT t.relname, concat_ws(' ', CASE WHEN i.indisunique THEN 'unique' END, 'index', n.relname, split_part(pg_get_indexdef(i.indexrelid), ' USING ', 2))
		  FROM tables t
		  JOIN pg_index i ON i.indrelid = t.oid
		  JOIN pg_class n ON n.oid = i.indexrelid
		 UNION ALL
		SELECT t.relname, 'trigger ' || pg_get_triggerdef(g.oid)
		  FROM tables t
		  JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal
		 UNION ALL
		SELECT t.relname, 'option ' || unnest(t.reloptions)
		  FROM tables t`)
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string][]string{}
	var table, line string
	if _, err := pgx.ForEachRow(rows, []any{&table, &line}, func() error {
		tables[table] = append(tables[table], strings.ReplaceAll(line, " public.", " "))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, lines := range tables {
		slices.Sort(lines)
	}
	return tables
}
