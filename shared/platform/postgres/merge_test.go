package postgres_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/failwell/shared/platform/postgres"
)

const kinds = `
	CREATE TABLE kinds (
	    id    bigint      GENERATED ALWAYS AS IDENTITY,
	    name  uuid        PRIMARY KEY,
	    words text        NOT NULL CHECK (words <> 'refused'),
	    raw   bytea       NOT NULL,
	    bag   jsonb       NOT NULL,
	    small smallint    NOT NULL,
	    at    timestamptz NOT NULL,
	    till  timestamptz NOT NULL
	)`

// insertKind has a parameter of each type that we write, and two digits of them.
const insertKind = `
	INSERT INTO kinds AS k (name, words, raw, bag, small, at, till)
	VALUES ($1, $2 || $3 || $4 || $5 || ')', $6, COALESCE($7::jsonb, '{}'), $8, $9, $9::timestamptz + $10::interval)
	ON CONFLICT (name) DO UPDATE
	   SET words = k.words || EXCLUDED.words
	RETURNING id, name`

// What a common transaction inserts is one statement, and each of its rows is as it
// would have been alone.
func TestInsertsOfACommonTransactionAreOneStatement(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	if _, err := db.Exec(t.Context(), kinds); err != nil {
		t.Fatal(err)
	}
	hold, err := db.Begin(t.Context()) // the first commit waits, so that the rest gathers
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hold.Exec(t.Context(), count, "a"); err != nil {
		t.Fatal(err)
	}
	g := postgres.NewWriter(db)
	defer g.Close()

	begun := time.Now().UTC().Truncate(time.Microsecond)
	names, ids := make([]uuid.UUID, 40), make([]int64, 40)
	for i := range names {
		names[i] = uuid.New()
	}
	var wrongPart atomic.Int64
	results := make(chan error, 1)
	go func() { results <- g.Write(t.Context(), func(b *pgx.Batch) { b.Queue(count, "a") }) }()
	all := make(chan []error, 1)
	go func() {
		all <- writeAll(t, g, len(names), func(i int, b *pgx.Batch) {
			words := fmt.Sprint(i)
			if i == 13 {
				words = "none" // no row of the bag: NULL
			}
			var bag map[string]string
			if i != 13 {
				bag = map[string]string{"n": words}
			}
			b.Queue(insertKind, names[i], words, ",", "", "'(", []byte{byte(i), 0, 255}, bag, i, begun, time.Hour).
				QueryRow(func(row pgx.Row) error {
					var name uuid.UUID
					err := row.Scan(&ids[i], &name)
					if name != names[i] {
						wrongPart.Add(1)
					}
					return err
				})
		})
	}()
	awaitLockWaiters(t, db, 1)
	if err := hold.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-results; err != nil {
		t.Error(err)
	}
	for i, err := range <-all {
		if err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	if wrongPart.Load() != 0 {
		t.Errorf("%d heard of another's row", wrongPart.Load())
	}
	for i := range names {
		var words string
		var raw []byte
		var bag map[string]string
		var small int
		var at, till time.Time
		if err := db.QueryRow(t.Context(), `SELECT words, raw, bag, small, at, till FROM kinds WHERE name = $1 AND id = $2`, names[i], ids[i]).
			Scan(&words, &raw, &bag, &small, &at, &till); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
		n := strings.TrimSuffix(words, ",'()")
		if (n != fmt.Sprint(i) || bag["n"] != n) && (i != 13 || n != "none" || len(bag) != 0) ||
			string(raw) != string([]byte{byte(i), 0, 255}) || small != i || !at.Equal(begun) || !till.Equal(begun.Add(time.Hour)) {
			t.Errorf("%d: %q %v %v %d %v %v", i, words, raw, bag, small, at, till)
		}
	}
	var statements int
	if err := db.QueryRow(t.Context(), `SELECT count(DISTINCT xmin::text || cmin::text) FROM kinds`).Scan(&statements); err != nil {
		t.Fatal(err)
	}
	if statements > 2 { // the first of them may have gone with the count
		t.Errorf("%d rows took %d statements", len(names), statements)
	}
}

// What one of the rows violates is that one's affair.
func TestWhatIsRefusedAmongMergedInsertsIsRefusedAlone(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	if _, err := db.Exec(t.Context(), kinds); err != nil {
		t.Fatal(err)
	}
	g := postgres.NewWriter(db)
	defer g.Close()
	const insert = `INSERT INTO kinds (name, words, raw, bag, small, at, till) VALUES ($1, $2, '', '{}', 1, now(), now())`
	taken := uuid.New()
	if err := g.Write(t.Context(), func(b *pgx.Batch) { b.Queue(insert, taken, "first") }); err != nil {
		t.Fatal(err)
	}
	var heard atomic.Int64
	for i, err := range writeAll(t, g, 60, func(i int, b *pgx.Batch) {
		name, words := uuid.New(), "fine"
		switch i % 20 {
		case 3:
			name = taken
		case 7:
			words = "refused"
		}
		b.Queue(insert, name, words).Exec(func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() == 1 {
				heard.Add(1)
			}
			return nil
		})
		b.Queue(count, "a")
	}) {
		want := map[int]string{3: "kinds_pkey", 7: "kinds_words_check"}[i%20]
		if want == "" && err != nil || want != "" && !postgres.Violates(err, want) {
			t.Errorf("%d: %v, want %q", i, err, want)
		}
	}
	if got := n(t, db, "a"); got != 54 || heard.Load() < 54 {
		t.Errorf("a = %d, want 54; %d heard of their row", got, heard.Load())
	}
}

// What cannot be told apart afterwards, or is no insert of one row, goes as it is, and
// each hears what it would have heard alone.
func TestWhatHasNoFormForManyIsSentAsItIs(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	if _, err := db.Exec(t.Context(), `
		CREATE TYPE mood AS ENUM ('good', 'bad');
		CREATE TABLE odd (id bigint GENERATED ALWAYS AS IDENTITY, name text UNIQUE, tags text[], mood mood, n int DEFAULT 7);
		INSERT INTO odd (name) VALUES ('here')`); err != nil {
		t.Fatal(err)
	}
	g := postgres.NewWriter(db)
	defer g.Close()
	var wrong, there atomic.Int64
	for i, err := range writeAll(t, g, 40, func(i int, b *pgx.Batch) {
		name := fmt.Sprint(i)
		written := func(want int64) func(pgconn.CommandTag) error {
			return func(tag pgconn.CommandTag) error {
				if tag.RowsAffected() != want {
					wrong.Add(1)
				}
				return nil
			}
		}
		b.Queue(`INSERT INTO odd (name) VALUES ($1) ON CONFLICT DO NOTHING`, "here").Exec(written(0))
		b.Queue(`INSERT INTO odd (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET n = odd.n + 1 WHERE odd.n < 0`, "here").Exec(written(0))
		b.Queue(`INSERT INTO odd (n) SELECT max(x) FROM (VALUES ($1::int)) v (x)`, i).Exec(written(1))
		b.Queue(`INSERT INTO odd (name, n) VALUES ($1, DEFAULT)`, "default "+name).Exec(written(1))
		b.Queue(`INSERT INTO odd (name, tags) VALUES ($1, $2)`, "array "+name, []string{name, "x"}).Exec(written(1))
		b.Queue(`INSERT INTO odd (name, mood) VALUES ($1, $2)`, "mood "+name, "bad").Exec(written(1))
		b.Queue(`INSERT INTO odd (name) VALUES ('literal ' || $1), ('two ' || $1)`, name).Exec(written(2))
		// These have one. Some look at what comes back, one way or the other, and some do not.
		returning := b.Queue(`INSERT INTO odd (name) VALUES ('row ' || $1) RETURNING name`, name)
		mine := func(got string) {
			if got == "row "+name {
				there.Add(1)
			}
		}
		switch i % 4 {
		case 0:
			returning.QueryRow(func(row pgx.Row) error {
				var got string
				err := row.Scan(&got)
				mine(got)
				return err
			})
		case 1:
			returning.Query(func(rows pgx.Rows) error {
				all, err := pgx.CollectRows(rows, pgx.RowTo[string])
				mine(strings.Join(all, " and "))
				return err
			})
		case 2:
			returning.Query(func(pgx.Rows) error { mine("row " + name); return nil }) // and does not look
		}
	}) {
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	if wrong.Load() != 0 || there.Load() != 30 {
		t.Errorf("%d heard something else than alone, %d of 30 of their own row", wrong.Load(), there.Load())
	}
	var rows, bad, arrays, sevens int
	if err := db.QueryRow(t.Context(), `
		SELECT count(*), count(mood), count(*) FILTER (WHERE tags = ARRAY[substr(name, 7), 'x']), count(*) FILTER (WHERE name LIKE 'default %' AND n = 7)
		  FROM odd`).Scan(&rows, &bad, &arrays, &sevens); err != nil || rows != 1+40*7 || bad != 40 || arrays != 40 || sevens != 40 {
		t.Errorf("%d rows, %d moods, %d arrays, %d defaults, %v", rows, bad, arrays, sevens, err)
	}
}
