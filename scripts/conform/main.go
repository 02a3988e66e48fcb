// Command conform holds a service, in whatever language it is written, against the
// published cases for idempotency keys and webhooks: see docs/conformance.md.
package main

import (
	"context"

	"github.com/alecthomas/kong"

	"example.com/failwell/scripts/command"
	"example.com/failwell/scripts/lab/conform"
)

var cli conform.Command

func main() {
	command.Main("conform", func(ctx context.Context) error {
		return kong.Parse(&cli, kong.Name("conform"), kong.UsageOnError(), kong.BindTo(ctx, (*context.Context)(nil))).Run()
	})
}
