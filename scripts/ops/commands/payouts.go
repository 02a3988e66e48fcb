package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"text/tabwriter"
	"time"

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

// UnknownPayout is one of which it is unknown whether the bank has sent it.
type UnknownPayout struct {
	ID          string    `json:"id"`
	Merchant    string    `json:"merchant"`
	Minor       int64     `json:"minor"`
	Currency    string    `json:"currency"`
	Since       time.Time `json:"since"`
	OnStatement bool      `json:"on_statement"`
}

// UnknownPayouts wait for the bank's statement, or for a person.
func (a Addresses) UnknownPayouts(ctx context.Context) ([]UnknownPayout, error) {
	return read[UnknownPayout](ctx, a, "payments", `
		SELECT 'pyo_' || id, merchant_id, amount_minor, currency, created_at,
		       EXISTS (SELECT FROM statement_lines WHERE subject = payouts.id AND source = 'bank')
		  FROM payouts
		 WHERE outcome = 'unknown'
		 ORDER BY id`)
}

// Run shows them.
func (ListPayouts) Run(ctx context.Context) error {
	all, err := here.UnknownPayouts(ctx)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, p := range all {
		statement := "not on the statements so far"
		if p.OnStatement {
			statement = "on the bank's statement; the next reconciliation ends it"
		}
		fmt.Fprintf(table, "%s\t%s\t%d minor units of %s\tsince %s\t%s\n", p.ID, p.Merchant, p.Minor, p.Currency, p.Since.UTC().Format(time.RFC3339), statement)
	}
	fmt.Fprintf(table, "%d unknown\n", len(all))
	return table.Flush()
}

// Run writes it down.
func (c ResolvePayout) Run(ctx context.Context) error {
	if err := here.ResolvePayout(ctx, c.ID, c.Outcome); err != nil {
		return err
	}
	fmt.Printf("%s: %s\n", c.ID, c.Outcome)
	return nil
}

// ResolvePayout tells payments, over its own API: it tells the ledger.
func (a Addresses) ResolvePayout(ctx context.Context, id, outcome string) error {
	err := a.platform(ctx, http.MethodPost, "/v1/payouts/"+id+"/resolve", map[string]string{"outcome": outcome}, nil)
	if err != nil {
		return fmt.Errorf("%w (whether it was done shows `payouts list`; doing it again does no harm)", err)
	}
	return nil
}

// platform calls payments with the service key.
func (a Addresses) platform(ctx context.Context, method, path string, in, out any) error {
	payments, err := a("PAYMENTS_URL")
	if err != nil {
		return err
	}
	key, err := a("SERVICE_KEY")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	status, answer, err := web.Call(ctx, http.DefaultClient, web.Request{Method: method, URL: payments + path, Bearer: key, In: in, Out: out})
	if err == nil && status >= http.StatusMultipleChoices {
		var problem struct{ Detail string }
		if json.Unmarshal(answer, &problem) != nil || problem.Detail == "" {
			problem.Detail = string(answer)
		}
		err = fmt.Errorf("%d: %s", status, problem.Detail)
	}
	return err
}
