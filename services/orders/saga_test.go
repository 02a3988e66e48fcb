package main

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"example.com/failwell/shared/testenv"
)

// The broker has lost 250 commands. Two replicas look at the same time; each command
// is put again, once, and the orders of one replica's first batch are not all.
func TestLostCommandsAreAskedAgainOnceEach(t *testing.T) {
	t.Parallel()
	url := testenv.Postgres(t, migrations)
	one, other := newReplica(t, url, nil, 4), newReplica(t, url, nil, 4)
	one.s.cfg.SagaSweep, other.s.cfg.SagaSweep = 15*time.Second, 15*time.Second
	const lost = 250
	var ids []string
	for n := range lost {
		ids = append(ids, one.accept(fmt.Sprint("key-", n)))
	}
	one.exec(`DELETE FROM outbox`)
	one.exec(`UPDATE sagas SET ask_again_at = now() - interval '1 second'`)

	var both sync.WaitGroup
	for _, b := range []bench{one, other} {
		both.Go(func() {
			if err := b.s.sweep(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	var asked, commands, patient int
	err := one.db.QueryRow(t.Context(), `
		SELECT (SELECT sum(asked) FROM sagas),
		       (SELECT count(*) FROM outbox WHERE type = 'payments.authorise'),
		       (SELECT count(*) FROM sagas WHERE ask_again_at > now() + interval '10 minutes')`).Scan(&asked, &commands, &patient)
	if err != nil || asked != 2*lost || commands != lost || patient != lost {
		t.Errorf("asked %d times, %d commands, %d are waited for with patience, %v; want %d, %d, %d", asked, commands, patient, err, 2*lost, lost, lost)
	}
	one.answer(ids[0], "authorise") // and the answer is taken
	if got := one.row(ids[0]); got != "pending forward 1" {
		t.Errorf("the order: %s", got)
	}
}
