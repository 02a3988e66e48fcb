// Command orders accepts orders, reserves their stock, and leads each of them
// through payments and ledger to its end: confirmed or cancelled.
package main

import (
	"context"
	"embed"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/pattern/garbagecollection"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/outbox/rabbitpublisher"
	"example.com/failwell/shared/pattern/reliableretries"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/postgres/migrate"
	"example.com/failwell/shared/platform/process"
	"example.com/failwell/shared/platform/rabbit"
	"example.com/failwell/shared/platform/telemetry"
	"example.com/failwell/shared/platform/web"
)

//go:embed migrations
var migrations embed.FS

func main() { process.Main("orders", run) }

type service struct {
	cfg       settings
	db        *pgxpool.Pool
	log       *slog.Logger
	outbox    outbox.Outbox
	relay     *outbox.Relay
	callbacks *callback.Worker
	metrics   metrics
	writer    postgres.Writer
	full      atomic.Bool // too many orders are unfinished
}

// run is the map of the process: what it needs, what runs in it, and in which
// order it stops.
func run(ctx context.Context, cfg settings, log *slog.Logger) error {
	registry := telemetry.Metrics()

	db, err := postgres.Open(ctx, postgres.Options{URL: cfg.DatabaseURL, MaxConns: cfg.DatabaseConns, Logger: log, Tracer: telemetry.QueryTracer()})
	if err != nil {
		return err
	}
	defer db.Close()
	if err := migrate.Up(ctx, cfg.SchemaURL(), migrations); err != nil {
		return err
	}
	if err := orderPlan.Check(ctx, db); err != nil {
		return err
	}
	broker := rabbit.Dial(rabbit.Options{URL: cfg.AMQPURL, Name: "orders@" + cfg.InstanceName(), Logger: log})
	defer broker.Close()

	messages := outbox.New("/orders", cfg.InstanceName())
	s := &service{
		cfg: cfg, db: db, outbox: messages, log: log, metrics: newMetrics(registry),
		writer: postgres.Grouped(db, postgres.GroupOptions{Metrics: registry}), // or postgres.Direct(db): slower, and nothing else changes
		relay: outbox.NewRelay(messages, outbox.Config{
			DB: db, Publisher: rabbitpublisher.New(broker), Logger: log, Metrics: registry,
			Poll: cfg.OutboxPoll, Takeover: cfg.OutboxTakeover,
		}),
		callbacks: callback.NewWorker(callback.Config{
			DB: db, Logger: log, Metrics: registry, Delays: cfg.CallbackDelays,
			Poll: cfg.CallbackPoll, Lease: cfg.CallbackLease, Filter: cfg.callbackFilter(),
		}),
	}
	observeOrders(registry, db)
	if err := web.SyncAPIKeys(ctx, db, cfg.Merchants); err != nil {
		return err
	}
	if err := s.seed(ctx, cfg.Merchants, cfg.SeedProducts); err != nil {
		return err
	}
	// Pattern: reliable-retries
	replies := reliableretries.NewConsumer(reliableretries.Config{
		Conn: broker, Queue: "orders.replies", Bindings: []string{"orders.saga-reply", "orders.receipts"},
		Workers: cfg.Workers, Delays: cfg.RetryDelays, Handle: s.receive, Logger: log, Metrics: registry,
	})
	collector := garbagecollection.New(garbagecollection.Config{
		DB: db, Logger: log, Metrics: registry, Holder: cfg.InstanceName(), Every: cfg.GarbageEvery, Rules: s.garbageRules(),
	})

	// Everything stops when ctx ends and finishes what it has in progress. The relay
	// stops by itself as well: what is still in the outbox is sent after the restart.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var background sync.WaitGroup
	for _, job := range []func(context.Context){s.relay.Run, replies.Run, s.callbacks.Run, s.resendOverdue, s.countBacklog, collector.Run} {
		background.Go(func() { job(ctx) })
	}
	err = web.Run(ctx, s.routes(ctx, registry, broker), cfg.Common, log)
	stop() // also when the server failed by itself
	background.Wait()
	s.writer.Close() // last: a handler may still have been writing
	return err
}

func (s *service) routes(ctx context.Context, registry *prometheus.Registry, broker *rabbit.Conn) *echo.Echo {
	e := web.New(web.Options{Logger: s.log, Metrics: registry, LabFaults: s.cfg.LabFaults, ServiceKey: s.cfg.ServiceKey})
	web.Health(ctx, e, s.log, registry, web.Database(s.db),
		web.Check{Name: "broker", Probe: func(context.Context) error { return broker.Ready() }, Background: true})

	v1 := e.Group("/v1", web.RequireMerchant(s.db))
	v1.POST("/orders", s.accept)
	v1.GET("/orders", s.list)
	v1.GET("/orders/:id", s.get)
	v1.POST("/orders/:id/cancel", s.cancel)
	v1.GET("/products", s.listProducts)
	v1.GET("/products/:sku", s.getProduct)
	v1.PUT("/products/:sku", s.putProduct)
	return e
}
