package callback

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/required"
	"example.com/failwell/shared/platform/tracing"
)

const (
	// perTry bounds one POST, from the look-up of the name to the end of the answer.
	perTry = 15 * time.Second

	// lease is how long a claimed delivery is ours. It must exceed perTry and
	// what it takes to record the outcome, or a second worker would send beside us.
	lease = perTry + 10*time.Second

	// perRound bounds the transaction that claims and records: a connection that died
	// without a word must not stop the worker for longer than what is left of a lease.
	perRound = (lease - perTry) / 2

	// atOnce is how many deliveries are sent at the same time, and perMerchant how
	// many of them to one merchant. An endpoint that takes its full fifteen seconds
	// for each must not hold up the others: it takes sixteen of those to fill all
	// places. A try is little more than an open connection, so places are cheap.
	atOnce      = 512
	perMerchant = 32

	// minRoundInterval is the least time between two rounds. What ends and what becomes due
	// within it is written down and claimed together: a transaction for dozens of
	// deliveries, and not two for each.
	minRoundInterval = 50 * time.Millisecond

	// idleFactor keeps a claim that has become slow (thousands of merchants with something
	// still to come) from taking more than a fifth of one connection's time; within
	// maxIdle, for outcomes are waiting to be recorded.
	idleFactor = 4
	maxIdle    = time.Second

	// recallEvery is how often to look for deliveries whose time is too far away: it reads
	// the index of all that wait.
	recallEvery = time.Hour

	// jitter spreads tries, so that an endpoint that comes back is not met by
	// everything that failed at the same moment.
	jitter = 0.2

	// maxRetryAfter bounds how far an endpoint can push us off.
	maxRetryAfter = 24 * time.Hour
)

// Config is what a Worker needs. All of it is required except where it says otherwise.
type Config struct {
	DB      *pgxpool.Pool
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil: none

	// Delays before each try, counted from the one before; after the last has
	// failed the delivery is parked.
	Delays []time.Duration

	// Poll is how often to look for what has become due.
	Poll time.Duration

	// Lease overrides how long a delivery belongs to the worker that claimed it.
	// Zero means the default of 25 s. A lab shortens it, to see a crash healed soon.
	Lease time.Duration

	// Filter says where deliveries may go. Empty: to https on the internet.
	Filter Filter
}

// Worker sends what is due.
type Worker struct {
	Config
	sender sender
	wake   chan struct{}
	tries  *prometheus.CounterVec

	mu      sync.Mutex
	inWork  map[string]int  // by merchant
	places  int             // left
	results []attemptResult // of tries that have ended, and not recorded yet
}

// NewWorker returns a worker that is not running yet. It panics when a field is missing.
func NewWorker(cfg Config) *Worker {
	required.Fields("callback.Config", map[string]bool{
		"DB": cfg.DB != nil, "Logger": cfg.Logger != nil, "Delays": len(cfg.Delays) > 0, "Poll": cfg.Poll > 0,
	})
	cfg.Lease = cmp.Or(cfg.Lease, lease)
	w := &Worker{
		Config: cfg,
		sender: newSender(cfg.Filter, min(perTry, cfg.Lease*2/3)),
		wake:   make(chan struct{}, 1),
		inWork: map[string]int{},
		places: atOnce,
		tries: promauto.With(cfg.Metrics).NewCounterVec(prometheus.CounterOpts{
			Name: "failwell_callback_tries_total",
			Help: "Tries to deliver a callback, by what became of it: delivered, failed (will be tried again), parked.",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{"delivered", "failed", "parked"} {
		w.tries.WithLabelValues(outcome) // at zero: an alarm sees no increase where there was nothing before
	}
	observe(cfg.Metrics, cfg.DB)
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

// Run sends until ctx ends and the tries in progress are over.
//
// Pattern: callback (the sending half)
// Pattern: reliable-retries
func (w *Worker) Run(ctx context.Context) {
	var recalled time.Time
	for {
		if time.Since(recalled) > recallEvery {
			if err := w.recall(ctx); err != nil {
				w.Logger.Warn("callbacks: not looked for what is too far away", "error", err)
			}
			recalled = time.Now()
		}
		begun, stopping := time.Now(), ctx.Err() != nil
		// Neither a round nor a try in progress is cut off by the end of ctx: what it has
		// sent would only be sent again.
		idle, err := w.round(context.WithoutCancel(ctx), stopping)
		if err != nil {
			w.Logger.Warn("callbacks: neither recorded nor claimed, will try again", "error", err)
		}
		if stopping && idle {
			return // what could not be recorded even now is sent again
		}
		took := time.Since(begun)
		time.Sleep(max(minRoundInterval-took, min(idleFactor*took, maxIdle)))
		select {
		case <-w.wake:
		case <-time.After(w.Poll):
		case <-ctx.Done():
		}
	}
}

// round records what has ended and claims what is due, in one transaction, and
// sends what it has claimed. If we die before the record, the lease ends and the
// delivery is sent again under the same id.
func (w *Worker) round(ctx context.Context, stopping bool) (idle bool, err error) {
	w.mu.Lock()
	results, limit, inWork := w.results, w.places, maps.Clone(w.inWork)
	w.mu.Unlock()
	idle = limit == atOnce
	if stopping {
		limit = 0
	}
	if len(results) == 0 && limit == 0 {
		return idle, nil
	}

	var due []claimed
	bounded, cancel := context.WithTimeout(ctx, perRound)
	defer cancel()
	err = postgres.Write(bounded, w.DB, func(b *pgx.Batch) {
		for _, r := range results {
			r.record(b)
		}
		if limit > 0 {
			w.claim(b, limit, inWork, &due)
		}
	})
	if err != nil {
		return idle, err // recorded in the next round; what was claimed nevertheless is due when its lease ends
	}
	w.mu.Lock()
	w.results = slices.Clone(w.results[len(results):])
	w.mu.Unlock()
	for _, r := range results {
		w.tries.WithLabelValues(r.outcome()).Inc()
	}

	for _, d := range due {
		w.track(d.MerchantID, 1)
		go func() {
			result := w.try(ctx, d)
			w.track(d.MerchantID, -1, result)
			w.Wake()
		}()
	}
	return idle, nil
}

// track counts the deliveries to a merchant that are in progress.
func (w *Worker) track(merchant string, change int, ended ...attemptResult) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.results = append(w.results, ended...)
	w.places -= change
	if w.inWork[merchant] += change; w.inWork[merchant] == 0 {
		delete(w.inWork, merchant)
	}
}

// try makes one attempt and tells what became of it.
func (w *Worker) try(ctx context.Context, d claimed) attemptResult {
	withoutQuery, _, _ := strings.Cut(d.URL, "?") // which may carry a secret of the merchant's
	log := w.Logger.With("callback_id", "msg_"+d.ID.String(), "subject", d.Subject, "url", withoutQuery, "attempt", d.attempts)
	ctx, span := startTry(ctx, d)
	err := w.sender.send(ctx, d)
	tracing.End(span, err)
	if err == nil {
		err = fault.Point(ctx, fault.CallbackDeliverAfterPost)
	}
	if err == nil {
		return attemptResult{id: d.ID, attempt: d.attempts, state: "delivered"}
	}
	state, next := w.schedule(d.attempts, err)
	result := attemptResult{id: d.ID, attempt: d.attempts, state: state, next: next, cause: sanitise(err)}
	log.WarnContext(ctx, "callback not delivered", "outcome", result.outcome(), "next_in", next, "error", result.cause)
	return result
}

// schedule decides what follows a failed try.
func (w *Worker) schedule(attempts int, err error) (state string, next time.Duration) {
	if errors.Is(err, errPermanent) || attempts >= len(w.Delays) {
		return "parked", 0
	}
	next = w.Delays[attempts]
	next += time.Duration(float64(next) * jitter * rand.Float64()) //nolint:gosec // spreading load needs no secrecy
	if later, ok := errors.AsType[*backoff.RetryAfterError](err); ok {
		next = max(next, min(later.Duration, maxRetryAfter))
	}
	return "pending", next
}

// errPermanent: the endpoint says that no further try will help.
var errPermanent = errors.New("callback: permanent refusal")
