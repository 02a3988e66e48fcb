// Command sandbox is the outside world of the shop: a card processor, a bank,
// and the endpoint where merchants are called back. All three behave as the
// real ones do, and each contract can be made to misbehave while it runs
// (PUT /faults), so that one can see what the services make of it.
//
// It keeps its state in a database of its own, which no other program writes: it is
// the witness when one asks how often a card was really charged.
package main

import (
	"context"
	"embed"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/postgres/migrate"
	"example.com/failwell/shared/platform/process"
	"example.com/failwell/shared/platform/web"
)

//go:embed migrations/*.sql
var migrations embed.FS

func main() { process.Main("sandbox", run) }

func run(ctx context.Context, cfg settings, logger *slog.Logger) error {
	db, err := postgres.Open(ctx, postgres.Options{URL: cfg.DatabaseURL, MaxConns: cfg.DatabaseConns, Logger: logger})
	if err != nil {
		return err
	}
	defer db.Close()
	if err := migrate.Up(ctx, cfg.DatabaseURL, migrations); err != nil {
		return err
	}

	misbehaviour := newFaults(cfg.Seed)
	registry := prometheus.NewRegistry()
	e := web.New(web.Options{Logger: logger, Metrics: registry})
	web.Health(ctx, e, logger, registry, web.Database(db))
	together := postgres.Grouped(db, postgres.GroupOptions{})
	defer together.Close()
	heard := newCalls(ctx.Done())
	e.Use(heard.watch)
	e.GET("/calls", heard.stream)
	if err := mount(e, cfg, db, together, misbehaviour); err != nil {
		return err
	}

	var background sync.WaitGroup
	defer background.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // comes before Wait, as deferred calls run backwards
	if cfg.WebhookTarget != "" {
		send, err := newSender(cfg, db, misbehaviour, logger)
		if err != nil {
			return err
		}
		send.calls = heard
		background.Go(func() { send.run(ctx, cfg.WebhookPoll) })
	}
	return web.Run(ctx, e, cfg.Common, logger)
}
