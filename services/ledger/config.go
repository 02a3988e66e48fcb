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

	// FeeBasisPoints is the platform's share of a sale in hundredths of a percent.
	FeeBasisPoints int64 `env:"FEE_BPS" envDefault:"250" zero:"no fee"`

	// PaymentsURL is the coordinator of distributed transactions; ServiceKey is our key there.
	PaymentsURL string `env:"PAYMENTS_URL,required,notEmpty"`

	// TwoPhaseTimeout is how long a prepared transaction may wait for its decision
	// before the coordinator is asked, and TwoPhaseSweep how often to look for such.
	TwoPhaseTimeout time.Duration `env:"TWOPHASE_TIMEOUT" envDefault:"30s"`
	TwoPhaseSweep   time.Duration `env:"TWOPHASE_SWEEP" envDefault:"5s"`

	// GarbageEvery is the pause between two rounds of garbage collection.
	GarbageEvery time.Duration `env:"GARBAGE_EVERY" envDefault:"1m"`

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
