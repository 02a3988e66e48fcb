// Package audit checks the invariants of the whole system, over the databases of
// the services and the records of the outside world. It believes the processor
// about charges, the bank about transfers and the merchant about callbacks, not us.
package audit

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"gocloud.dev/blob"
)

// graceOfTheLab is what Open sets: in the lab a document without a reference is
// swept when it is four seconds old, and the sweep comes every second.
const graceOfTheLab = 10 * time.Second

// Databases are the four databases, as a superuser or any role that may read and
// make temporary tables.
type Databases struct {
	Orders, Payments, Ledger, Sandbox *pgxpool.Pool

	// Receipts is where payments stores its documents; nil: not checked.
	Receipts *blob.Bucket

	// Grace is the age from which a document that no row refers to must have been
	// removed: the grace of payments, and time enough for its sweep. Open sets it
	// to what fits the lab's settings.
	Grace time.Duration
}

// Open opens the four databases, and the store of receipts unless its URL is
// empty. address gives the URL of each database by name.
func Open(ctx context.Context, address func(name string) string, receipts string) (*Databases, error) {
	d := &Databases{Grace: graceOfTheLab}
	if receipts != "" {
		var err error
		if d.Receipts, err = blob.OpenBucket(ctx, receipts); err != nil {
			return nil, fmt.Errorf("audit: receipts: %w", err)
		}
	}
	for name, pool := range map[string]**pgxpool.Pool{"orders": &d.Orders, "payments": &d.Payments, "ledger": &d.Ledger, "sandbox": &d.Sandbox} {
		at := address(name)
		if at == "" { // pgx would take it for the default server
			d.Close()
			return nil, fmt.Errorf("audit: database %s: its address is missing", name)
		}
		cfg, err := pgxpool.ParseConfig(at)
		var p *pgxpool.Pool
		if err == nil {
			// The services' statements may not take as long as an audit of a million
			// orders, nor need the memory for its joins.
			cfg.ConnConfig.RuntimeParams["statement_timeout"] = "0"
			cfg.ConnConfig.RuntimeParams["work_mem"] = "128MB"
			p, err = pgxpool.NewWithConfig(ctx, cfg)
		}
		if err != nil {
			d.Close()
			return nil, fmt.Errorf("audit: database %s: %w", name, err)
		}
		*pool = p
	}
	return d, nil
}

// Of is a database by its name.
func (d *Databases) Of(name string) *pgxpool.Pool {
	return map[string]*pgxpool.Pool{"orders": d.Orders, "payments": d.Payments, "ledger": d.Ledger, "sandbox": d.Sandbox}[name]
}

// Close closes them.
func (d *Databases) Close() {
	if d.Receipts != nil {
		_ = d.Receipts.Close() // only read
	}
	for _, p := range []*pgxpool.Pool{d.Orders, d.Payments, d.Ledger, d.Sandbox} {
		if p != nil {
			p.Close()
		}
	}
}

// Result is the verdict on one invariant.
type Result struct {
	ID         string
	Says       string
	Checked    int           // how many things were looked at
	Violations []string      // what is wrong, the first few
	More       int           // how many further violations there are
	NotChecked string        // what could not be looked at; without it the invariant is not proven
	Took       time.Duration // without the copying of what other databases say
}

// Held tells that nothing was found that violates the invariant. Nothing to look
// at is nothing proven, but no violation either.
func (r Result) Held() bool { return len(r.Violations) == 0 }

// Verdict is the result in a word or two.
func (r Result) Verdict() string {
	switch {
	case !r.Held():
		return "VIOLATED"
	case r.NotChecked != "":
		return "not checked"
	}
	return "held"
}

// auditor is one run of the audit.
type auditor struct {
	*Databases

	// beside is a connection to the orders, with what the others say beside them.
	beside *pgx.Conn
}

// invariants in the order of the table; each says first whose records it reads. Of
// payouts ledger-complete looks at the amounts only: whether their entries are there
// is payout-at-most-once's business, so that one mistake does not turn both red.
var invariants = []struct {
	id, says string
	check    func(*auditor, context.Context) (int, []string, error)
}{
	{"order-terminal", "orders: each confirmed or cancelled, and its saga says the same", (*auditor).orderTerminal},
	{"charged-once", "orders, processor: confirmed is captured once, of its amount; cancelled holds nothing", (*auditor).chargedOnce},
	{"stock-conserved", "orders: initial = available + sold; reserved only by pending orders, so not once quiet", (*auditor).stockConserved},
	{"books-balance", "ledger: entries sum to zero, balances to their postings", (*auditor).booksBalance},
	{"ledger-complete", "processor, orders, ledger: each sale, capture and refund booked once, as it was, and nothing else", (*auditor).ledgerComplete},
	{"refund-bounded", "processor, payments: never given back more than captured, and both know the same refunds", (*auditor).refundBounded},
	{"payout-at-most-once", "bank, payments, ledger: one transfer at most, and a payout is in both books or in neither", (*auditor).payoutAtMostOnce},
	{"nothing-in-doubt", "all: no message unsent; payments: nothing prepared, undecided, locked, held back or half-way", (*auditor).nothingInDoubt},
	{"no-dangling-reference", "orders, payments, store: each sale has its receipt, each reference its document, no old orphan", (*auditor).noDanglingReference},
	{"called-back", "orders, merchant: each end was heard as it was, signed, under one id", (*auditor).calledBack},
	{"same-answer", "orders, payments: each recorded answer leads to its own work", (*auditor).sameAnswer},
}

// Run checks every invariant. Run it once the system is quiet (WaitQuiet): while
// work is going on, some of them are rightly not true yet.
func Run(ctx context.Context, d *Databases) ([]Result, error) {
	beside, err := stage(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	defer beside.Close(ctx) //nolint:errcheck // its tables are temporary
	var results []Result
	for _, i := range invariants {
		begun := time.Now()
		checked, violations, err := i.check(&auditor{d, beside}, ctx)
		if err != nil {
			return nil, fmt.Errorf("audit: %s: %w", i.id, err)
		}
		r := Result{ID: i.id, Says: i.says, Checked: checked, Violations: violations, Took: time.Since(begun)}
		if i.id == "no-dangling-reference" && d.Receipts == nil {
			r.NotChecked = "the documents: where they are was not told"
		}
		const most = 10
		if len(violations) > most {
			r.Violations, r.More = violations[:most], len(violations)-most
		}
		results = append(results, r)
	}
	return results, nil
}

// Held tells whether all invariants hold.
func Held(results []Result) bool {
	return !slices.ContainsFunc(results, func(r Result) bool { return !r.Held() })
}

// Violated is the verdict as an error: an invariant does not hold.
type Violated struct{ Results []Result }

func (v *Violated) Error() string {
	var table strings.Builder
	Print(&table, v.Results)
	return "invariants are violated:\n" + table.String()
}

// Demand is Run where all that counts is that every invariant holds.
func Demand(ctx context.Context, d *Databases) error {
	results, err := Run(ctx, d)
	if err == nil && !Held(results) {
		err = &Violated{results}
	}
	return err
}

// Print shows the verdict as a table, with the offending ids under their line.
func Print(w io.Writer, results []Result) {
	const line = "%-22s %9v %7v  %-11s %s\n"
	fmt.Fprintf(w, line, "invariant", "checked", "took", "verdict", "")
	for _, r := range results {
		fmt.Fprintf(w, line, r.ID, r.Checked, fmt.Sprintf("%.2fs", r.Took.Seconds()), r.Verdict(), r.Says)
		if r.NotChecked != "" {
			fmt.Fprintf(w, line, "", "", "", "! not", r.NotChecked)
		}
		for _, v := range r.Violations {
			fmt.Fprintf(w, line, "", "", "", "!", v)
		}
		if r.More > 0 {
			fmt.Fprintf(w, line, "", "", "", "!", fmt.Sprintf("and %d more", r.More))
		}
	}
}
