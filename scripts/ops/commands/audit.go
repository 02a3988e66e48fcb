package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"example.com/failwell/scripts/lab/audit"
)

// Audit checks the invariants of a running system.
type Audit struct {
	Wait         time.Duration `default:"30s" help:"How long to wait until the system is quiet."`
	ReceiptGrace time.Duration `default:"10s" help:"The age from which a document that no row refers to must have been removed: RECEIPT_GRACE of payments, and time enough for its sweep."`
}

// Run audits the system whose addresses are in the environment or in .run/env. It
// fails when an invariant is violated, and also when the system was not quiet: what
// is going on may be rightly unfinished, or never be finished, and the invariants
// cannot tell.
func (c Audit) Run(ctx context.Context) error {
	if _, err := here.database("orders"); err != nil {
		return err
	}
	receipts, err := Setting("RECEIPTS_URL")
	if err != nil {
		receipts = "" // the containers keep theirs to themselves: the documents are not looked at
	}
	d, err := audit.Open(ctx, func(name string) string { at, _ := here.database(name); return at }, receipts)
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
