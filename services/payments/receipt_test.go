package main

import (
	"net/http"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"example.com/failwell/shared/platform/postgres"
)

// openTestReceipts gives a service a store of its own.
func openTestReceipts(t *testing.T, s *service) {
	t.Helper()
	s.cfg.ReceiptsURL = "mem://"
	if err := s.openReceipts(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.receipts.Bucket.Close() })
}

// shopWithACapture is a shop with one captured payment, and documents that are old after
// grace.
func shopWithACapture(t *testing.T, grace time.Duration) (*shop, command) {
	t.Helper()
	s := newShop(t).with(func(cfg *settings) { cfg.ReceiptGrace = grace })
	cmd := s.order(cardWorks)
	s.deliver(message(t, toAuthorise, cmd), message(t, toCapture, cmd))
	return s, cmd
}

// A refund holds the row while the reference is on its way. When it lets go, the
// document's time is over, however early the transaction has begun.
func TestReceipt_ReferenceThatWaitedTooLongIsRefused(t *testing.T) {
	t.Parallel()
	s, cmd := shopWithACapture(t, 2*time.Second)
	tx, err := s.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // it has changed nothing
	if _, err := tx.Exec(t.Context(), `SELECT FROM payments FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	written := make(chan error)
	go func() {
		_, err := s.writeSomeReceipts(t.Context())
		written <- err
	}()
	eventually(t, "the writer waits", func() (waits bool) {
		err := s.db.QueryRow(t.Context(), `
			SELECT count(*) = 1
			  FROM pg_stat_activity
			 WHERE datname = current_database()
			   AND wait_event_type = 'Lock'`).Scan(&waits)
		return err == nil && waits
	})
	time.Sleep(1200 * time.Millisecond) // more than half of the grace
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-written; !postgres.Violates(err, "payments_receipt_in_time") {
		t.Errorf("answered: %v", err)
	}
	same(t, "reference", s.payment(cmd).ReceiptName, "")
	// The next try has another document.
	if n, err := s.writeSomeReceipts(t.Context()); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := s.receipts.Get(t.Context(), s.payment(cmd).ReceiptName); err != nil {
		t.Error(err)
	}
}

func TestSettings_RefuseAReceiptGraceThatIsTooShort(t *testing.T) {
	t.Parallel()
	cfg := settings{ProcessorKeyRetention: 2, ReceiptGrace: 4 * time.Second}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	cfg.ReceiptGrace--
	if err := cfg.Validate(); err == nil {
		t.Error("accepted")
	}
}

func TestReceipt_LeaseIsNotWrittenAtEachBatch(t *testing.T) {
	t.Parallel()
	s, _ := shopWithACapture(t, time.Hour)
	expiry := func() (at time.Time) {
		if err := s.db.QueryRow(t.Context(), `SELECT expires_at FROM leases WHERE name = 'receipts'`).Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	written := func() time.Time {
		t.Helper()
		if _, err := s.writeSomeReceipts(t.Context()); err != nil {
			t.Fatal(err)
		}
		return expiry()
	}
	first := written()
	if again := written(); !again.Equal(first) {
		t.Errorf("extended at once: %s, %s", first, again)
	}
	s.receiptLeased = s.receiptLeased.Add(-receiptLease / 2)
	if later := written(); !later.After(first) {
		t.Errorf("not extended: %s, %s", first, later)
	}
}

// An answer that may be kept for a year must not be an emptied document, and one that is gone
// must not be called an outage that ends by itself.
func TestGetReceipt_DoesNotShowADamagedDocument(t *testing.T) {
	t.Parallel()
	s, cmd := shopWithACapture(t, time.Hour)
	s.seed(acme, acmeKey)
	if _, err := s.writeSomeReceipts(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := "/v1/payments/" + cmd.PaymentID + "/receipt"
	if r := s.ownAPI(path, acmeKey); r.Code != http.StatusOK {
		t.Errorf("%d %s", r.Code, r.Body)
	}
	damage := map[string]func(name string) error{
		"emptied": func(name string) error { return s.receipts.Bucket.WriteAll(t.Context(), name, nil, nil) },
		"removed": func(name string) error { return s.receipts.Bucket.Delete(t.Context(), name) },
	}
	for what, do := range damage {
		if err := do(s.payment(cmd).ReceiptName); err != nil {
			t.Fatal(err)
		}
		if r := s.ownAPI(path, acmeKey); r.Code != http.StatusInternalServerError || r.Header().Get("Cache-Control") == "private, max-age=31536000, immutable" {
			t.Errorf("%s: %d, Cache-Control %q", what, r.Code, r.Header().Get("Cache-Control"))
		}
	}
	var counted dto.Metric
	if err := s.personNeeded.WithLabelValues("GET /v1/payments/:id/receipt").Write(&counted); err != nil {
		t.Fatal(err)
	}
	same(t, "a person is needed", counted.GetCounter().GetValue(), 2)
}
