// Command ledger keeps the books: every movement of money is a journal entry
// whose postings sum to zero.
package main

import (
	"context"
	"embed"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/pattern/changerecord"
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

func main() { process.Main("ledger", run) }

// lockWait bounds how long a write waits for a locked account, and placeWait how long for a
// place among those that wait. A payout in doubt keeps a merchant's accounts locked for
// half a minute, and each handler that waited for them would take one of the consumer's
// workers from all other merchants. So a few wait, the others give up early, and their
// messages wait at the broker.
const (
	lockWait  = time.Second
	placeWait = 100 * time.Millisecond
)

type service struct {
	cfg    settings
	db     *pgxpool.Pool
	log    *slog.Logger
	outbox outbox.Outbox
	relay  *outbox.Relay
	writer postgres.Writer

	preparedAge prometheus.Gauge
}

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
	broker := rabbit.Dial(rabbit.Options{URL: cfg.AMQPURL, Name: "ledger@" + cfg.InstanceName(), Logger: log})
	defer broker.Close()

	messages := outbox.New("/ledger", cfg.InstanceName())
	s := &service{
		cfg: cfg, db: db, outbox: messages, log: log, preparedAge: newPreparedAge(registry),
		writer: postgres.Grouped(db, postgres.GroupOptions{LockWait: lockWait, PlaceWait: placeWait, Metrics: registry}), // or postgres.Direct(db): slower, and nothing else changes
		relay: outbox.NewRelay(messages, outbox.Config{
			DB: db, Publisher: rabbitpublisher.New(broker), Logger: log, Metrics: registry,
			Poll: cfg.OutboxPoll, Takeover: cfg.OutboxTakeover,
		}),
	}
	// Pattern: reliable-retries
	commands := reliableretries.NewConsumer(reliableretries.Config{
		Conn: broker, Queue: "ledger.commands",
		Bindings: []string{"ledger.post-sale", "ledger.reverse-sale", "ledger.settle", "ledger.payout-sent", "ledger.payout-returned"},

		Workers: cfg.Workers, Delays: cfg.RetryDelays, Handle: s.receive, Logger: log, Metrics: registry,
	})
	// The books are no garbage.
	//
	// Pattern: garbage-collection
	collector := garbagecollection.New(garbagecollection.Config{
		DB: db, Logger: log, Metrics: registry, Holder: cfg.InstanceName(), Every: cfg.GarbageEvery,
		Rules: []garbagecollection.Rule{garbagecollection.SQL(db, "inbox", cfg.InboxRetention, changerecord.DeleteOld("/orders", "/payments"))},
	})

	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var background sync.WaitGroup
	for _, job := range []func(context.Context){s.relay.Run, commands.Run, s.resolveInDoubt, collector.Run} {
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

	merchant, ourselves := web.RequireMerchant(s.db), web.RequireServiceKey(s.cfg.ServiceKey)
	e.GET("/v1/accounts", s.listAccounts, merchant)
	e.GET("/v1/accounts/:id", s.getAccount, merchant)
	e.GET("/v1/entries", s.listEntries, merchant)
	e.POST("/v1/entries", s.postEntry, ourselves)
	e.GET("/v1/journal", s.journal, ourselves)
	e.POST("/2pc/:gid/prepare", s.prepare, ourselves)
	e.POST("/2pc/:gid/commit", s.commit, ourselves)
	e.POST("/2pc/:gid/rollback", s.rollback, ourselves)
	return e
}
