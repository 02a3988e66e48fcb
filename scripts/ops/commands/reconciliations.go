package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
)

// Reconciliations is about what others say and we do not.
type Reconciliations struct {
	List ListDifferences   `cmd:"" help:"Show the differences that the last run has found, with both sides."`
	Run  RunReconciliation `cmd:"" help:"Compare now: what a statement explains is resolved."`
}

// ListDifferences shows them.
type ListDifferences struct{}

// RunReconciliation compares.
type RunReconciliation struct{}

// Reconciliation is a run with what it has found, as payments shows it to the platform.
type Reconciliation struct {
	ID          string       `json:"id"`
	Status      string       `json:"status"`
	RequestedAt time.Time    `json:"requested_at"`
	Subjects    int64        `json:"subjects"`
	NotCompared []string     `json:"not_compared"`
	Differences []Difference `json:"differences"`
}

// Difference is what one of them says and we do not, or the other way round.
type Difference struct {
	Source    string          `json:"source"`
	Kind      string          `json:"kind"`
	Reference string          `json:"reference"`
	Finding   string          `json:"finding"`
	Verdict   string          `json:"verdict"`
	Note      string          `json:"note"`
	Ours      json.RawMessage `json:"ours"`
	Theirs    json.RawMessage `json:"theirs"`
}

// LastReconciliation is the last run that has ended; without an id when there was none.
func (a Addresses) LastReconciliation(ctx context.Context) (r Reconciliation, err error) {
	db, err := a.connect(ctx, "payments")
	if err != nil {
		return r, err
	}
	defer db.Close(ctx) //nolint:errcheck // only read
	var id string
	err = db.QueryRow(ctx, `SELECT 'rec_' || id FROM reconciliations WHERE status = 'finished' ORDER BY requested_at DESC LIMIT 1`).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return r, nil
	}
	if err == nil {
		err = a.platform(ctx, http.MethodGet, "/v1/platform/reconciliations/"+id, nil, &r)
	}
	return r, err
}

// Reconcile has payments compare, and returns what is known when it answers.
func (a Addresses) Reconcile(ctx context.Context) (r Reconciliation, err error) {
	return r, a.platform(ctx, http.MethodPost, "/v1/platform/reconciliations", struct{}{}, &r)
}

// Run shows the last run.
func (ListDifferences) Run(ctx context.Context) error { return show(here.LastReconciliation(ctx)) }

// Run compares.
func (RunReconciliation) Run(ctx context.Context) error { return show(here.Reconcile(ctx)) }

func show(r Reconciliation, err error) error {
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, d := range r.Differences {
		fmt.Fprintf(table, "%s\t%s %s\t%s\t%s: %s\tours %s\ttheirs %s\n", d.Reference, d.Source, d.Kind, d.Verdict, d.Finding, d.Note, d.Ours, d.Theirs)
	}
	fmt.Fprintf(table, "%s %s: %d looked at, %d differences; not compared: %v\n", r.ID, r.Status, r.Subjects, len(r.Differences), r.NotCompared)
	return table.Flush()
}
