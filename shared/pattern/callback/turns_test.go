package callback_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestWorker_SlowEndpointDoesNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow, release := w.held(status(http.StatusOK))
	quick := w.endpoint(status(http.StatusOK))
	w.start(w.config())
	t.Cleanup(release) // before the worker is stopped, which waits for its tries

	waiting := w.enqueue("other", slow.url, "{}")
	slow.next()
	for n := range 100 {
		w.enqueue("acme", quick.url, fmt.Sprint(n))
	}
	for range 100 {
		quick.next()
	}
	if s := w.standing(waiting); s.State != "pending" || s.LastError != "" {
		t.Errorf("the slow one stands as %+v already", s)
	}
	release()
	w.becomes(waiting, "delivered")
	slow.wantNoMore()
}

// A merchant whose endpoint hangs has more due than there are places. The others
// are served all the same.
func TestWorker_BacklogLeavesPlacesForOtherMerchants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow, release := w.held(status(http.StatusOK))
	quick := w.endpoint(status(http.StatusOK))
	for range 100 {
		w.enqueue("other", slow.url, "{}")
	}
	w.start(w.config())
	t.Cleanup(release) // before the worker is stopped, which waits for its tries
	slow.next()
	for n := range 20 {
		w.enqueue("acme", quick.url, fmt.Sprint(n))
	}
	for range 20 {
		quick.next()
	}
}

// Five merchants hang, each with more due than it has places, and older than what
// the sixth has due. No other merchant waits for their time-outs, and none of them gets more
// tries at once than are its own.
func TestWorker_HangingMerchantsDoNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	quick := w.endpoint(status(http.StatusOK))
	var hanging []*endpoint
	var releases []func()
	for n := range 5 {
		e, release := w.held(status(http.StatusOK))
		hanging, releases = append(hanging, e), append(releases, release)
		w.exec(fmt.Sprintf(`
			INSERT INTO callbacks (id, merchant_id, subject, url, payload, next_attempt_at)
			SELECT gen_random_uuid(), 'hangs-%d', 'ord_1', '%s', '{}', now() - interval '1 hour'
			  FROM generate_series(1, 200)`, n+1, e.url))
	}
	w.start(w.config())
	t.Cleanup(func() {
		for _, release := range releases {
			release()
		}
	})
	for _, e := range hanging {
		e.next()
	}
	for n := range 100 { // more than one claim's worth
		w.enqueue("acme", quick.url, fmt.Sprint(n))
	}
	for range 100 {
		quick.next()
	}
	for n := range 5 {
		var inWork int
		err := w.db.QueryRow(t.Context(), `SELECT count(*) FROM callbacks WHERE merchant_id = $1 AND attempts > 0`, fmt.Sprint("hangs-", n+1)).Scan(&inWork)
		if err != nil || inWork == 0 || inWork > 32 {
			t.Errorf("%d tries at once to merchant %d, %v; 32 are its own", inWork, n+1, err)
		}
	}
}

// When there is more to do than places, all merchants have their turn: those who had
// none are first when places become free, not those who were first before.
func TestWorker_WithTooFewPlacesEachMerchantHasATurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e, release := w.held(status(http.StatusOK))
	quick := w.endpoint(status(http.StatusOK))
	w.exec(`INSERT INTO merchants SELECT 'm-' || n, 'whsec_YWNtZSdzIG93biBzZWNyZXQ=' FROM generate_series(10, 29) n`)
	w.exec(`
		INSERT INTO callbacks (id, merchant_id, subject, url, payload)
		SELECT gen_random_uuid(), 'm-' || m, 'ord_1', '` + e.url + `', '{}'
		  FROM generate_series(10, 29) m, generate_series(1, 100)`) // twenty times thirty-two: more than places
	last := w.enqueue("other", quick.url, "{}")
	cfg := w.config()
	cfg.Lease = 3 * time.Second // and two for a try
	w.start(cfg)
	t.Cleanup(release)
	w.becomes(last, "delivered")
}

// A transaction for each claim and each outcome cost more than all else that an
// order costs. The transaction that wrote a row last is its xmin.
func TestWorker_RecordsOutcomesInBatches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e := w.endpoint(func(n int, _ http.ResponseWriter) { time.Sleep(time.Duration(n%32) * 2 * time.Millisecond) }) // each ends at a time of its own
	w.exec(`
		INSERT INTO callbacks (id, merchant_id, subject, url, payload)
		SELECT gen_random_uuid(), 'acme', 'ord_1', '` + e.url + `', '{}' FROM generate_series(1, 320)`)
	w.start(w.config())
	var transactions int
	eventually(t, "all are delivered", func() bool {
		var delivered int
		err := w.db.QueryRow(t.Context(), `SELECT count(*), count(DISTINCT xmin::text) FROM callbacks WHERE state = 'delivered'`).Scan(&delivered, &transactions)
		return err == nil && delivered == 320
	})
	t.Logf("320 outcomes in %d transactions", transactions)
	if transactions > 60 {
		t.Errorf("320 outcomes in %d transactions", transactions)
	}
}
