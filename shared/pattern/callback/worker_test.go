package callback_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
)

// held answers nothing until release is called, and then what answer says.
func (w *world) held(answer func(n int, out http.ResponseWriter)) (e *endpoint, release func()) {
	open := make(chan struct{})
	e = w.endpoint(func(n int, out http.ResponseWriter) {
		<-open
		answer(n, out)
	})
	release = sync.OnceFunc(func() { close(open) })
	w.t.Cleanup(release)
	return e, release
}

// counted is how many tries of a worker with these metrics ended like that.
func counted(t *testing.T, registry *prometheus.Registry, outcome string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "failwell_callback_tries_total" && m.GetLabel()[0].GetValue() == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// The clock of the database was ahead once, or a person has edited the row.
func TestWorker_SendsWhatIsFurtherAwayThanAnyTry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.endpoint(status(http.StatusOK))
	id := w.enqueue("acme", e.url, "{}")
	w.exec(`UPDATE callbacks SET next_attempt_at = now() + interval '100 years'`)
	w.start(w.config())
	w.becomes(id, "delivered")
}

func TestWorker_CutsOffAnEndpointThatNeverAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e, release := w.held(status(http.StatusOK))
	cfg := w.config()
	cfg.Lease, cfg.Delays = 3*time.Second, []time.Duration{0, time.Hour}
	w.start(cfg)
	t.Cleanup(release)
	id := w.enqueue("acme", e.url, "{}")
	eventually(t, "it is cut off", func() bool { return w.standing(id).LastError != "" })
	// Once: it was cut off while the delivery was still ours.
	if s := w.standing(id); s.State != "pending" || s.Attempts != 1 {
		t.Errorf("it stands as %+v", s)
	}
}

// The status has come. The rest is not read, least of all in one without end.
func TestWorker_DoesNotReadAnEndlessAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	over := make(chan struct{})
	e := w.endpoint(func(_ int, out http.ResponseWriter) {
		_, _ = out.Write([]byte(strings.Repeat("and more ", 10_000)))
		_ = http.NewResponseController(out).Flush()
		<-over
	})
	w.start(w.config())
	t.Cleanup(func() { close(over) })
	w.becomes(w.enqueue("acme", e.url, "{}"), "delivered")
}

func TestWorker_TwoOfThemDoNotSendTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.endpoint(status(http.StatusOK))
	var ids []uuid.UUID
	for range 100 {
		ids = append(ids, w.enqueue("acme", e.url, "{}"))
	}
	w.start(w.config())
	w.start(w.config())
	for _, id := range ids {
		w.becomes(id, "delivered")
	}
	seen := map[string]bool{}
	for range ids {
		tr := e.next()
		if seen[tr.id()] {
			t.Errorf("%s was sent twice", tr.id())
		}
		seen[tr.id()] = true
	}
	e.wantNoMore()
}

// What the lease of a finished delivery says is of no interest any more.
func TestWorker_DeliveredIsNotSentAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.endpoint(status(http.StatusOK))
	w.start(w.config())
	w.becomes(w.enqueue("acme", e.url, "{}"), "delivered")
	e.next()
	w.exec(`UPDATE callbacks SET next_attempt_at = now() - interval '1 hour'`)
	later := w.enqueue("acme", e.url, "{}") // due after the first, so taken after it
	w.becomes(later, "delivered")
	if got := e.next(); got.id() != "msg_"+later.String() {
		t.Errorf("%s was sent twice", got.id())
	}
	e.wantNoMore()
}

// A worker that was slower than its lease hears of a failure after another one
// has delivered. The merchant has the news: it must not be sent again.
func TestWorker_SlowFailureDoesNotUndoADelivery(t *testing.T) {
	t.Parallel()
	for name, delays := range map[string][]time.Duration{
		"that would be tried again": {0, 0, 0},
		"that would be parked":      {0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			open := make(chan struct{})
			e := w.endpoint(func(n int, out http.ResponseWriter) {
				if n == 1 {
					<-open
					out.WriteHeader(http.StatusInternalServerError)
				}
			})
			registry := prometheus.NewRegistry()
			cfg := w.config()
			cfg.Delays, cfg.Metrics = delays, registry
			w.start(cfg)
			release := sync.OnceFunc(func() { close(open) })
			t.Cleanup(release)

			id := w.enqueue("acme", e.url, "{}")
			e.next()
			w.exec(`UPDATE callbacks SET next_attempt_at = now()`) // the lease is over
			e.next()
			w.becomes(id, "delivered")
			release()
			eventually(t, "the slow try has failed", func() bool { return counted(t, registry, "failed")+counted(t, registry, "parked") == 1 })
			if s := w.standing(id); s.State != "delivered" || !s.Delivered || s.LastError != "" {
				t.Errorf("it stands as %+v", s)
			}
			e.wantNoMore()
		})
	}
}

// Nor may it end the lease of the try that has followed it: a third would be made
// beside that one.
func TestWorker_SlowFailureDoesNotEndTheLeaseOfALaterTry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := make(chan struct{}), make(chan struct{})
	e := w.endpoint(func(n int, out http.ResponseWriter) {
		switch n {
		case 1:
			<-first
			out.WriteHeader(http.StatusInternalServerError)
		case 2:
			<-second
		}
	})
	registry := prometheus.NewRegistry()
	cfg := w.config()
	cfg.Metrics = registry
	w.start(cfg)
	t.Cleanup(sync.OnceFunc(func() { close(second) }))

	id := w.enqueue("acme", e.url, "{}")
	e.next()
	w.exec(`UPDATE callbacks SET next_attempt_at = now()`) // the lease is over
	e.next()
	close(first)
	eventually(t, "the slow try has failed", func() bool { return counted(t, registry, "failed") == 1 })
	// Whatever is enqueued now is claimed in the round that records the failure, or after it.
	w.becomes(w.enqueue("other", e.url, "{}"), "delivered")
	e.next()
	if s := w.standing(id); s.State != "pending" || s.Attempts != 2 || s.Wait < 5 || s.LastError != "" {
		t.Errorf("it stands as %+v", s)
	}
	e.wantNoMore()
}

// Cutting off a try that is in progress would only send it again.
func TestWorker_StoppedFinishesWhatItHasBegun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e, release := w.held(status(http.StatusOK))
	_, stop := w.start(w.config())
	t.Cleanup(release)
	id := w.enqueue("acme", e.url, "{}")
	e.next()

	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Error("it did not wait for its try")
	case <-time.After(100 * time.Millisecond): // long enough to cut off, and too short to matter
	}
	release()
	<-stopped
	if s := w.standing(id); s.State != "delivered" || s.Attempts != 1 {
		t.Errorf("it stands as %+v", s)
	}
}

// What is kept for a week is found by its age, not by looking at all of it: once a
// minute, a look at all of it would be most of what the database does.
func TestDeleteDelivered_FindsOldRowsByTheIndex(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const v7 = `(lpad(to_hex((extract(epoch FROM now() - %s) * 1000)::bigint), 12, '0') || lpad(to_hex(n), 20, '0'))::uuid`
	for age, count := range map[string]int{"interval '9 days'": 30, "interval '1 hour'": 20_000} {
		w.exec(fmt.Sprintf(`
			INSERT INTO callbacks (id, merchant_id, subject, url, payload, state, delivered_at)
			SELECT `+v7+`, 'acme', 'ord_1', 'u', '{}', 'delivered', now() - %s FROM generate_series(1, %d) n`, age, age, count))
	}
	w.exec(`UPDATE callbacks SET state = 'pending', delivered_at = NULL WHERE id IN (SELECT id FROM callbacks ORDER BY id LIMIT 5)`)
	w.exec(`UPDATE callbacks SET state = 'parked', delivered_at = NULL WHERE id IN (SELECT id FROM callbacks ORDER BY id OFFSET 5 LIMIT 5)`)
	w.exec(`UPDATE callbacks SET delivered_at = now() WHERE id IN (SELECT id FROM callbacks ORDER BY id OFFSET 10 LIMIT 5)`)
	w.exec(`ANALYZE callbacks`)
	var plan string
	if err := w.db.QueryRow(t.Context(), `EXPLAIN (FORMAT JSON) `+callback.DeleteDelivered, 7*24*time.Hour, 500).Scan(&plan); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(plan, `"Index Name": "callbacks_pkey"`) || strings.Contains(plan, "Seq Scan") {
		t.Errorf("the plan: %s", plan)
	}
	for _, want := range []int64{10, 5, 0} {
		tag, err := w.db.Exec(t.Context(), callback.DeleteDelivered, 7*24*time.Hour, 10)
		if err != nil || tag.RowsAffected() != want {
			t.Errorf("deleted %d, want %d, %v", tag.RowsAffected(), want, err)
		}
	}
	var rest int
	if err := w.db.QueryRow(t.Context(), `SELECT count(*) FROM callbacks`).Scan(&rest); err != nil || rest != 20_015 {
		t.Errorf("%d are left, %v", rest, err)
	}
}

func TestWorker_WokenDoesNotWaitForThePoll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.endpoint(status(http.StatusOK))
	cfg := w.config()
	cfg.Poll = time.Hour
	worker, _ := w.start(cfg)
	for range 20 {
		id := w.enqueue("acme", e.url, "{}")
		worker.Wake()
		e.next()
		w.becomes(id, "delivered")
	}
}

func TestWorker_TakesOverFromADeadOneUnderTheSameID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.endpoint(status(http.StatusOK))
	id := w.enqueue("acme", e.url, `{"order":"ord_7"}`)

	// Another process, for it is killed in the middle of its work.
	dying := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWorker_HelperProcessThatDies$")
	dying.Env = append(os.Environ(), "CALLBACK_TEST_DB="+w.dbURL)
	if out, err := dying.CombinedOutput(); err == nil {
		t.Fatalf("the worker should have died:\n%s", out)
	}
	first := e.next()
	if s := w.standing(id); s.State != "pending" || s.Attempts != 1 {
		t.Fatalf("it stands as %+v, want one that no process has noted", s)
	}
	var leased time.Time
	if err := w.db.QueryRow(t.Context(), `SELECT next_attempt_at FROM callbacks`).Scan(&leased); err != nil {
		t.Fatal(err)
	}

	w.start(w.config())
	again := e.next()
	var now time.Time
	if err := w.db.QueryRow(t.Context(), `SELECT now()`).Scan(&now); err != nil {
		t.Fatal(err)
	}
	if now.Before(leased) {
		t.Errorf("taken over %s before the lease had ended", leased.Sub(now))
	}
	if again.id() != first.id() || string(again.body) != string(first.body) {
		t.Errorf("sent as %s %s, then as %s %s", first.id(), first.body, again.id(), again.body)
	}
	if s := w.becomes(id, "delivered"); s.Attempts != 2 {
		t.Errorf("it stands as %+v", s)
	}
	e.wantNoMore()
}

// TestWorker_HelperProcessThatDies is the other process of the test above.
func TestWorker_HelperProcessThatDies(t *testing.T) {
	if os.Getenv("CALLBACK_TEST_DB") == "" {
		t.Skip("only as another process")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	db, err := postgres.Open(ctx, postgres.Options{URL: os.Getenv("CALLBACK_TEST_DB"), Logger: slog.Default()})
	if err != nil {
		t.Skip(err)
	}
	if err := fault.Arm(fault.Order{Point: fault.CallbackDeliverAfterPost, Action: fault.Crash}); err != nil {
		t.Skip(err)
	}
	w := &world{t: t, db: db}
	cfg := w.config()
	cfg.Lease = 4 * time.Second
	w.start(cfg)
	<-ctx.Done()
}
