package main

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// A payout in doubt keeps one merchant's accounts locked. That merchant sells on, a
// hundred times a second. The consumer's workers stay free for the others.
func TestReceive_OneMerchantsLockedAccountLeavesWorkersToOthers(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	mine, others := order(100), order(100)
	others.MerchantID = other
	l.deliver(message(t, "ledger.post-sale", mine), message(t, "ledger.post-sale", others)) // the accounts exist
	lock, err := l.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Rollback(t.Context()) //nolint:errcheck // a test's
	if _, err := lock.Exec(t.Context(), `SELECT FROM accounts WHERE id = $1 FOR NO KEY UPDATE`, "merchant_pending:"+acme+":GBP"); err != nil {
		t.Fatal(err)
	}
	type delivery struct {
		message event.Event
		at      time.Time
		took    chan time.Duration
	}
	deliveries := make(chan delivery, 8*32) // as a consumer has it: 32 workers, 8 times as many in hand
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for d := range deliveries {
				err := l.receive(t.Context(), d.message)
				if d.took != nil {
					if err != nil {
						t.Error(err)
					}
					d.took <- time.Since(d.at)
				} else if err == nil {
					t.Error("a sale passed a locked account")
				}
			}
		})
	}
	var took []time.Duration
	late := 0 // a pause of the machine makes one late; without a free worker each is late
	for len(took) < 30 && late < 3 {
		for range 10 {
			deliveries <- delivery{message: message(t, "ledger.post-sale", order(100))}
			time.Sleep(10 * time.Millisecond) // the rate at which that merchant sells
		}
		sale := order(100)
		sale.MerchantID = other
		d := delivery{message: message(t, "ledger.post-sale", sale), at: time.Now(), took: make(chan time.Duration, 1)}
		deliveries <- d
		took = append(took, <-d.took)
		if took[len(took)-1] > time.Second {
			late++
		}
	}
	close(deliveries)
	workers.Wait()
	slices.Sort(took)
	t.Logf("another merchant's sale: median %v, slowest %v", took[len(took)/2], took[len(took)-1])
	if late == 3 {
		t.Errorf("another merchant's sales took %v", took[len(took)-3:])
	}
}
