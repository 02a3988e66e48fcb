package main

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/fault"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
	"example.com/failwell/shared/platform/web"
)

// posting moves an amount on one account: above zero a credit, below a debit.
type posting struct {
	Account string
	Amount  int64
}

// entry is a journal entry: postings that sum to zero in each currency.
type entry struct {
	ID         uuid.UUID
	Kind       string
	Source     string // what caused it; with the kind it is unique
	Reference  string
	MerchantID string
	Postings   []posting
	CreatedAt  time.Time
}

// insert queues an entry and, last, the new balances: those of merchants before those of
// the platform. Every sale moves the platform's few accounts, and a transaction that waits
// for a merchant's must not hold one of them meanwhile. And always in the same order: two
// that lock the same two accounts the other way round would wait for each other.
func (e *entry) insert(b *pgx.Batch) {
	var accounts []string
	var amounts []int64
	moves := map[string]int64{}
	for _, p := range e.Postings {
		accounts, amounts = append(accounts, p.Account), append(amounts, p.Amount)
		moves[p.Account] += p.Amount
	}
	b.Queue(`
		INSERT INTO entries (id, kind, source, reference, merchant_id)
		VALUES ($1, $2, $3, $4, $5)
		RETURNING created_at`,
		e.ID, e.Kind, e.Source, e.Reference, e.MerchantID,
	).QueryRow(func(row pgx.Row) error { return row.Scan(&e.CreatedAt) })
	b.Queue(`
		INSERT INTO postings (entry_id, line_no, account_id, amount_minor)
		SELECT $1, line_no, account_id, amount_minor
		  FROM unnest($2::text[], $3::bigint[]) WITH ORDINALITY AS p (account_id, amount_minor, line_no)`,
		e.ID, accounts, amounts)
	inOrder := slices.Sorted(maps.Keys(moves))
	slices.SortStableFunc(inOrder, func(a, b string) int { return cmp.Compare(merchantOf(b), merchantOf(a)) }) // the platform's have none
	for _, account := range inOrder {
		b.Queue(`
			UPDATE accounts
			   SET balance_minor = balance_minor + $2
			 WHERE id = $1`,
			account, moves[account])
	}
}

// openAccounts queues the accounts of an entry that are not there yet. The id says what an
// account is. In order, because a new row is locked as well. And only what is not there:
// ON CONFLICT alone would wait for a transaction that moves the balance of an account that
// exists.
func (e *entry) openAccounts(b *pgx.Batch) {
	var accounts []string
	for _, p := range e.Postings {
		accounts = append(accounts, p.Account)
	}
	b.Queue(`
		INSERT INTO accounts (id, kind, merchant_id, currency)
		SELECT id, split_part(id, ':', 1),
		       CASE WHEN id LIKE '%:%:%' THEN split_part(id, ':', 2) ELSE '' END,
		       split_part(id, ':', -1)
		  FROM unnest($1::text[]) AS new (id)
		 WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.id = new.id)
		 ORDER BY id
		    ON CONFLICT (id) DO NOTHING`,
		accounts)
}

// bookWith books e by write, which is to queue what it is given. An account is opened by
// its first posting. That is rare, so it is done when the foreign key says that one is
// missing, and not looked for each time.
func (e *entry) bookWith(write func(book func(b *pgx.Batch)) error) error {
	err := write(e.insert)
	if !postgres.Violates(err, "postings_account_id_fkey") {
		return err
	}
	return write(func(b *pgx.Batch) {
		e.openAccounts(b)
		e.insert(b)
	})
}

// newEntry is the body of POST /v1/entries.
type newEntry struct {
	Kind       string        `json:"kind"`
	Source     string        `json:"source"`
	Reference  string        `json:"reference"`
	MerchantID string        `json:"merchant_id"`
	Postings   []wirePosting `json:"postings"`
}

// wirePosting is a posting as JSON, in and out.
type wirePosting struct {
	Account string      `json:"account"`
	Amount  money.Money `json:"amount"`
}

const (
	maxPostings = 20
	maxText     = 255

	// maxMinor bounds every amount. The sum of the twenty postings of an entry still fits
	// 64 bits; an overflow would be a wrong balance, not an error.
	maxMinor = 1_000_000_000_000_000
)

// Validate checks the form and the sum. The database checks the sum again.
func (n newEntry) Validate() error {
	for field, value := range map[string]string{"kind": n.Kind, "source": n.Source, "reference": n.Reference} {
		if value == "" || len(value) > maxText || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' }) {
			return web.Invalid(field, "Required: 1 to 255 bytes without control characters.")
		}
	}
	if strings.ContainsFunc(n.MerchantID, func(r rune) bool { return r < ' ' }) || len(n.MerchantID) > maxText {
		return web.Invalid("merchant_id", "At most 255 bytes without control characters.")
	}
	if len(n.Postings) < 2 || len(n.Postings) > maxPostings {
		return web.Invalid("postings", fmt.Sprintf("An entry has 2 to %d postings.", maxPostings))
	}
	sums := map[string]int64{}
	for i, p := range n.Postings {
		field := fmt.Sprintf("postings[%d]", i)
		if err := p.Amount.Validate(); err != nil {
			return web.Invalid(field+".amount.currency", err.Error())
		}
		if p.Amount.Minor == 0 || p.Amount.Minor > maxMinor || p.Amount.Minor < -maxMinor {
			return web.Invalid(field+".amount.minor", fmt.Sprintf("Must not be zero, nor beyond %d either way.", maxMinor))
		}
		if !knownAccount(p.Account, p.Amount.Currency) {
			return web.Invalid(field+".account", "There is no such account in this currency.")
		}
		sums[p.Amount.Currency] += p.Amount.Minor
	}
	for currency, sum := range sums {
		if sum != 0 {
			return web.NewProblem(http.StatusUnprocessableEntity, "unbalanced-entry", "The entry does not balance",
				fmt.Sprintf("The postings in %s sum to %s instead of zero.", currency, money.Money{Minor: sum, Currency: currency})).WithField("postings")
		}
	}
	return nil
}

// postEntry books an entry for another service: POST /v1/entries. Source and
// kind identify it, so it needs no key beside them: the same entry again is
// answered with the stored one, another one under the same source is refused.
//
// Pattern: change-record
func (s *service) postEntry(c echo.Context) error {
	ctx := c.Request().Context()
	in, err := web.Bind[newEntry](c)
	if err != nil {
		return err
	}
	e := in.entry()
	err = e.bookWith(func(book func(b *pgx.Batch)) error { return s.writer.Write(ctx, book) })
	switch {
	case postgres.Violates(err, "entries_once"):
		return s.bookedBefore(c, e)
	case postgres.Violates(err, "accounts_floor"), postgres.Violates(err, "accounts_bounded"):
		return insufficientBalance()
	case err != nil:
		return err
	}
	if err := fault.Point(ctx, fault.LedgerEntryAfterCommit); err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, e.view())
}

// bookedBefore answers with the entry that has this source, if it is the same.
func (s *service) bookedBefore(c echo.Context, e entry) error {
	stored, err := s.findEntries(c, `e.source = $1 AND e.kind = $2`, e.Source, e.Kind)
	if err != nil {
		return err
	}
	if len(stored) != 1 {
		return errors.New("an entry that was there a moment ago is not there")
	}
	if !stored[0].same(e) {
		return web.NewProblem(http.StatusUnprocessableEntity, "entry-differs", "Another entry has this source",
			"An entry of this kind and source exists, with other postings.").WithField("source")
	}
	return c.JSON(http.StatusOK, stored[0].view())
}

func (n newEntry) entry() entry {
	e := entry{ID: uuid.Must(uuid.NewV7()), Kind: n.Kind, Source: n.Source, Reference: n.Reference, MerchantID: n.MerchantID}
	for _, p := range n.Postings {
		e.Postings = append(e.Postings, posting{Account: p.Account, Amount: p.Amount.Minor})
	}
	return e
}

func (e entry) same(other entry) bool {
	return e.Reference == other.Reference && e.MerchantID == other.MerchantID && slices.Equal(e.Postings, other.Postings)
}

type entryView struct {
	ID        string        `json:"id"`
	Kind      string        `json:"kind"`
	Source    string        `json:"source"`
	Reference string        `json:"reference"`
	Postings  []wirePosting `json:"postings"`
	CreatedAt time.Time     `json:"created_at"`
}

func (e entry) view() entryView {
	postings := make([]wirePosting, len(e.Postings))
	for i, p := range e.Postings {
		postings[i] = wirePosting{Account: p.Account, Amount: money.Money{Minor: p.Amount, Currency: currencyOf(p.Account)}}
	}
	return entryView{ID: "ent_" + e.ID.String(), Kind: e.Kind, Source: e.Source, Reference: e.Reference,
		Postings: postings, CreatedAt: e.CreatedAt.UTC()}
}

// listEntries shows the entries that speak of an order or a payment of this
// merchant: GET /v1/entries?reference=.
func (s *service) listEntries(c echo.Context) error {
	reference := c.QueryParam("reference")
	if reference == "" {
		return web.Invalid("reference", "Required: an order or payment id.")
	}
	found, err := s.findEntries(c, `(e.source = $1 OR e.reference = $1) AND e.merchant_id = $2`, reference, web.MerchantID(c))
	if err != nil {
		return err
	}
	views := make([]entryView, len(found))
	for i, e := range found {
		views[i] = e.view()
	}
	return c.JSON(http.StatusOK, map[string]any{"data": views})
}

func (s *service) findEntries(c echo.Context, where string, args ...any) ([]entry, error) {
	rows, _ := s.db.Query(c.Request().Context(), `
		SELECT e.id, e.kind, e.source, e.reference, e.merchant_id, e.created_at,
		       array_agg(p.account_id ORDER BY p.line_no),
		       array_agg(p.amount_minor ORDER BY p.line_no)
		  FROM entries e
		  JOIN postings p ON p.entry_id = e.id
		 WHERE `+where+`
		 GROUP BY e.id
		 ORDER BY e.id`,
		args...)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (entry, error) {
		var e entry
		var accounts []string
		var amounts []int64
		err := row.Scan(&e.ID, &e.Kind, &e.Source, &e.Reference, &e.MerchantID, &e.CreatedAt, &accounts, &amounts)
		for i := range accounts {
			e.Postings = append(e.Postings, posting{Account: accounts[i], Amount: amounts[i]})
		}
		return e, err
	})
}
