package main

import (
	"strings"
	"testing"

	"example.com/failwell/shared/platform/config"
)

// It sets environment variables, which belong to the process; so it does not run in parallel.
func TestSettings_RefuseDurationsInTheWrongOrder(t *testing.T) {
	for name, value := range map[string]string{
		"DATABASE_URL": "postgres://127.0.0.1/payments", "AMQP_URL": "amqp://127.0.0.1/", "PROCESSOR_URL": "http://p", "PROCESSOR_KEY": "k",
		"PROCESSOR_WEBHOOK_SECRET": "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNo", "BANK_URL": "http://b", "LEDGER_URL": "http://l", "RECEIPTS_URL": "mem://",
	} {
		t.Setenv(name, value)
	}
	if _, err := config.Load[settings](); err != nil {
		t.Fatalf("the defaults are refused: %v", err)
	}
	for given, wrong := range map[string]string{
		"KEY_LEASE=5s":               "KEY_LEASE (5s) must exceed CALL_TIMEOUT (5s), or a request that waits for an answer is taken for dead",
		"TWOPHASE_TIMEOUT=4s":        "TWOPHASE_TIMEOUT (4s) must exceed CALL_TIMEOUT (5s)",
		"CALL_TIMEOUT=0s":            "CALL_TIMEOUT must be above zero",
		"CALL_TIMEOUT=8s":            "CALL_TIMEOUT (8s) must be at most 7s",
		"KEY_WAIT=10s":               "REQUEST_TIMEOUT (10s) must exceed KEY_WAIT (10s)",
		"REQUEST_TIMEOUT=30s":        "REQUEST_TIMEOUT (30s) must be at most 25s",
		"EVENTS_OVERDUE=1s":          "EVENTS_OVERDUE (1s) must exceed EVENTS_POLL (1s)",
		"OUTBOX_TAKEOVER=400ms":      "OUTBOX_TAKEOVER (400ms) must exceed OUTBOX_POLL (500ms)",
		"INBOX_RETENTION=10m":        "INBOX_RETENTION (10m0s) must exceed RETRY_DELAYS (12m36s)",
		"PROCESSOR_KEY_RETENTION=1m": "PROCESSOR_KEY_RETENTION (1m0s) must exceed RECONCILE_GRACE",
		"RECEIPT_GRACE=3s":           "RECEIPT_GRACE (3s) must be at least 4s",
		"RECONCILE_OVERLAP=72h":      "RECONCILE_OVERLAP (72h0m0s) must exceed SETTLEMENT_OVERDUE (72h0m0s)",
	} {
		t.Run(given, func(t *testing.T) {
			name, value, _ := strings.Cut(given, "=")
			t.Setenv(name, value)
			if _, err := config.Load[settings](); err == nil || !strings.Contains(err.Error(), wrong) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q in one line", err, wrong)
			}
		})
	}
}
