// Command lab is where the system is broken on purpose.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"example.com/failwell/scripts/lab/audit"
	"example.com/failwell/scripts/ops/commands"
)

var cli struct {
	List    listCmd    `cmd:"" help:"The experiments."`
	Run     runCmd     `cmd:"" help:"Run an experiment, or all: each pattern taken away and put back."`
	Sweep   sweepCmd   `cmd:"" help:"Crash, fail and delay at every fault point; then audit."`
	Mutants mutantsCmd `cmd:"" help:"Take a pattern out of the source, and see that the audit turns red."`
	Record  recordCmd  `cmd:"" help:"Bring the bugs of our track record back, and see that their tests find them."`
	Chaos   chaosCmd   `cmd:"" help:"Place orders while services, database and broker are being killed; then audit."`
	Conform conformCmd `cmd:"" help:"Hold a service, ours or yours, against the published cases for idempotency keys and webhooks."`
	Audit   auditCmd   `cmd:"" help:"Check the invariants of a running system."`
	Load    loadCmd    `cmd:"" help:"Place orders as fast as they are accepted, and say what one costs."`

	// The operator's commands, as in scripts/ops.
	DLQ       commands.DLQ       `cmd:"" name:"dlq" help:"List the messages that were parked, or put them back."`
	Callbacks commands.Callbacks `cmd:"" help:"List the callbacks that were given up, or send one again."`
	Prepared  commands.Prepared  `cmd:"" help:"List the transactions that are in doubt, or end one by hand."`
	Payouts   commands.Payouts   `cmd:"" help:"List the payouts of which nobody knows whether the bank has sent them, or say so."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	k := kong.Parse(&cli, kong.Name("lab"), kong.UsageOnError(), kong.BindTo(ctx, (*context.Context)(nil)))
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		stop()
		os.Exit(1)
	}
}

type auditCmd struct {
	Wait time.Duration `default:"30s" help:"How long to wait until the system is quiet."`
}

// Run audits the system whose addresses are in the environment or in .run/env.
func (c auditCmd) Run(ctx context.Context) error {
	server, err := commands.Setting("POSTGRES_URL")
	if err != nil {
		return err
	}
	receipts, err := commands.Setting("RECEIPTS_URL")
	if err != nil {
		receipts = "" // the containers keep theirs to themselves: that invariant is checked without the documents
	}
	d, err := audit.Open(ctx, func(name string) string {
		u, err := url.Parse(server)
		if err != nil {
			return server
		}
		u.Path = "/" + name
		return u.String()
	}, receipts)
	if err != nil {
		return err
	}
	defer d.Close()
	quiet, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	if err := audit.WaitQuiet(quiet, d); err != nil {
		fmt.Println(err) // the audit says what that means
	}
	results, err := audit.Run(ctx, d)
	if err != nil {
		return err
	}
	audit.Print(os.Stdout, results)
	if !audit.Held(results) {
		return errors.New("an invariant is violated")
	}
	return nil
}
