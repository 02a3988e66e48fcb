// Command ops is for the engineer on call: see docs/runbook.md.
package main

import (
	"context"

	"github.com/alecthomas/kong"

	"example.com/failwell/scripts/command"
	"example.com/failwell/scripts/ops/commands"
)

var cli struct {
	DLQ             commands.DLQ             `cmd:"" name:"dlq" help:"List the messages that were parked, or put them back."`
	Callbacks       commands.Callbacks       `cmd:"" help:"List the callbacks that were given up, or send one again."`
	Prepared        commands.Prepared        `cmd:"" help:"List the transactions that are in doubt, or end one by hand."`
	Reconciliations commands.Reconciliations `cmd:"" help:"Show what the processor, the bank or the ledger says and payments does not, or compare again."`
	Audit           commands.Audit           `cmd:"" help:"Check the invariants of a running system."`
	Payouts         commands.Payouts         `cmd:"" help:"List the payouts of which it is unknown whether the bank has sent them, or say what the bank did."`
}

func main() {
	command.Main("ops", func(ctx context.Context) error {
		return kong.Parse(&cli, kong.Name("ops"), kong.UsageOnError(), kong.BindTo(ctx, (*context.Context)(nil))).Run()
	})
}
