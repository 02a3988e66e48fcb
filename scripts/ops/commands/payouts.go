package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"example.com/failwell/shared/platform/web"
)

// Payouts is about the payouts of which it is unknown whether the bank has sent them.
type Payouts struct {
	List    ListPayouts   `cmd:"" help:"Show the payouts whose outcome is unknown."`
	Resolve ResolvePayout `cmd:"" help:"Write down what the bank has told you about one."`
}

// ListPayouts shows them.
type ListPayouts struct{}

// ResolvePayout ends one.
type ResolvePayout struct {
	ID      string `arg:"" help:"As the list shows it: pyo_…"`
	Outcome string `arg:"" enum:"sent,failed" help:"sent, or failed: the bank has not sent it and never will. The money then returns to the merchant."`
}

// Run shows the payouts that wait for the bank's statement, or for a person.
func (ListPayouts) Run(ctx context.Context) error {
	db, err := connect(ctx, "payments")
	if err != nil {
		return err
	}
	defer db.Close(ctx) //nolint:errcheck // only read
	rows, err := db.Query(ctx, `
		SELECT id, merchant_id, amount_minor, currency, created_at,
		       EXISTS (SELECT FROM statement_lines WHERE subject = payouts.id AND source = 'bank')
		  FROM payouts
		 WHERE outcome = 'unknown'
		 ORDER BY id`)
	if err != nil {
		return err
	}
	type unknown struct {
		ID          uuid.UUID
		Merchant    string
		Minor       int64
		Currency    string
		Since       time.Time
		OnStatement bool
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[unknown])
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, p := range all {
		statement := "not on the statements so far"
		if p.OnStatement {
			statement = "on the bank's statement; the next reconciliation ends it"
		}
		fmt.Fprintf(table, "pyo_%s\t%s\t%d minor units of %s\tsince %s\t%s\n", p.ID, p.Merchant, p.Minor, p.Currency, p.Since.UTC().Format(time.RFC3339), statement)
	}
	fmt.Fprintf(table, "%d unknown\n", len(all))
	return table.Flush()
}

// Run tells payments, over its own API: it tells the ledger.
func (c ResolvePayout) Run(ctx context.Context) error {
	payments, err := Setting("PAYMENTS_URL")
	if err != nil {
		return err
	}
	key, err := Setting("SERVICE_KEY")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	status, answer, err := web.Call(ctx, http.DefaultClient, web.Request{
		Method: http.MethodPost, URL: payments + "/v1/payouts/" + c.ID + "/resolve", Bearer: key, In: map[string]string{"outcome": c.Outcome},
	})
	if err != nil {
		return fmt.Errorf("%w (whether it was done shows `payouts list`; doing it again does no harm)", err)
	}
	if status != http.StatusOK {
		var problem struct{ Detail string }
		if json.Unmarshal(answer, &problem) != nil || problem.Detail == "" {
			problem.Detail = string(answer)
		}
		return fmt.Errorf("%d: %s", status, problem.Detail)
	}
	fmt.Printf("%s: %s\n", c.ID, c.Outcome)
	return nil
}
