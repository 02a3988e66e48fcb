package main

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

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
	one.exec(`UPDATE sagas SET resend_at = now() - interval '1 second'`)

	var both sync.WaitGroup
	for _, b := range []bench{one, other} {
		both.Go(func() {
			if err := b.s.sweep(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	var attempts, commands, waiting int
	err := one.db.QueryRow(t.Context(), `
		SELECT (SELECT sum(attempts) FROM sagas),
		       (SELECT count(*) FROM outbox WHERE type = 'payments.authorise'),
		       (SELECT count(*) FROM sagas WHERE resend_at > now() + interval '10 minutes')`).Scan(&attempts, &commands, &waiting)
	if err != nil || attempts != 2*lost || commands != lost || waiting != lost {
		t.Errorf("%d attempts, %d commands, %d wait for their reply, %v; want %d, %d, %d", attempts, commands, waiting, err, 2*lost, lost, lost)
	}
	one.answer(ids[0], "authorise") // and the reply is expected
	if got := one.row(ids[0]); got != "pending forward 1" {
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
		{other, "authorise", "pending forward 1"},
		{one, "authorise", "pending forward 1"}, // late, as another message
		{one, "capture", "pending forward 1"},   // too early
		{one, "post-sale", "pending forward 2"},
		{other, "post-sale", "pending forward 2"},
		{other, "capture", "confirmed completed 2"},
		{one, "capture", "confirmed completed 2"},
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
		if got := b.row(id); got != "pending forward 1" {
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
