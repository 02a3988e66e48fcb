// Command conform holds a service, in whatever language it is written, against the
// published cases for idempotency keys and webhooks: see docs/conformance.md.
package main

import (
	"context"
	"os"
	"os/signal"

	"github.com/alecthomas/kong"

	"example.com/failwell/scripts/lab/conform"
)

var cli conform.Command

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	k := kong.Parse(&cli, kong.Name("conform"), kong.UsageOnError(), kong.BindTo(ctx, (*context.Context)(nil)))
	k.FatalIfErrorf(k.Run())
}
