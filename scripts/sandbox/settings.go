package main

import (
	"errors"
	"time"

	"example.com/failwell/shared/platform/config"
)

// settings is everything that can be set from outside.
type settings struct {
	config.Common

	// ProcessorKey is the bearer key that callers of the processor must show.
	ProcessorKey string `env:"PROCESSOR_KEY,required,notEmpty"`

	// WebhookTarget is where the processor sends its webhooks. Empty: it
	// records no events and sends nothing.
	WebhookTarget string `env:"WEBHOOK_TARGET"`

	// WebhookSecret signs those webhooks: "whsec_" and base64. Required when
	// there is a target.
	WebhookSecret string `env:"PROCESSOR_WEBHOOK_SECRET" secret:"webhook-secret"`

	// SettleAfter is how long after a capture or a refund its webhook is due.
	// 0 lets it overtake the answer to the call itself.
	SettleAfter time.Duration `env:"SETTLE_AFTER" envDefault:"2s" zero:"at once"`

	// WebhookPoll is how often to look for webhooks that are due.
	WebhookPoll time.Duration `env:"WEBHOOK_POLL" envDefault:"200ms"`

	// WebhookRetry is the wait before the second try of a webhook; it doubles
	// with each further try, up to a minute.
	WebhookRetry time.Duration `env:"WEBHOOK_RETRY" envDefault:"1s"`

	// KeyWait is how long a call waits for another one with the same
	// Idempotency-Key before it is told that the key is in use.
	KeyWait time.Duration `env:"PROCESSOR_KEY_WAIT" envDefault:"250ms"`

	// ReportLag is how old a line must be before the report and the bank
	// statement show it. It has to exceed the time that a commit can take: a
	// line that became visible late would sit before the cursor of a reader
	// who has already gone past, and never be read.
	ReportLag time.Duration `env:"REPORT_LAG" envDefault:"1s"`

	// Seed makes faults with a rate come out the same in every run.
	Seed uint64 `env:"SANDBOX_SEED" envDefault:"1"`
}

// Validate refuses settings that would only fail later, at the first webhook.
func (s settings) Validate() error {
	if s.WebhookTarget != "" && s.WebhookSecret == "" {
		return errors.New("WEBHOOK_TARGET is set, so set PROCESSOR_WEBHOOK_SECRET too (whsec_ and base64 of 24 bytes or more)")
	}
	return nil
}
