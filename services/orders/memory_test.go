package main

import (
	"fmt"
	"sync"
	"testing"

	"example.com/failwell/shared/testenv"
)

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

// Replicas take turns with the answers of a saga, each remembering the state in
// which it left it: none of them drops an answer that the saga is waiting for.
func TestNoAnswerIsDroppedBecauseOfAnOldMemory(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t, migrations)
	one, other := newReplica(t, url, nil, 4), newReplica(t, url, nil, 4)
	id := one.accept("key")
	other.answer(id, "authorise")
	one.answer(id, "post-sale") // it remembers that authorise is asked
	other.answer(id, "capture") // it remembers that post-sale is asked
	if got := one.row(id); got != "confirmed completed 2" {
		t.Errorf("the order: %s", got)
	}
}

// An old memory must not act either: a late answer to a question that was settled
// elsewhere changes nothing.
func TestALateAnswerChangesNothingWhateverIsRemembered(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t, migrations)
	one, other := newReplica(t, url, nil, 4), newReplica(t, url, nil, 4)
	id := one.accept("key")
	other.answer(id, "authorise")
	one.answer(id, "authorise")   // as another message; one believes that it is waited for
	other.answer(id, "authorise") // other knows that it is not
	if got := one.row(id); got != "pending forward 1" {
		t.Errorf("the order: %s", got)
	}
	var questions int
	if err := one.db.QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE type = 'ledger.post-sale'`).Scan(&questions); err != nil || questions != 1 {
		t.Errorf("asked %d times, %v", questions, err)
	}
}

func TestTheSameAnswerTwentyTimesAtOnceIsOneAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil, 16)
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
