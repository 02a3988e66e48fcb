package callback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/fault"
)

const (
	// perTry bounds one POST, from the look-up of the name to the end of the answer.
	perTry = 15 * time.Second

	// lease is how long a claimed delivery is ours. It must exceed perTry and
	// what it takes to record the outcome, or a second worker would send beside us.
	lease = perTry + 10*time.Second

	// atOnce is how many deliveries are sent at the same time, and perMerchant how
	// many of them to one merchant: an endpoint that takes its full fifteen seconds
	// for each must not hold up the others.
	atOnce      = 32
	perMerchant = 8

	// jitter spreads tries, so that an endpoint that comes back is not met by
	// everything that failed at the same moment.
	jitter = 0.2

	// maxRetryAfter bounds how far an endpoint can push us off.
	maxRetryAfter = 24 * time.Hour
)

// Config configures a worker.
type Config struct {
	DB      *pgxpool.Pool
	Logger  *slog.Logger
	Metrics prometheus.Registerer

	// Delays before each try, counted from the one before; after the last has
	// failed the delivery is parked.
	Delays []time.Duration

	// Poll is how often to look for what has become due.
	Poll time.Duration

	// Lease overrides how long a delivery belongs to the worker that claimed it.
	// Zero means the default of 25 s. A lab shortens it, to see a crash healed soon.
	Lease time.Duration

	// AllowPrivate lets deliveries go to loopback and private addresses.
	AllowPrivate bool
}

// Worker sends what is due.
type Worker struct {
	Config
	sender sender
	wake   chan struct{}
	tries  *prometheus.CounterVec

	mu     sync.Mutex
	inWork map[string]int // by merchant
}

// NewWorker returns a worker that is not running yet.
func NewWorker(cfg Config) *Worker {
	if cfg.Lease == 0 {
		cfg.Lease = lease
	}
	w := &Worker{
		Config: cfg,
		sender: newSender(cfg.DB, cfg.AllowPrivate, min(perTry, cfg.Lease*2/3)),
		wake:   make(chan struct{}, 1),
		inWork: map[string]int{},
		tries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "failwell_callback_tries_total",
			Help: "Tries to deliver a callback, by what became of it: delivered, failed (will be tried again), parked.",
		}, []string{"outcome"}),
	}
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(w.tries)
	}
	return w
}

// Wake tells the worker that a delivery was committed. It never blocks; a lost
// wake-up costs one Poll.
func (w *Worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends and the tries in work are over.
//
// Pattern: callback (the sending half)
// Pattern: reliable-retries
func (w *Worker) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	places := make(chan struct{}, atOnce)
	for ctx.Err() == nil {
		due, err := claim(ctx, w.DB, atOnce-len(places), perMerchant, w.full(), w.Lease)
		if err != nil && ctx.Err() == nil {
			w.Logger.Warn("callbacks: looking for what is due failed", "error", err)
		}
		for _, d := range due {
			places <- struct{}{}
			w.busy(d.MerchantID, 1)
			running.Go(func() {
				defer func() { <-places; w.busy(d.MerchantID, -1); w.Wake() }()
				// The try in work outlives ctx: cutting it off would only send it again.
				w.try(context.WithoutCancel(ctx), d)
			})
		}
		if len(due) > 0 && len(places) < atOnce {
			continue
		}
		select {
		case <-w.wake:
		case <-time.After(w.Poll):
		case <-ctx.Done():
		}
	}
}

// busy counts the deliveries to a merchant that are in work.
func (w *Worker) busy(merchant string, change int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inWork[merchant] += change; w.inWork[merchant] == 0 {
		delete(w.inWork, merchant)
	}
}

// full names the merchants that have no place left. A claim may take perMerchant
// more of one that has some in work, so twice that is the most.
func (w *Worker) full() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	full := []string{}
	for merchant, n := range w.inWork {
		if n >= perMerchant {
			full = append(full, merchant)
		}
	}
	return full
}

// try makes one attempt and records what became of it. If we die before the
// record, the lease ends and the delivery is sent again under the same id.
func (w *Worker) try(ctx context.Context, d claimed) {
	log := w.Logger.With("callback_id", "msg_"+d.ID.String(), "subject", d.Subject, "url", d.URL, "attempt", d.attempts)
	err := w.sender.send(ctx, d)
	if err == nil {
		err = fault.Point(ctx, fault.CallbackDeliverAfterPost)
	}
	outcome := "delivered"
	if err == nil {
		err = markDelivered(ctx, w.DB, d.ID)
	} else {
		state, next := w.schedule(d.attempts, err)
		outcome = map[string]string{"pending": "failed", "parked": "parked"}[state]
		log.Warn("callback not delivered", "outcome", outcome, "next_in", next, "error", err)
		err = markFailed(ctx, w.DB, d.ID, state, next, err.Error())
	}
	if err != nil {
		log.Warn("callback: outcome not recorded, it will be sent again", "error", err)
	}
	w.tries.WithLabelValues(outcome).Inc()
}

// schedule decides what follows a failed try.
func (w *Worker) schedule(attempts int, err error) (state string, next time.Duration) {
	if errors.Is(err, errGone) || attempts >= len(w.Delays) {
		return "parked", 0
	}
	next = w.Delays[attempts]
	next += time.Duration(float64(next) * jitter * rand.Float64()) //nolint:gosec // spreading load needs no secrecy
	var later *retryAfter
	if errors.As(err, &later) {
		next = max(next, min(later.wait, maxRetryAfter))
	}
	return "pending", next
}

// errGone: the endpoint answered 410, nobody is there any more.
var errGone = errors.New("callback: endpoint is gone (410)")

// retryAfter is a refusal with the endpoint's own word when to come back.
type retryAfter struct {
	status int
	wait   time.Duration
}

func (r *retryAfter) Error() string {
	return fmt.Sprintf("callback: status %d, come back in %s", r.status, r.wait)
}
