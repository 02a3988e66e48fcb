package reconciliation_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/reconciliation"
)

const payments = `
CREATE TABLE payments (id uuid PRIMARY KEY, minor bigint NOT NULL, changed_at timestamptz NOT NULL);`

// bank is the other side: its lines, in pages of two.
type bank struct {
	mu      sync.Mutex
	lines   []reconciliation.Line
	fails   int // so many fetches of a second page fail first
	dead    bool
	fetches int
}

func (b *bank) fetch(_ context.Context, since time.Time, cursor string) (lines []reconciliation.Line, next string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fetches++
	if b.dead {
		return nil, "", errors.New("connection refused")
	}
	if cursor != "" && b.fails > 0 {
		b.fails--
		return nil, "", errors.New("no answer")
	}
	from := 0
	if cursor != "" {
		if _, err := fmt.Sscan(cursor, &from); err != nil {
			return nil, "", err
		}
	}
	for from < len(b.lines) && len(lines) < 2 {
		if !b.lines[from].At.Before(since) {
			lines = append(lines, b.lines[from])
		}
		from++
	}
	if from < len(b.lines) {
		next = fmt.Sprint(from)
	}
	return lines, next, nil
}

func (b *bank) says(subject uuid.UUID, sign int, minor int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, reconciliation.Line{
		ID: fmt.Sprint("line-", len(b.lines)), Kind: "capture", Reference: subject.String(), Subject: subject,
		MerchantID: "acme", Sign: sign, Minor: minor, Currency: "EUR", At: time.Now(),
	})
}

// judge is what a service would think: money that only they have seen is taken
// over, an amount that differs is for a person.
func judge(db *pgxpool.Pool) func(context.Context, reconciliation.Pair) (reconciliation.Judgement, error) {
	return func(ctx context.Context, p reconciliation.Pair) (reconciliation.Judgement, error) {
		switch {
		case p.Ours == nil && p.Subject != uuid.Nil:
			_, err := db.Exec(ctx, `INSERT INTO payments VALUES ($1, $2, now())`, p.Subject, p.Theirs.Minor)
			return reconciliation.Judgement{Finding: "missing-here", Verdict: reconciliation.Resolved}, err
		case p.Theirs == nil:
			return reconciliation.Judgement{Finding: "missing-there", Verdict: reconciliation.Pending}, nil
		default:
			return reconciliation.Judgement{Finding: "amount-differs", Verdict: reconciliation.Unresolvable}, nil
		}
	}
}

func reconciler(db *pgxpool.Pool, b *bank, holder string) *reconciliation.Reconciler {
	return reconciliation.New(reconciliation.Config{
		DB: db, Logger: slog.New(slog.DiscardHandler), Holder: holder,
		Sources: []reconciliation.Source{{Name: "bank", Fetch: b.fetch}},
		Changed: `SELECT id FROM payments WHERE changed_at >= $1`,
		Expected: `SELECT 'bank'::text, 'capture'::text, id, 1::bigint, minor, 'EUR'::text, changed_at
		             FROM payments WHERE id = ANY($1)`,
		Owners:  `SELECT id, 'acme'::text, id::text FROM payments WHERE id = ANY($1)`,
		Judge:   judge(db),
		Overlap: time.Minute, Poll: 5 * time.Millisecond,
	})
}

func start(t *testing.T, r *reconciliation.Reconciler) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
}

// result waits for a run, and returns how many subjects it looked at and what it found.
func result(t *testing.T, db *pgxpool.Pool, id uuid.UUID) (subjects int, found map[string]int) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		var status string
		if err := db.QueryRow(t.Context(), `SELECT status, subjects FROM reconciliations WHERE id = $1`, id).Scan(&status, &subjects); err != nil {
			t.Fatal(err)
		}
		if status == "finished" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("not finished")
		}
	}
	rows, err := db.Query(t.Context(), `SELECT finding || ' ' || verdict FROM reconciliation_differences WHERE run_id = $1`, id)
	if err != nil {
		t.Fatal(err)
	}
	findings, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	found = map[string]int{}
	for _, f := range findings {
		found[f]++
	}
	return subjects, found
}

func pay(t *testing.T, db *pgxpool.Pool, minor int64, at time.Time) uuid.UUID {
	t.Helper()
	id := uuid.New()
	if _, err := db.Exec(t.Context(), `INSERT INTO payments VALUES ($1, $2, $3)`, id, minor, at); err != nil {
		t.Fatal(err)
	}
	return id
}

func request(t *testing.T, r *reconciliation.Reconciler) uuid.UUID {
	t.Helper()
	id, err := r.Request(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestReconciler_FindsExactlyWhatDiffers(t *testing.T) {
	t.Parallel()
	db, b := database(t, payments), &bank{}
	for range 5 {
		b.says(pay(t, db, 100, time.Now()), 1, 100) // in order
	}
	b.says(pay(t, db, 100, time.Now()), 1, 90) // another amount
	b.says(uuid.New(), 1, 70)                  // only they have it
	pay(t, db, 100, time.Now())                // only we have it
	twice := pay(t, db, 100, time.Now())       // they have it twice
	b.says(twice, 1, 100)
	b.says(twice, 1, 100)
	taken := pay(t, db, 100, time.Now()) // twice, and one taken back
	b.says(taken, 1, 100)
	b.says(taken, 1, 100)
	b.says(taken, -1, 100)
	never := uuid.New() // something that was taken back altogether is nothing
	b.says(never, 1, 100)
	b.says(never, -1, 100)
	b.says(uuid.Nil, 1, 5) // two lines that mean nothing here
	b.says(uuid.Nil, 1, 5)
	b.lines[len(b.lines)-1].Reference = "other"

	r := reconciler(db, b, "a")
	start(t, r)
	_, found := result(t, db, request(t, r))
	want := map[string]int{"amount-differs unresolvable": 4, "missing-here resolved": 1, "missing-there pending": 1}
	if fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("found %v\nwant  %v", found, want)
	}
	// The next run: what was fixed is gone, what was not is looked at again.
	_, found = result(t, db, request(t, r))
	delete(want, "missing-here resolved")
	if fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("the second run found %v\nwant  %v", found, want)
	}
}

// A run compares thousands and then judges each. Of what is recorded between the two, both
// sides say the same; called unresolvable, it would bring a person to look at nothing.
func TestReconciler_RecordedSinceTheComparisonIsPending(t *testing.T) {
	t.Parallel()
	db, b := database(t, payments), &bank{}
	since, never := uuid.New(), uuid.New()
	b.says(since, 1, 100)
	b.says(never, 1, 100)
	r := reconciler(db, b, "a")
	r.Judge = func(ctx context.Context, p reconciliation.Pair) (reconciliation.Judgement, error) {
		_, err := db.Exec(ctx, `INSERT INTO payments VALUES ($1, 100, now()) ON CONFLICT DO NOTHING`, since)
		return reconciliation.Judgement{Finding: "unknown", Verdict: reconciliation.Unresolvable}, err
	}
	start(t, r)
	_, found := result(t, db, request(t, r))
	if want := map[string]int{"not-recorded-yet pending": 1, "unknown unresolvable": 1}; fmt.Sprint(found) != fmt.Sprint(want) {
		t.Errorf("found %v\nwant  %v", found, want)
	}
}

// A run looks at what has changed since the one before, and at what was
// different then, however old that is.
func TestReconciler_RunIsBoundedToWhatChanged(t *testing.T) {
	t.Parallel()
	db, b := database(t, payments), &bank{}
	old := time.Now().Add(-24 * time.Hour)
	for range 50 {
		b.says(pay(t, db, 100, old), 1, 100)
	}
	for i := range b.lines {
		b.lines[i].At = old
	}
	pay(t, db, 100, old) // only we have it
	r := reconciler(db, b, "a")
	start(t, r)
	if subjects, found := result(t, db, request(t, r)); subjects != 51 || len(found) != 1 {
		t.Errorf("the first looked at %d, found %v", subjects, found)
	}
	b.says(pay(t, db, 100, time.Now()), 1, 100)
	if subjects, found := result(t, db, request(t, r)); subjects != 2 || len(found) != 1 {
		t.Errorf("the second looked at %d, want 2: what changed, and what was different; found %v", subjects, found)
	}
}

// A run that breaks off is executed again from the beginning, and finds the
// same: the lines that it had kept already are not counted twice.
func TestReconciler_RunThatBreaksOffFindsTheSame(t *testing.T) {
	t.Parallel()
	db, b := database(t, payments), &bank{fails: 3}
	for range 5 {
		b.says(pay(t, db, 100, time.Now()), 1, 100)
	}
	pay(t, db, 100, time.Now())
	r := reconciler(db, b, "a")
	start(t, r)
	subjects, found := result(t, db, request(t, r))
	if subjects != 6 || fmt.Sprint(found) != fmt.Sprint(map[string]int{"missing-there pending": 1}) {
		t.Errorf("looked at %d, found %v", subjects, found)
	}
	if b.fetches < 6 {
		t.Errorf("%d fetches: nothing broke off", b.fetches)
	}
}

func TestReconciler_LineThatIsGivenTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	db, b := database(t, payments), &bank{}
	b.says(pay(t, db, 100, time.Now()), 1, 100)
	b.lines = append(b.lines, b.lines[0], b.lines[0]) // in one page, and in the next
	r := reconciler(db, b, "a")
	start(t, r)
	if subjects, found := result(t, db, request(t, r)); subjects != 1 || len(found) != 0 {
		t.Errorf("looked at %d, found %v", subjects, found)
	}
}

// Two replicas: each run is executed by one of them.
func TestReconciler_OneReplicaExecutesARun(t *testing.T) {
	t.Parallel()
	db, b := database(t, payments), &bank{}
	for range 3 {
		b.says(uuid.New(), 1, 100) // fixed by an INSERT that cannot be done twice
	}
	first, second := reconciler(db, b, "a"), reconciler(db, b, "b")
	start(t, first)
	start(t, second)
	for range 5 {
		if _, err := first.Request(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if _, found := result(t, db, request(t, second)); found["amount-differs unresolvable"] > 0 {
			t.Errorf("found %v", found)
		}
	}
	var runs int // who asks while one waits shares it
	if err := db.QueryRow(t.Context(), `SELECT count(*) FROM reconciliations`).Scan(&runs); err != nil {
		t.Fatal(err)
	}
	if runs < 5 || b.fetches != 2*runs { // of two pages
		t.Errorf("%d pages fetched in %d runs", b.fetches, runs)
	}
}
