package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/testenv"
)

// row tells how an order and its saga stand.
func (b bench) row(id string) string {
	b.t.Helper()
	var says string
	err := b.db.QueryRow(b.t.(*testing.T).Context(), `
		SELECT o.status || ' ' || s.phase || ' ' || s.step
		  FROM orders o
		  JOIN sagas s USING (id)
		 WHERE 'ord_' || id = $1`, id).Scan(&says)
	if err != nil {
		b.t.Fatal(err)
	}
	return says
}

func (b bench) exec(statement string) {
	b.t.Helper()
	if _, err := b.db.Exec(b.t.(*testing.T).Context(), statement); err != nil {
		b.t.Fatal(err)
	}
}

// The broker has lost 250 commands. Two replicas look at the same time; each command
// is sent again, once, and the orders of one replica's first batch are not all.
func TestSweep_SendsEachLostCommandAgainOnce(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t, migrations)
	one, other := newReplica(t, url, 4), newReplica(t, url, 4)
	one.s.cfg.SagaSweep, other.s.cfg.SagaSweep = 15*time.Second, 15*time.Second
	const lost = 250
	var ids []string
	for n := range lost {
		ids = append(ids, one.accept(fmt.Sprint("key-", n)))
	}
	one.exec(`DELETE FROM outbox`)
	one.exec(`UPDATE sagas SET resend_at = now() - interval '1 second', traceparent = '00-' || md5(id::text) || '-00f067aa0ba902b7-01'`)

	var both sync.WaitGroup
	for _, b := range []bench{one, other} {
		both.Go(func() {
			if err := b.s.sweep(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	var attempts, commands, waiting, traced int
	err := one.db.QueryRow(t.Context(), `
		SELECT (SELECT sum(attempts) FROM sagas),
		       (SELECT count(*) FROM outbox WHERE type = 'payments.authorise'),
		       (SELECT count(*) FROM sagas WHERE resend_at > now() + interval '10 minutes'),
		       (SELECT count(*) FROM sagas s JOIN outbox o ON substr(o.traceparent, 4, 32) = substr(s.traceparent, 4, 32))`).Scan(&attempts, &commands, &waiting, &traced)
	if err != nil || attempts != 2*lost || commands != lost || waiting != lost {
		t.Errorf("%d attempts, %d commands, %d wait for their reply, %v; want %d, %d, %d", attempts, commands, waiting, err, 2*lost, lost, lost)
	}
	if traced != lost {
		t.Errorf("%d of %d commands are in the trace of their order", traced, lost)
	}
	one.answer(ids[0], "authorise") // and the reply is expected
	if got := one.row(ids[0]); got != "pending forward post-sale" {
		t.Errorf("the order: %s", got)
	}
}

// Replicas take turns with the replies of a saga: none of them drops one that the saga
// waits for, and none acts upon one that it does not.
func TestProceed_OneReplicaAfterTheOther(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t, migrations)
	one, other := newReplica(t, url, 4), newReplica(t, url, 4)
	id := one.accept("key")
	for _, step := range []struct {
		replica     bench
		reply, then string
	}{
		{other, "authorise", "pending forward post-sale"},
		{one, "authorise", "pending forward post-sale"}, // late, as another message
		{one, "capture", "pending forward post-sale"},   // too early
		{one, "post-sale", "pending forward capture"},
		{other, "post-sale", "pending forward capture"},
		{other, "capture", "confirmed completed "},
		{one, "capture", "confirmed completed "},
	} {
		step.replica.answer(id, step.reply)
		if got := one.row(id); got != step.then {
			t.Errorf("after %s: %s, want %s", step.reply, got, step.then)
		}
	}
	var commands string
	err := one.db.QueryRow(t.Context(), `SELECT string_agg(type, ' ' ORDER BY message_id) FROM outbox`).Scan(&commands)
	if err != nil || commands != "payments.authorise ledger.post-sale payments.capture" {
		t.Errorf("commands: %s, %v", commands, err)
	}
}

func TestProceed_TheSameReplyTwentyTimesAtOnceIsOneStep(t *testing.T) {
	t.Parallel()
	b := newBench(t, 16)
	for round := range 5 {
		id := b.accept(fmt.Sprint(round))
		message := b.message(id, "authorise")
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if err := b.s.receive(t.Context(), message); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got := b.row(id); got != "pending forward post-sale" {
			t.Errorf("the order: %s", got)
		}
	}
}

// The receipt of an order is there before its last reply is handled. The merchant is
// told of it, whichever replica handles that reply and whatever it has handled before.
func TestFinish_NotifiesOfWhatTheDatabaseSays(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t, migrations)
	one, other := newReplica(t, url, 4), newReplica(t, url, 4)
	for name, last := range map[string]bench{"same-replica": one, "another-replica": other} {
		id := one.accept(name)
		one.answer(id, "authorise")
		one.answer(id, "post-sale")
		receipt := one.message(id, "")
		receipt.SetType("orders.receipts")
		if err := receipt.SetData(event.ApplicationJSON, map[string]any{"receipts": []map[string]string{{"order_id": id, "receipt_id": "rcp_1"}}}); err != nil {
			t.Fatal(err)
		}
		if err := other.s.receive(t.Context(), receipt); err != nil {
			t.Fatal(err)
		}
		last.answer(id, "capture")

		var payload []byte
		if err := one.db.QueryRow(t.Context(), `SELECT payload FROM callbacks WHERE subject = $1`, id).Scan(&payload); err != nil {
			t.Fatal(err)
		}
		var told struct{ Data orderView }
		if err := json.Unmarshal(payload, &told); err != nil || told.Data.Receipt == nil || told.Data.Receipt.ID != "rcp_1" {
			t.Errorf("%s: %v, %s", name, err, payload)
		}
	}
}

// A new step between the sale and the capture, while both plans run: an order ends by the
// plan of the process that moves it, none is lost, and no step means another one.
func TestProceed_OldAndNewPlanSideBySide(t *testing.T) {
	old, changed := orderPlan, slices.Insert(slices.Clone(orderPlan), 2, saga.Step{Participant: "fraud", Action: "check-fraud", Compensation: "forget-fraud"})
	b := newBench(t, 4)
	run := func(plan saga.Plan, id, step string, outcome saga.Outcome) error {
		orderPlan = plan
		defer func() { orderPlan = old }()
		e := b.message(id, step)
		if err := e.SetData(event.ApplicationJSON, saga.Reply{Step: step, Outcome: outcome}); err != nil {
			t.Fatal(err)
		}
		return b.s.receive(t.Context(), e)
	}
	begun := func(key string, steps ...string) (id string) {
		id = b.accept(key)
		for _, step := range steps {
			b.answer(id, step)
		}
		return id
	}

	// The capture is open when the new plan comes: it is still the capture, and the pivot.
	open := begun("open", "authorise", "post-sale")
	if _, ok := changed.Cancel(saga.State{Phase: saga.Forward, Step: "capture"}); ok {
		t.Error("an order whose capture is open can be cancelled")
	}
	if err := run(changed, open, "capture", saga.Done); err != nil || b.row(open) != "confirmed completed " {
		t.Errorf("%s, %v", b.row(open), err)
	}
	// The new process moves one on to the new step; the old one leaves it alone.
	moved := begun("moved", "authorise")
	if err := run(changed, moved, "post-sale", saga.Done); err != nil || b.row(moved) != "pending forward check-fraud" {
		t.Errorf("%s, %v", b.row(moved), err)
	}
	err := run(old, moved, "check-fraud", saga.Done)
	if !errors.Is(err, errUnknownStep) || reliableretries.IsPermanent(err) {
		t.Errorf("the old plan: %v", err)
	}
	if answer := b.cancel(moved); answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") == "" {
		t.Errorf("cancelled by the old plan: %d %s", answer.Code, answer.Body)
	}
	if err := run(changed, moved, "check-fraud", saga.Refused); err != nil || b.row(moved) != "pending compensating reverse-sale" {
		t.Errorf("%s, %v", b.row(moved), err)
	}
	// The old process can go on with what it knows.
	for _, step := range []string{"reverse-sale", "void"} {
		if err := run(old, moved, step, saga.Done); err != nil {
			t.Error(err)
		}
	}
	if b.row(moved) != "cancelled compensated " {
		t.Errorf("%s", b.row(moved))
	}
}

// Of the orders that are too many nothing is written; when there are fewer, they are taken.
func TestShedLoad_TurnsAwayWhileTooManyAreUnfinished(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	b.s.cfg.MaxUnfinishedOrders = 2
	ctx, stop := context.WithCancel(t.Context())
	var counting sync.WaitGroup
	counting.Go(func() { b.s.countBacklog(ctx) })
	defer counting.Wait()
	defer stop()
	first := b.accept("1")
	b.accept("2")
	full := func(want bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); b.s.full.Load() != want; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("full: not %v in time", want)
			}
		}
	}
	full(true)
	if answer := b.place("3"); answer.Code != http.StatusServiceUnavailable || answer.Header().Get("Retry-After") != "5" {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
	// What was accepted is not turned away: its retry gets the answer.
	if answer := b.place("1"); answer.Code != http.StatusAccepted {
		t.Errorf("the retry of an accepted order: %d %s", answer.Code, answer.Body)
	}
	for _, step := range []string{"authorise", "post-sale", "capture"} {
		b.answer(first, step)
	}
	full(false)
	b.accept("3")
}

// No handler takes a database that is away for a fault of its message.
func TestReceive_DatabaseAwayIsAnOutage(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	reply := b.message(b.accept("key"), "authorise")
	receipts := b.message("ord_none", "")
	receipts.SetType("orders.receipts")
	if err := receipts.SetData(event.ApplicationJSON, receiptNews{}); err != nil {
		t.Fatal(err)
	}
	away, err := pgxpool.New(t.Context(), "postgres://orders@127.0.0.1:1/orders")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(away.Close)
	b.s.db = away
	for _, e := range []event.Event{reply, receipts} {
		if err := b.s.receive(t.Context(), e); !postgres.IsOutage(err) {
			t.Errorf("%s: %v", e.Type(), err)
		}
	}
}
