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
	Wait         time.Duration `default:"30s" help:"How long to wait until the system is quiet."`
	ReceiptGrace time.Duration `default:"10s" help:"The age from which a document that nobody refers to must have been removed: RECEIPT_GRACE of payments, and time enough for its sweep."`
}

// Run audits the system whose addresses are in the environment or in .run/env. It
// fails when an invariant is violated, and also when the system was not quiet: what
// is going on may be rightly unfinished, or never be finished, and the invariants
// cannot tell.
func (c auditCmd) Run(ctx context.Context) error {
	server, err := commands.Setting("POSTGRES_URL")
	if err != nil {
		return err
	}
	receipts, err := commands.Setting("RECEIPTS_URL")
	if err != nil {
		receipts = "" // the containers keep theirs to themselves: the documents are not looked at
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
	d.Grace = c.ReceiptGrace
	quiet, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	restless := audit.WaitQuiet(quiet, d)
	begun := time.Now()
	results, err := audit.Run(ctx, d)
	if err != nil {
		return errors.Join(restless, err)
	}
	audit.Print(os.Stdout, results)
	copied := time.Since(begun)
	for _, r := range results {
		copied -= r.Took
	}
	fmt.Printf("%.2f s, %.2f s of them to lay what all databases say side by side\n", time.Since(begun).Seconds(), copied.Seconds())
	if !audit.Held(results) {
		return errors.Join(restless, errors.New("an invariant is violated"))
	}
	return restless
}
