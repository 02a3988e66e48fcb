// Package process begins and ends the process of a service.
package process

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"example.com/failwell/shared/platform/config"
	"example.com/failwell/shared/platform/telemetry"
)

// stopTimeout bounds a stop, whatever hangs: a database that does not answer, a broker,
// a handler. It is below the ten seconds after which an orchestrator kills. What is left
// undone is what a crash leaves undone, and every pattern here is made for that.
const stopTimeout = 9 * time.Second

// Main reads the settings of a service, sets up its log and its traces, and runs it until it
// ends by itself or SIGTERM tells it to. A second signal ends it at once.
func Main[T settings](name string, run func(ctx context.Context, cfg T, log *slog.Logger) error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, func() {
		stop()
		time.Sleep(stopTimeout)
		fail(name, fmt.Errorf("has not stopped within %s, ends as in a crash", stopTimeout))
	})
	if err := begin(ctx, name, run); err != nil {
		fail(name, err)
	}
}

// settings embed config.Common.
type settings interface{ Level() string }

// begin runs a service and sends the last of its spans.
func begin[T settings](ctx context.Context, name string, run func(ctx context.Context, cfg T, log *slog.Logger) error) error {
	cfg, err := config.Load[T]()
	if err != nil {
		return err
	}
	log, err := telemetry.Logger(os.Stderr, name, cfg.Level())
	if err != nil {
		return err
	}
	config.WarnOfLab(log, cfg)
	flush, err := telemetry.Traces(ctx, name, log)
	if err != nil {
		return err
	}
	defer flush()
	return run(ctx, cfg, log)
}

func fail(name string, err error) {
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	os.Exit(1)
}
