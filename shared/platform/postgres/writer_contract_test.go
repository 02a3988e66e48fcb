package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/postgres"
)

// Both writers keep one contract: each case runs against both. Where several batches
// are handed in, the group is held until all of them wait, so that they meet in one
// transaction.

type writerCase struct {
	name, schema string
	run          func(t *testing.T, w contractWriter)
}

// contractWriter is a writer under test with its database.
type contractWriter struct {
	postgres.Writer
	db       *pgxpool.Pool
	together func(n int, write func(i int)) // calls write for 0 to n-1 at once, in one group where there are groups
}

func TestWriter_Contract(t *testing.T) {
	for _, c := range writerCases {
		t.Run(c.name, func(t *testing.T) {
			t.Run("Direct", func(t *testing.T) {
				t.Parallel()
				db := withSchema(t, c.schema)
				c.run(t, contractWriter{Writer: postgres.Direct(db), db: db, together: func(n int, write func(i int)) {
					var all sync.WaitGroup
					for i := range n {
						all.Go(func() { write(i) })
					}
					all.Wait()
				}})
			})
			t.Run("Grouped", func(t *testing.T) {
				t.Parallel()
				db := withSchema(t, c.schema)
				g := postgres.Grouped(db, postgres.GroupOptions{})
				defer g.Close()
				c.run(t, contractWriter{Writer: g, db: db, together: func(n int, write func(i int)) {
					goOn := hold(t, g)
					var all sync.WaitGroup
					for i := range n { // one after the other, so that they are in the group in this order
						all.Go(func() { write(i) })
						awaitHandedIn(t, g, i+1)
					}
					close(goOn)
					all.Wait()
				}})
			})
		})
	}
}

func withSchema(t *testing.T, ddl string) *pgxpool.Pool {
	t.Helper()
	db, _ := database(t)
	if _, err := db.Exec(t.Context(), ddl); err != nil {
		t.Fatal(err)
	}
	return db
}

func texts(t *testing.T, db *pgxpool.Pool, sql string) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), sql)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func wantTexts(t *testing.T, db *pgxpool.Pool, sql string, want ...string) {
	t.Helper()
	if got := texts(t, db, sql); !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", sql, got, want)
	}
}

const people = `CREATE TABLE people (name text CONSTRAINT one_of_a_name UNIQUE, id bigint GENERATED ALWAYS AS IDENTITY)`

// skipTrigger drops every row of people whose name is "skip me".
const skipTrigger = people + `;
	CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.name = 'skip me' THEN RETURN NULL; END IF; RETURN NEW; END $$;
	CREATE TRIGGER skip BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION skip()`

var writerCases = []writerCase{
	{"statements keep their order", `CREATE TABLE current (name text)`, func(t *testing.T, w contractWriter) {
		err := w.Write(t.Context(), func(b *pgx.Batch) {
			b.Queue(`INSERT INTO current VALUES ($1)`, "old")
			b.Queue(`DELETE FROM current`)
			b.Queue(`INSERT INTO current VALUES ($1)`, "new")
		})
		if err != nil {
			t.Fatal(err)
		}
		wantTexts(t, w.db, `SELECT name FROM current`, "new")
	}},

	{"each batch keeps its order beside the others", `CREATE TABLE n (n int); INSERT INTO n VALUES (0); CREATE TABLE seen (who int, n int)`, func(t *testing.T, w contractWriter) {
		w.together(5, func(i int) {
			err := w.Write(t.Context(), func(b *pgx.Batch) {
				b.Queue(`UPDATE n SET n = n + 1`)
				b.Queue(`INSERT INTO seen (who, n) VALUES ($1, (SELECT n FROM n))`, i)
			})
			if err != nil {
				t.Error(err)
			}
		})
		wantTexts(t, w.db, `SELECT n::text FROM seen ORDER BY n`, "1", "2", "3", "4", "5")
	}},

	{"text is sent as it is", `CREATE TABLE current (id int, name text)`, func(t *testing.T, w contractWriter) {
		w.together(3, func(i int) {
			if err := w.Write(t.Context(), func(b *pgx.Batch) { b.Queue(`INSERT INTO current VALUES ($1, 'you get $1 off')`, i) }); err != nil {
				t.Error(err)
			}
		})
		wantTexts(t, w.db, `SELECT DISTINCT name FROM current`, "you get $1 off")
	}},

	{"a subquery sees the statements before it", `CREATE TABLE invoices (number int)`, func(t *testing.T, w contractWriter) {
		err := w.Write(t.Context(), func(b *pgx.Batch) {
			for range 3 {
				b.Queue(`INSERT INTO invoices (number) VALUES ((SELECT count(*) + 1 FROM invoices))`)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		wantTexts(t, w.db, `SELECT number::text FROM invoices ORDER BY number`, "1", "2", "3")
	}},

	{"one of many is refused by a unique constraint", people, func(t *testing.T, w contractWriter) {
		errs := make([]error, 9)
		w.together(len(errs), func(i int) {
			errs[i] = w.Write(t.Context(), func(b *pgx.Batch) {
				b.Queue(`INSERT INTO people (name) VALUES ($1)`, fmt.Sprint("beside ", i))
				b.Queue(`INSERT INTO people (name) VALUES ($1)`, fmt.Sprint(i%8)) // 0 and 8 want one name
			})
		})
		refused := 0
		for i, err := range errs {
			if postgres.Violates(err, "one_of_a_name") && i%8 == 0 {
				refused++
			} else if err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		if got := len(texts(t, w.db, `SELECT name FROM people`)); refused != 1 || got != 16 {
			t.Errorf("%d refused and %d rows, want 1 and 16: two for each of the others", refused, got)
		}
	}},

	{"many are refused", people + `; INSERT INTO people (name) VALUES ('taken')`, func(t *testing.T, w contractWriter) {
		errs := make([]error, 40)
		w.together(len(errs), func(i int) {
			name := fmt.Sprint(i)
			if i%2 == 0 {
				name = "taken"
			}
			errs[i] = w.Write(t.Context(), func(b *pgx.Batch) { b.Queue(`INSERT INTO people (name) VALUES ($1)`, name) })
		})
		for i, err := range errs {
			if postgres.Violates(err, "one_of_a_name") != (i%2 == 0) {
				t.Errorf("%d: %v", i, err)
			}
		}
		if got := len(texts(t, w.db, `SELECT name FROM people`)); got != 21 {
			t.Errorf("%d rows, want 21", got)
		}
	}},

	{"a deferred constraint refuses at the commit", `CREATE TABLE parent (id int PRIMARY KEY);
		CREATE TABLE child (id int, parent int CONSTRAINT has_parent REFERENCES parent DEFERRABLE INITIALLY DEFERRED)`, func(t *testing.T, w contractWriter) {
		errs := make([]error, 6)
		w.together(len(errs), func(i int) {
			errs[i] = w.Write(t.Context(), func(b *pgx.Batch) {
				b.Queue(`INSERT INTO child VALUES ($1, $1)`, i) // before its parent
				if i != 2 {
					b.Queue(`INSERT INTO parent VALUES ($1)`, i)
				}
			})
		})
		for i, err := range errs {
			if postgres.Violates(err, "has_parent") != (i == 2) || i != 2 && err != nil {
				t.Errorf("%d: %v", i, err)
			}
		}
		wantTexts(t, w.db, `SELECT id::text FROM child ORDER BY id`, "0", "1", "3", "4", "5")
	}},

	{"each hears what its own statement returned", people, func(t *testing.T, w contractWriter) {
		names, count := make([]string, 12), make([]int64, 12)
		w.together(len(names), func(i int) {
			err := w.Write(t.Context(), func(b *pgx.Batch) {
				b.Queue(`INSERT INTO people (name) VALUES ($1) RETURNING name`, fmt.Sprint("n", i)).QueryRow(func(row pgx.Row) error { return row.Scan(&names[i]) })
				b.Queue(`UPDATE people SET name = name WHERE name = $1`, fmt.Sprint("n", i)).Exec(func(tag pgconn.CommandTag) error { count[i] = tag.RowsAffected(); return nil })
			})
			if err != nil {
				t.Error(err)
			}
		})
		for i := range names {
			if names[i] != fmt.Sprint("n", i) || count[i] != 1 {
				t.Errorf("%d heard %q and %d rows", i, names[i], count[i])
			}
		}
	}},

	{"only the first inserts where there is nothing to do on conflict", people, func(t *testing.T, w contractWriter) {
		count := make([]int64, 5)
		w.together(len(count), func(i int) {
			err := w.Write(t.Context(), func(b *pgx.Batch) {
				b.Queue("INSERT INTO people (name) VALUES ($1) on conflict\n do\n nothing", "guard").Exec(func(tag pgconn.CommandTag) error { count[i] = tag.RowsAffected(); return nil })
			})
			if err != nil {
				t.Error(err)
			}
		})
		if sum := count[0] + count[1] + count[2] + count[3] + count[4]; sum != 1 {
			t.Errorf("%v were told that they were first", count)
		}
	}},

	{"a row that a trigger dropped is not counted", skipTrigger, func(t *testing.T, w contractWriter) {
		want := []string{"skip me", "b", "c"}
		heard, count := make([]string, 3), make([]int64, 3)
		w.together(len(want), func(i int) {
			err := w.Write(t.Context(), func(b *pgx.Batch) {
				b.Queue(`INSERT INTO people (name) VALUES ($1) RETURNING name`, want[i]).Query(func(rows pgx.Rows) error {
					for rows.Next() {
						if err := rows.Scan(&heard[i]); err != nil {
							return err
						}
					}
					count[i] = rows.CommandTag().RowsAffected()
					return rows.Err()
				})
			})
			if err != nil {
				t.Error(err)
			}
		})
		if heard[0] != "" || heard[1] != "b" || heard[2] != "c" || count[0] != 0 || count[1] != 1 {
			t.Errorf("heard %q, counted %d", heard, count)
		}
	}},

	{"a callback that fails is its caller's", people, func(t *testing.T, w contractWriter) {
		mine := errors.New("a mistake of the third caller")
		errs, heard := make([]error, 6), make([]bool, 6)
		w.together(len(errs), func(i int) {
			errs[i] = w.Write(t.Context(), func(b *pgx.Batch) {
				b.Queue(`INSERT INTO people (name) VALUES ($1) RETURNING name`, fmt.Sprint(i)).QueryRow(func(row pgx.Row) error {
					var number int
					switch i {
					case 1:
						return row.Scan(&number) // a text is no number
					case 2:
						return mine
					}
					return nil
				})
				b.Queue(`SELECT 1`).Exec(func(pgconn.CommandTag) error { heard[i] = true; return nil })
			})
		})
		for i, err := range errs {
			if failed := i == 1 || i == 2; errors.Is(err, postgres.ErrCallback) != failed || !failed && err != nil || !heard[i] {
				t.Errorf("%d: %v; its second callback ran: %v", i, err, heard[i])
			}
			if errors.Is(err, postgres.ErrCommitUnknown) || postgres.IsIndefinite(err) {
				t.Errorf("%d: %v, although it is certain that it is committed", i, err)
			}
		}
		if !errors.Is(errs[2], mine) {
			t.Errorf("its own error is not in %v", errs[2])
		}
		if got := len(texts(t, w.db, `SELECT name FROM people`)); got != 6 {
			t.Errorf("%d rows, want 6", got)
		}
	}},

	{"no callback runs for what was refused", people + `; INSERT INTO people (name) VALUES ('taken')`, func(t *testing.T, w contractWriter) {
		heard := false
		err := w.Write(t.Context(), func(b *pgx.Batch) {
			b.Queue(`INSERT INTO people (name) VALUES ('mine') RETURNING id`).QueryRow(func(row pgx.Row) error { heard = true; return nil })
			b.Queue(`INSERT INTO people (name) VALUES ('taken')`)
		})
		if heard || !postgres.Violates(err, "one_of_a_name") {
			t.Errorf("the callback ran: %v; error %v", heard, err)
		}
	}},

	{"a panic while the batch is filled is its caller's", people, func(t *testing.T, w contractWriter) {
		func() {
			defer func() {
				if recovered := recover(); recovered != "in fill" {
					t.Errorf("recovered %v", recovered)
				}
			}()
			_ = w.Write(t.Context(), func(b *pgx.Batch) {
				b.Queue(`INSERT INTO people (name) VALUES ('never')`)
				panic("in fill")
			})
		}()
		if err := w.Write(t.Context(), func(b *pgx.Batch) { b.Queue(`INSERT INTO people (name) VALUES ('after')`) }); err != nil {
			t.Error(err)
		}
		wantTexts(t, w.db, `SELECT name FROM people`, "after")
	}},

	{"a panic in a callback is its caller's", people, func(t *testing.T, w contractWriter) {
		recovered := make([]any, 3)
		w.together(len(recovered), func(i int) {
			defer func() { recovered[i] = recover() }()
			err := w.Write(t.Context(), func(b *pgx.Batch) {
				b.Queue(`INSERT INTO people (name) VALUES ($1)`, fmt.Sprint(i)).Exec(func(pgconn.CommandTag) error {
					if i == 1 {
						panic("in callback")
					}
					return nil
				})
			})
			if err != nil {
				t.Error(err)
			}
		})
		if recovered[0] != nil || recovered[1] != "in callback" || recovered[2] != nil {
			t.Errorf("recovered %v", recovered)
		}
		wantTexts(t, w.db, `SELECT name FROM people ORDER BY name`, "0", "1", "2")
	}},

	{"a caller that is gone before it began wrote nothing", people, func(t *testing.T, w contractWriter) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := w.Write(ctx, func(b *pgx.Batch) { b.Queue(`INSERT INTO people (name) VALUES ('gone')`) })
		if !errors.Is(err, context.Canceled) || postgres.IsIndefinite(err) {
			t.Errorf("got %v, want a definite end by its context", err)
		}
		wantTexts(t, w.db, `SELECT name FROM people`)
	}},

	{"a caller that goes while its batch is under way is not told a lie", people + `; INSERT INTO people (name) VALUES ('a')`, func(t *testing.T, w contractWriter) {
		lock, err := w.db.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Rollback(context.Background()) //nolint:errcheck // or a test that has failed waits in the pool\'s Close
		if _, err := lock.Exec(t.Context(), `DELETE FROM people`); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		told := make(chan error, 1)
		go func() {
			told <- w.Write(ctx, func(b *pgx.Batch) {
				b.Queue(`INSERT INTO people (name) VALUES ('b')`)
				b.Queue(`UPDATE people SET name = 'c' WHERE name = 'a'`)
			})
		}()
		awaitLockWaiters(t, w.db, 1)
		cancel()
		if err := <-told; !postgres.IsIndefinite(err) && !postgres.LockTimedOut(err) && !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := lock.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(texts(t, w.db, `SELECT name FROM people ORDER BY name`))
		if got != "[a]" && got != "[b c]" {
			t.Errorf("half of the batch was written: %s", got)
		}
	}},

	{"a transaction is not opened inside another", people, func(t *testing.T, w contractWriter) {
		err := postgres.InTx(t.Context(), w.db, func(ctx context.Context, _ pgx.Tx) error {
			return w.Write(ctx, func(b *pgx.Batch) { b.Queue(`SELECT 1`) })
		})
		if !errors.Is(err, postgres.ErrNested) {
			t.Errorf("got %v", err)
		}
	}},

	{"results of every kind reach their callback", `CREATE TABLE kinds (id uuid, at timestamptz, note text, data bytea)`, func(t *testing.T, w contractWriter) {
		type kinds struct {
			ID   uuid.UUID
			At   time.Time
			Note *string
			Data []byte
		}
		want := kinds{ID: uuid.New(), At: time.Now().UTC().Truncate(time.Microsecond), Data: []byte{0, 1}}
		var got []kinds
		var values []any
		err := w.Write(t.Context(), func(b *pgx.Batch) {
			b.Queue(`INSERT INTO kinds VALUES ($1, $2, NULL, $3), ($1, $2, 'second', $3) RETURNING *`, want.ID, want.At, want.Data).Query(func(rows pgx.Rows) (err error) {
				got, err = pgx.CollectRows(rows, pgx.RowToStructByName[kinds])
				return err
			})
			b.Queue(`SELECT 7, 'seven'`).Query(func(rows pgx.Rows) (err error) {
				for rows.Next() {
					values, err = rows.Values()
				}
				return errors.Join(err, rows.Err())
			})
			b.Queue(`SELECT 1 WHERE false`).QueryRow(func(row pgx.Row) error {
				if err := row.Scan(new(int)); !errors.Is(err, pgx.ErrNoRows) {
					return fmt.Errorf("no row: %w", err)
				}
				return nil
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 2 || got[0].ID != want.ID || !got[0].At.Equal(want.At) || got[0].Note != nil || *got[1].Note != "second" || string(got[1].Data) != "\x00\x01" {
			t.Errorf("got %+v", got)
		}
		if fmt.Sprint(values) != "[7 seven]" {
			t.Errorf("got %v", values)
		}
	}},
}
