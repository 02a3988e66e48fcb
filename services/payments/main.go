// Command payments holds, takes and releases money at the card processor, and
// keeps the record of each payment.
package main

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"example.com/failwell/shared/pattern/completer"
	"example.com/failwell/shared/pattern/distributedtx"
	"example.com/failwell/shared/pattern/garbagecollection"
	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/outbox/rabbitpublisher"
	"example.com/failwell/shared/pattern/outoforder"
	"example.com/failwell/shared/pattern/reconciliation"
	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/pattern/storethenreference"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/postgres/migrate"
	"example.com/failwell/shared/platform/process"
	"example.com/failwell/shared/platform/rabbit"
	"example.com/failwell/shared/platform/telemetry"
	"example.com/failwell/shared/platform/web"
)

//go:embed migrations
var migrations embed.FS

func main() { process.Main("payments", run) }

type service struct {
	cfg       settings
	db        *pgxpool.Pool
	writer    postgres.Writer
	log       *slog.Logger
	outbox    outbox.Outbox
	relay     *outbox.Relay
	processor processor
	bank      bank
	ledger    ledgerClient
	verifier  *standardwebhooks.Webhook // of the processor's webhooks
	events    *outoforder.Log
	twophase  *distributedtx.Coordinator

	receipts      storethenreference.Store
	receiptDue    chan struct{}
	receiptLeased time.Time // when our lease was extended last; for writeReceipts only
	reconciler    *reconciliation.Reconciler
	personNeeded  *prometheus.CounterVec
}

// localPrefix keeps the names of our prepared transactions apart from the
// ledger's, which may live in the same PostgreSQL server.
const localPrefix = "payments:"

// run is the map of the process: what it needs, what runs in it, and in which
// order it stops.
func run(ctx context.Context, cfg settings, log *slog.Logger) error {
	registry := telemetry.Metrics()

	db, err := postgres.Open(ctx, postgres.Options{URL: cfg.DatabaseURL, MaxConns: cfg.DatabaseConns, PreparedTransactions: true, Logger: log, Tracer: telemetry.QueryTracer()})
	if err != nil {
		return err
	}
	defer db.Close()
	if err := migrate.Up(ctx, cfg.SchemaURL(), migrations); err != nil {
		return err
	}
	if err := web.SyncAPIKeys(ctx, db, cfg.Merchants); err != nil {
		return err
	}
	broker := rabbit.Dial(rabbit.Options{URL: cfg.AMQPURL, Name: "payments@" + cfg.InstanceName(), Logger: log})
	defer broker.Close()

	s, err := newService(cfg, db, log, registry)
	if err != nil {
		return err
	}
	if err := s.openReceipts(ctx); err != nil {
		return err
	}
	defer s.receipts.Bucket.Close() //nolint:errcheck // every write was confirmed by itself
	s.relay = outbox.NewRelay(s.outbox, outbox.Config{
		DB: db, Publisher: rabbitpublisher.New(broker), Logger: log, Metrics: registry,
		Poll: cfg.OutboxPoll, Takeover: cfg.OutboxTakeover,
	})
	// Pattern: reliable-retries
	commands := reliableretries.NewConsumer(reliableretries.Config{
		Conn: broker, Queue: "payments.commands", Bindings: []string{"payments.authorise", "payments.capture", "payments.void"},
		Workers: cfg.Workers, Delays: cfg.RetryDelays, Handle: s.receive, Logger: log, Metrics: registry,
	})

	// Pattern: completer
	finisher := completer.New(completer.Config{
		DB: db, Logger: log, Metrics: registry, Every: cfg.CompleterEvery, Lease: cfg.KeyLease, Grace: cfg.CompleterGrace,
		Finish: map[string]func(context.Context, idempotency.Lock) error{
			s.refunds().name: func(ctx context.Context, l idempotency.Lock) error {
				_, err := s.resume(ctx, s.refunds(), l)
				return err
			},
			s.payouts().name: func(ctx context.Context, l idempotency.Lock) error {
				_, err := s.resume(ctx, s.payouts(), l)
				return err
			},
		},
	})
	collector := garbagecollection.New(garbagecollection.Config{
		DB: db, Logger: log, Metrics: registry, Holder: cfg.InstanceName(), Every: cfg.GarbageEvery, Rules: s.garbageRules(),
	})

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var background sync.WaitGroup
	for _, job := range []func(context.Context){s.relay.Run, commands.Run, s.events.Run, s.twophase.RunRecovery, finisher.Run, s.writeReceipts, s.reconciler.Run, collector.Run} {
		background.Go(func() { job(ctx) })
	}
	err = web.Run(ctx, s.routes(ctx, registry, broker), cfg.Common, log)
	stop() // also when the server failed by itself
	background.Wait()
	s.writer.Close() // last: a handler may still have been writing
	return err
}

// newService wires what the handlers need.
func newService(cfg settings, db *pgxpool.Pool, log *slog.Logger, registry *prometheus.Registry) (*service, error) {
	verifier, err := standardwebhooks.NewWebhook(cfg.ProcessorWebhookSecret)
	if err != nil {
		return nil, fmt.Errorf("PROCESSOR_WEBHOOK_SECRET: %w", err)
	}
	s := &service{
		cfg: cfg, db: db, outbox: outbox.New("/payments", cfg.InstanceName()), log: log, verifier: verifier, receiptDue: make(chan struct{}, 1),
		processor: processor{url: cfg.ProcessorURL, key: cfg.ProcessorKey, client: web.Client(cfg.CallTimeout)},
		bank:      newBank(cfg.BankURL, cfg.CallTimeout),
		ledger:    ledgerClient{url: cfg.LedgerURL, key: cfg.ServiceKey, client: web.Client(cfg.CallTimeout)},
	}
	s.personNeeded = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "failwell_person_needed_total",
		Help: "Answers of others that contradict our own record, by operation. No further try helps: a person must look.",
	}, []string{"operation"})
	for _, operation := range []string{"GET /v1/payments/:id/receipt", "POST /v1/refunds", "POST /v1/payouts", "payments.authorise", "payments.capture", "payments.void"} {
		s.personNeeded.WithLabelValues(operation) // at zero: an alarm sees no increase where there was nothing before
	}
	registry.MustRegister(s.personNeeded)
	s.observePayouts(registry)
	s.writer = postgres.Grouped(db, postgres.GroupOptions{Metrics: registry}) // or postgres.Direct(db): slower, and nothing else changes
	s.twophase = distributedtx.NewCoordinator(distributedtx.Config{
		DB: db, Logger: log, Metrics: registry, LocalPrefix: localPrefix, Timeout: cfg.TwoPhaseTimeout, Sweep: cfg.TwoPhaseSweep,
		Participants: []distributedtx.Participant{
			{
				Name:     "payments",
				Commit:   func(ctx context.Context, gid string) error { return distributedtx.Commit(ctx, db, localPrefix+gid) },
				Rollback: func(ctx context.Context, gid string) error { return distributedtx.Rollback(ctx, db, localPrefix+gid) },
			},
			{Name: "ledger", Commit: s.ledger.commit, Rollback: s.ledger.rollback},
		},
	})
	s.reconciler = reconciliation.New(reconciliation.Config{
		DB: db, Logger: log, Metrics: registry, Holder: cfg.InstanceName(), Sources: s.statements(),
		Changed: changedSQL, Expected: expectedSQL, Owners: ownersSQL, Fetched: s.findMissedNews, Judge: s.judge,
		Overlap: cfg.ReconcileOverlap, Every: cfg.ReconcileEvery, Poll: cfg.EventsPoll,
	})
	s.events = outoforder.NewLog(outoforder.Config{
		DB: db, Logger: log, Metrics: registry, Apply: s.settle, Poll: cfg.EventsPoll, Overdue: cfg.EventsOverdue,
		Applied: func() { s.relay.Wake() },
	})
	return s, nil
}

func (s *service) routes(ctx context.Context, registry *prometheus.Registry, broker *rabbit.Conn) *echo.Echo {
	e := web.New(web.Options{Logger: s.log, Metrics: registry, LabFaults: s.cfg.LabFaults, ServiceKey: s.cfg.ServiceKey})
	web.Health(ctx, e, s.log, registry, web.Database(s.db),
		web.Check{Name: "broker", Probe: func(context.Context) error { return broker.Ready() }, Background: true})

	v1 := e.Group("/v1", web.RequireMerchant(s.db), web.LimitMerchant(s.cfg.merchantLimit()))
	v1.GET("/payments", s.list)
	v1.GET("/payments/:id", s.get)
	v1.GET("/payments/:id/receipt", s.getReceipt)
	v1.POST("/refunds", s.createRefund)
	v1.GET("/refunds/:id", s.getRefund)
	v1.POST("/payouts", s.createPayout)
	v1.GET("/payouts/:id", s.getPayout)
	v1.POST("/reconciliations", s.createReconciliation)
	v1.GET("/reconciliations/:id", s.getReconciliation)

	// Not a group: a second one of /v1 would answer for every path that is not there.
	ours := web.RequireServiceKey(s.cfg.ServiceKey)
	e.POST("/v1/payouts/:id/resolve", s.endUnknownPayout, ours)
	e.POST("/v1/platform/reconciliations", s.createReconciliation, ours)
	e.GET("/v1/platform/reconciliations/:id", s.getReconciliation, ours)
	e.POST("/webhooks/processor", s.webhook) // its signature is its key
	e.GET("/2pc/:gid", s.decisionOn, ours)
	return e
}
