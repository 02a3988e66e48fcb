package main

import (
	"fmt"
	"time"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/web"
)

// settings is everything that can be set from outside. Every period has a
// production default; scripts/lab.env shortens them so that one can watch.
type settings struct {
	config.Common
	config.Broker

	// ProcessorURL is the card processor's API, and ProcessorKey our key there.
	ProcessorURL string `env:"PROCESSOR_URL,required,notEmpty"`
	ProcessorKey string `env:"PROCESSOR_KEY,required,notEmpty"`

	// ProcessorWebhookSecret is what the processor signs its webhooks with: whsec_ and base64.
	ProcessorWebhookSecret string `env:"PROCESSOR_WEBHOOK_SECRET,required,notEmpty" secret:"webhook-secret"`

	// BankURL is our bank's API.
	BankURL string `env:"BANK_URL,required,notEmpty"`

	// LedgerURL is the ledger's API; ServiceKey is our key there.
	LedgerURL string `env:"LEDGER_URL,required,notEmpty"`

	// CallTimeout bounds one call to the processor, the bank or the ledger: long
	// enough for a card's bank to think, short enough that a worker is not held by
	// a system that is gone. When it strikes, the outcome is unknown, not "no".
	CallTimeout time.Duration `env:"CALL_TIMEOUT" envDefault:"5s" most:"7s, or one that is under way outlasts a stop"`

	// ProcessorKeyRetention is how long after a question was first put to the processor
	// it may be put again under the same key. Afterwards the key counts as forgotten,
	// and the question is looked up by reference instead. Set it below what the
	// processor promises (24h at many): the rest is for clocks that differ. Default 23h.
	ProcessorKeyRetention time.Duration `env:"PROCESSOR_KEY_RETENTION" envDefault:"23h"`

	// KeyRetention is how long a response is kept for retries of its request.
	KeyRetention time.Duration `env:"IDEMPOTENCY_RETENTION" envDefault:"24h"`

	// KeyLease is how long a request may hold its key without a sign of life. It
	// must exceed the longest call between two recovery points; a dead request's
	// key is taken over after it.
	KeyLease time.Duration `env:"KEY_LEASE" envDefault:"30s" above:"CALL_TIMEOUT, or a request that waits for an answer is taken for dead"`

	// KeyWait is how long a request waits for another one with the same key.
	KeyWait time.Duration `env:"KEY_WAIT" envDefault:"2s" zero:"none"`

	// RequestTimeout is how long a client of a refund or payout is kept waiting
	// before it is told that the work will be finished without it.
	RequestTimeout time.Duration `env:"REQUEST_TIMEOUT" envDefault:"10s" above:"KEY_WAIT, or a request whose key is in use is not told so" most:"25s, or the server closes the connection first"`

	// CompleterEvery is how often to look for refunds and payouts that no request
	// works on, and CompleterGrace how long their client has to retry first.
	CompleterEvery time.Duration `env:"COMPLETER_EVERY" envDefault:"15s"`
	CompleterGrace time.Duration `env:"COMPLETER_GRACE" envDefault:"30s" zero:"none"`

	// TwoPhaseTimeout is how long a distributed transaction may be undecided
	// before it is aborted, and TwoPhaseSweep how often to look for such.
	TwoPhaseTimeout time.Duration `env:"TWOPHASE_TIMEOUT" envDefault:"30s" above:"CALL_TIMEOUT, or a transaction that is being prepared is aborted"`
	TwoPhaseSweep   time.Duration `env:"TWOPHASE_SWEEP" envDefault:"5s"`

	// EventsPoll is how often to look for held webhooks whose time may have come;
	// EventsOverdue is the age from which one that is still held counts as overdue.
	EventsPoll    time.Duration `env:"EVENTS_POLL" envDefault:"1s"`
	EventsOverdue time.Duration `env:"EVENTS_OVERDUE" envDefault:"1h" above:"EVENTS_POLL, or each event that is held is reported"`

	// ReceiptsURL is where receipts are stored: file:///dir, s3://bucket?region=… or mem://.
	ReceiptsURL string `env:"RECEIPTS_URL,required,notEmpty"`

	// ReceiptPoll is how often to look for payments without a receipt; a capture
	// wakes the writer at once. ReceiptGrace is the age from which a document that
	// no payment refers to is removed; half of it may pass between storing a document
	// and referring to it.
	ReceiptPoll  time.Duration `env:"RECEIPT_POLL" envDefault:"5s"`
	ReceiptGrace time.Duration `env:"RECEIPT_GRACE" envDefault:"1h"`

	// ReconcileEvery is the pause between two reconciliations that no request asked for.
	// ReconcileOverlap is how long before the last one each begins to look, and
	// ReconcileGrace the age below which a difference may only be a matter of time.
	ReconcileEvery   time.Duration `env:"RECONCILE_EVERY" envDefault:"1h" zero:"none"`
	ReconcileOverlap time.Duration `env:"RECONCILE_OVERLAP" envDefault:"96h" above:"SETTLEMENT_OVERDUE, or no run sees that the books never heard of a late settlement"`
	ReconcileGrace   time.Duration `env:"RECONCILE_GRACE" envDefault:"10m"`

	// SettlementOverdue is the age from which news of a settlement is not waited for
	// any longer, and is taken from the processor's report.
	SettlementOverdue time.Duration `env:"SETTLEMENT_OVERDUE" envDefault:"72h"`

	// GarbageEvery is the pause between two rounds of garbage collection.
	GarbageEvery time.Duration `env:"GARBAGE_EVERY" envDefault:"1m"`
}

// Validate refuses settings that would make one work against the other.
func (s settings) Validate() error {
	if s.ReconcileGrace+s.CallTimeout >= s.ProcessorKeyRetention {
		return fmt.Errorf("PROCESSOR_KEY_RETENTION (%s) must exceed RECONCILE_GRACE (%s) and CALL_TIMEOUT (%s) together, or hardly a call is ever repeated", s.ProcessorKeyRetention, s.ReconcileGrace, s.CallTimeout)
	}
	if s.ReceiptGrace < 4*timeToRefer {
		return fmt.Errorf("RECEIPT_GRACE (%s) must be at least %s, or a document is removed while the reference to it is being written", s.ReceiptGrace, 4*timeToRefer)
	}
	return nil
}

// merchantLimit leaves half of the database connections to all other merchants.
func (s settings) merchantLimit() web.Limit {
	atWork := max(1, int(s.DatabaseConns)/2)
	return web.Limit{AtWork: atWork, Waiting: 8 * atWork, Wait: max(time.Second, s.RequestTimeout/2)}
}

func (s settings) lockOptions() idempotency.LockOptions {
	return idempotency.LockOptions{Lease: s.KeyLease, Wait: s.KeyWait}
}
