// Command orders accepts orders, reserves their stock, and leads each of them
// through payments and ledger to its end: confirmed or cancelled.
package main

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"example.com/failwell/shared/pattern/callback"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/pattern/retries"
	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/rabbit"
	"example.com/failwell/shared/platform/telemetry"
	"example.com/failwell/shared/platform/web"
)

//go:embed migrations
var migrations embed.FS

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	cfg, err := config.Load[settings]()
	if err == nil {
		err = run(ctx, cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "orders:", err)
		os.Exit(1)
	}
}

type service struct {
	cfg       settings
	db        *pgxpool.Pool
	log       *slog.Logger
	relay     *outbox.Relay
	callbacks *callback.Worker
	metrics   metrics
}
