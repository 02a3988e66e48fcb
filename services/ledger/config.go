package main

import (
	"fmt"
	"time"

	"example.com/failwell/shared/platform/config"
)

// settings is everything that can be set from outside. Every period has a
// production default; scripts/lab.env shortens them so that one can watch.
type settings struct {
	config.Common
	config.Broker

	// DatabaseConns bounds the pool of database connections.
	DatabaseConns int32 `env:"DATABASE_CONNS" envDefault:"16"`

	// FeeBasisPoints is the platform's share of a sale in hundredths of a percent.
	FeeBasisPoints int64 `env:"FEE_BPS" envDefault:"250"`

	// OutboxTakeover and OutboxPoll: see outbox.Config.
	OutboxTakeover time.Duration `env:"OUTBOX_TAKEOVER" envDefault:"1s"`
	OutboxPoll     time.Duration `env:"OUTBOX_POLL" envDefault:"500ms"`

	// RetryDelays is how long a message that could not be handled waits before
	// each further try. After the last it is parked.
	RetryDelays []time.Duration `env:"RETRY_DELAYS" envDefault:"1s,5s,30s,2m,10m"`

	// Workers is how many messages are handled at the same time.
	Workers int `env:"WORKERS" envDefault:"32"`

	// PaymentsURL is the coordinator of distributed transactions; ServiceKey is our key there.
	PaymentsURL string `env:"PAYMENTS_URL,required,notEmpty"`

	// TwoPhaseTimeout is how long a prepared transaction may wait for its decision
	// before the coordinator is asked, and TwoPhaseSweep how often to look for such.
	TwoPhaseTimeout time.Duration `env:"TWOPHASE_TIMEOUT" envDefault:"30s"`
	TwoPhaseSweep   time.Duration `env:"TWOPHASE_SWEEP" envDefault:"5s"`

	// GarbageEvery is the pause between two rounds of garbage collection.
	GarbageEvery time.Duration `env:"GARBAGE_EVERY" envDefault:"1m"`

	// InboxRetention is how long it is remembered that a message was handled. It
	// must exceed the longest time after which one can come again: parked, and
	// replayed by a person.
	InboxRetention time.Duration `env:"INBOX_RETENTION" envDefault:"720h"`

	// JournalLag is how old an entry must be before the journal shows it. It has to
	// exceed the time that a commit can take.
	JournalLag time.Duration `env:"JOURNAL_LAG" envDefault:"10s"`
}

// Validate refuses a fee that would leave the merchant nothing, or give it more than the sale.
func (s settings) Validate() error {
	if s.FeeBasisPoints < 0 || s.FeeBasisPoints >= 10_000 {
		return fmt.Errorf("FEE_BPS must be between 0 and 9999, not %d", s.FeeBasisPoints)
	}
	return nil
}
