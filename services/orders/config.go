package main

import (
	"net/netip"
	"time"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/platform/config"
)

// settings is everything that can be set from outside. Every period has a
// production default; scripts/lab.env shortens them so that one can watch.
type settings struct {
	config.Common
	config.Broker

	// SagaStepTimeout is how long an order waits for the reply to a command before
	// the command is sent again; doubled at each resend, up to an hour. It must
	// exceed the time that the participant's own retries take (by RETRY_DELAYS 12m36s
	// and the work): earlier, it would get the command a second time while still at the first.
	SagaStepTimeout time.Duration `env:"SAGA_STEP_TIMEOUT" envDefault:"15m"`

	// MaxUnfinishedOrders is how many orders may be under way before new ones are turned
	// away (503). Set it to what the system finishes in half a minute. 0: no limit.
	MaxUnfinishedOrders int `env:"MAX_UNFINISHED_ORDERS" envDefault:"5000" zero:"no limit"`

	// SagaSweep is how often to look for orders whose reply is overdue.
	SagaSweep time.Duration `env:"SAGA_SWEEP" envDefault:"15s"`

	// KeyRetention is how long a response is kept for retries of its request.
	KeyRetention time.Duration `env:"IDEMPOTENCY_RETENTION" envDefault:"24h"`

	// CallbackDelays is the schedule of tries at a merchant's webhook.
	CallbackDelays []time.Duration `env:"CALLBACK_DELAYS" envDefault:"0s,5s,5m,30m,2h,5h,10h,14h,20h,24h"`

	// CallbackPoll is how often to look for callbacks that have become due, and
	// CallbackLease how long one belongs to the process that is sending it.
	CallbackPoll  time.Duration `env:"CALLBACK_POLL" envDefault:"1s"`
	CallbackLease time.Duration `env:"CALLBACK_LEASE" envDefault:"25s"`

	// CallbackDeny are addresses that callbacks must not reach although they are on the
	// internet: the public ones of your own network. CallbackAllow are addresses that
	// they may reach although they are not, at any port and without TLS. Empty in
	// production: a merchant could otherwise aim our own requests at the inside of our
	// network. A lab allows its own machine.
	CallbackDeny  []netip.Prefix `env:"CALLBACK_DENY"`
	CallbackAllow []netip.Prefix `env:"CALLBACK_ALLOW" lab:"merchants can aim our requests at these addresses"`

	// GarbageEvery is the pause between two rounds of garbage collection.
	GarbageEvery time.Duration `env:"GARBAGE_EVERY" envDefault:"1m"`

	// CallbackRetention is how long a delivered callback is kept for those who ask what was sent.
	CallbackRetention time.Duration `env:"CALLBACK_RETENTION" envDefault:"168h"`

	// SeedProducts gives every merchant that has none these products:
	// sku=name=minor=currency=stock, separated by semicolons.
	SeedProducts string `env:"LAB_SEED_PRODUCTS" lab:"every merchant gets products that it has not made"`
}

func (s settings) callbackFilter() callback.Filter {
	return callback.Filter{Allow: s.CallbackAllow, Deny: s.CallbackDeny}
}
