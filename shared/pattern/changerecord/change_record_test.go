package changerecord_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/platform/postgres"
)

func newMessage(t *testing.T, source string) changerecord.Message {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	return changerecord.Message{Source: source, ID: id}
}

// credit is the change: an entry, and the balance with it.
func credit(b *pgx.Batch, amount int) {
	b.Queue(`INSERT INTO entries (account, amount) VALUES ('acme', $1)`, amount)
	b.Queue(`UPDATE accounts SET balance = balance + $1 WHERE name = 'acme'`, amount)
}

func handle(t *testing.T, db *pgxpool.Pool, m changerecord.Message, amount int) error {
	t.Helper()
	return postgres.Write(t.Context(), db, func(b *pgx.Batch) {
		m.Record(b)
		credit(b, amount)
	})
}

// wantBooks checks what has changed in all.
func wantBooks(t *testing.T, db *pgxpool.Pool, messages, entries, balance int) {
	t.Helper()
	var m, e, b int
	err := db.QueryRow(t.Context(), `
		SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM entries), balance
		  FROM accounts`).Scan(&m, &e, &b)
	if err != nil {
		t.Fatal(err)
	}
	if m != messages || e != entries || b != balance {
		t.Errorf("%d messages, %d entries, balance %d; want %d, %d, %d", m, e, b, messages, entries, balance)
	}
}

// blocked tells how many sessions of this database wait for a lock.
func blocked(t *testing.T, db *pgxpool.Pool) int {
	t.Helper()
	var n int
	err := db.QueryRow(t.Context(), `
		SELECT count(*)
		  FROM pg_stat_activity
		 WHERE datname = current_database()
		   AND wait_event_type = 'Lock'`).Scan(&n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRecord_TenConcurrentDeliveriesMakeOneChange(t *testing.T) {
	t.Parallel()
	db := open(t)
	m := newMessage(t, "/orders")

	// The account is locked, so that the first delivery stops after its record
	// and before its commit, and all the others arrive in between.
	gate, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Rollback(t.Context()) //nolint:errcheck // only when the test has failed already
	if _, err := gate.Exec(t.Context(), `SELECT FROM accounts FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	const deliveries = 10
	outcomes := make(chan error, deliveries)
	for range deliveries {
		go func() { outcomes <- handle(t, db, m, 5) }()
	}
	eventually(t, "all deliveries are in the middle of it", func() bool { return blocked(t, db) == deliveries })
	if err := gate.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}

	made := 0
	for range deliveries {
		switch err := <-outcomes; {
		case err == nil:
			made++
		case !changerecord.IsDuplicate(err):
			t.Errorf("neither made nor a duplicate: %v", err)
		}
	}
	if made != 1 {
		t.Errorf("%d deliveries believe that they made the change", made)
	}
	wantBooks(t, db, 1, 1, 5)
}

// The second delivery must not be acknowledged on the strength of a record that
// is not committed: when the first is rolled back after that, neither makes the change.
func TestRecord_DuplicateOfAnUndoneDeliveryMakesTheChange(t *testing.T) {
	t.Parallel()
	db := open(t)
	m := newMessage(t, "/orders")

	first, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Rollback(t.Context()) //nolint:errcheck // only when the test has failed already
	var b pgx.Batch
	m.Record(&b)
	if err := first.SendBatch(t.Context(), &b).Close(); err != nil {
		t.Fatal(err)
	}
	second := make(chan error, 1)
	go func() { second <- handle(t, db, m, 5) }()
	eventually(t, "the second waits for the first", func() bool { return blocked(t, db) == 1 })
	if err := first.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	wantBooks(t, db, 1, 1, 5)
}

func TestRecord_DuplicateUndoesItsWholeBatch(t *testing.T) {
	t.Parallel()
	db := open(t)
	m, other := newMessage(t, "/orders"), newMessage(t, "/orders")
	if err := handle(t, db, m, 5); err != nil {
		t.Fatal(err)
	}
	// Whatever stands in the batch of a duplicate is undone, on either side of the
	// record, and another message's record too.
	err := postgres.Write(t.Context(), db, func(b *pgx.Batch) {
		credit(b, 1)
		other.Record(b)
		m.Record(b)
		credit(b, 2)
	})
	if !changerecord.IsDuplicate(err) {
		t.Fatalf("not reported as a duplicate: %v", err)
	}
	wantBooks(t, db, 1, 1, 5)
	if err := handle(t, db, other, 3); err != nil {
		t.Errorf("the other message lost its change: %v", err)
	}
	wantBooks(t, db, 2, 2, 8)
}

// A change that fails for a reason of its own must not be taken for made.
func TestRecord_FailedChangeIsNeitherDuplicateNorRecorded(t *testing.T) {
	t.Parallel()
	db := open(t)
	m := newMessage(t, "/orders")
	err := postgres.Write(t.Context(), db, func(b *pgx.Batch) {
		m.Record(b)
		b.Queue(`INSERT INTO accounts VALUES ('acme', 0)`) // there is one
	})
	if err == nil || changerecord.IsDuplicate(err) {
		t.Fatalf("want the failure of the change, got %v", err)
	}
	if changerecord.IsDuplicate(nil) || changerecord.IsDuplicate(errors.New("duplicate key inbox_pkey")) {
		t.Error("only PostgreSQL's own refusal is a duplicate")
	}
	if err := handle(t, db, m, 5); err != nil {
		t.Errorf("the message is lost: %v", err)
	}
	wantBooks(t, db, 1, 1, 5)
}

func TestRecord_TwoSendersMayUseTheSameID(t *testing.T) {
	t.Parallel()
	db := open(t)
	m := newMessage(t, "/orders")
	namesake := changerecord.Message{Source: "/payments", ID: m.ID}
	for _, m := range []changerecord.Message{m, namesake} {
		if err := handle(t, db, m, 5); err != nil {
			t.Errorf("%v: %v", m, err)
		}
	}
	wantBooks(t, db, 2, 2, 10)
}

// pgx's own transaction, without ours.
func TestRecordTx_UndoesASecondChange(t *testing.T) {
	t.Parallel()
	db := open(t)
	m := newMessage(t, "/orders")
	for delivery := range 2 {
		err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
			b := &pgx.Batch{}
			credit(b, 5)
			return errors.Join(tx.SendBatch(t.Context(), b).Close(), m.RecordTx(t.Context(), tx))
		})
		if (err != nil) != (delivery == 1) || changerecord.IsDuplicate(err) != (delivery == 1) {
			t.Errorf("delivery %d: %v", delivery+1, err)
		}
	}
	wantBooks(t, db, 1, 1, 5)
}

func TestOf_ReadsTheSourceAndIDOfAnEvent(t *testing.T) {
	t.Parallel()
	want := newMessage(t, "/orders")
	if m, err := changerecord.Of(want.Source, want.ID.String()); err != nil || m != want {
		t.Errorf("got %v, %v; want %v", m, err, want)
	}
	// Without an identity there is no record, so it must not pass for a message.
	if m, err := changerecord.Of(want.Source, "order-7"); err == nil {
		t.Errorf("an id that is no UUID became %v", m)
	}
}

// made returns a message whose id says that it was made that long ago.
func made(t *testing.T, source string, ago time.Duration) changerecord.Message {
	t.Helper()
	m := newMessage(t, source)
	ms := time.Now().Add(-ago).UnixMilli()
	for i := range 6 {
		m.ID[i] = byte(ms >> (8 * (5 - i)))
	}
	return m
}

func TestDeleteOld_KeepsWhatMayComeAgain(t *testing.T) {
	t.Parallel()
	db := open(t)
	old := []changerecord.Message{made(t, "/orders", 25*time.Hour), made(t, "/payments", 1000*time.Hour), made(t, "/orders", 48*time.Hour)}
	kept := []changerecord.Message{made(t, "/orders", 23*time.Hour), made(t, "/payments", 0), made(t, "/elsewhere", 1000*time.Hour)}
	err := postgres.Write(t.Context(), db, func(b *pgx.Batch) {
		for _, m := range append(old, kept...) {
			m.Record(b)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	forget := changerecord.DeleteOld("/orders", "/payments")
	for i, want := range []int64{2, 1, 0} { // never more than two at a time
		tag, err := db.Exec(t.Context(), forget, 24*time.Hour, 2)
		if err != nil {
			t.Fatal(err)
		}
		if tag.RowsAffected() != want {
			t.Errorf("round %d forgot %d messages, want %d", i+1, tag.RowsAffected(), want)
		}
	}
	for _, m := range kept {
		if err := postgres.Write(t.Context(), db, m.Record); !changerecord.IsDuplicate(err) {
			t.Errorf("%v was forgotten: %v", m, err)
		}
	}
}
