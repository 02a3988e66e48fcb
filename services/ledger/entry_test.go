package main

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/postgres"
)

const (
	cash      = "cash:GBP"
	transit   = "payouts_in_transit:mer_acme:GBP"
	available = "merchant_available:mer_acme:GBP"
)

// transfer moves an amount from one account to another.
func transfer(source, from, to string, amount int64) newEntry {
	return newEntry{Kind: "test", Source: source, Reference: "pay_1", MerchantID: acme, Postings: []wirePosting{
		{Account: from, Amount: gbp(-amount)}, {Account: to, Amount: gbp(amount)},
	}}
}

func stored(n newEntry) entry { return n.entry() }

// book queues an entry with its accounts.
func (e *entry) book(b *pgx.Batch) {
	e.openAccounts(b)
	e.insert(b)
}

// The check in Go may be forgotten in the next caller of insert.
func TestEntry_UnbalancedIsRefusedByTheDatabase(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	for name, postings := range map[string][]posting{
		"too much":                     {{cash, -100}, {available, 101}},
		"one side only":                {{cash, 100}},
		"zero only across currencies":  {{cash, -100}, {"cash:EUR", 100}},
		"one of two currencies is off": {{cash, -1}, {available, 1}, {"cash:EUR", -5}, {"platform_fee:EUR", 4}},
	} {
		e := stored(newEntry{Kind: "test", Source: name, Reference: "pay_1", MerchantID: acme})
		e.Postings = postings
		if err := postgres.Write(t.Context(), l.db, e.book); !postgres.Violates(err, "postings_balance") {
			t.Errorf("%s: %v", name, err)
		}
		same(t, name+": entries", l.kinds(name), map[string]int64{})
	}
	same(t, "balances", l.balances(), map[string]int64{})
}

func TestEntry_CannotBeChangedOrDeleted(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	l.book(transfer("funding", cash, available, 100)).want(t, http.StatusCreated, "")
	for _, statement := range []string{
		`UPDATE entries SET reference = 'pay_2'`, `DELETE FROM entries`, `TRUNCATE entries CASCADE`,
		`UPDATE postings SET amount_minor = 2 * amount_minor`, `DELETE FROM postings`, `TRUNCATE postings`,
	} {
		_, err := l.db.Exec(t.Context(), statement)
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "23001" {
			t.Errorf("%s: %v", statement, err)
		}
	}
	same(t, "entries", l.kinds("funding"), map[string]int64{"test": 1})
	l.booksBalance()
}

func TestEntry_ConcurrentDebitsTakeExactlyTheBalance(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	l.book(transfer("funding", cash, available, 1050)).want(t, http.StatusCreated, "")
	var booked atomic.Int64
	var work []func()
	for n := range 20 {
		work = append(work, func() {
			a := l.book(transfer(fmt.Sprint("debit ", n), available, transit, 100))
			if a.status == http.StatusCreated {
				booked.Add(1)
				return
			}
			a.want(t, http.StatusUnprocessableEntity, "insufficient-balance")
		})
	}
	atOnce(work...)
	same(t, "debits that went through", booked.Load(), 10)
	same(t, "balances", l.balances(), map[string]int64{cash: -1050, available: 50, transit: 1000})
	l.booksBalance()
}

func TestEntry_PostedAgainReturnsTheStoredOne(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	funding := transfer("funding", cash, available, 100)
	first := l.book(funding)
	first.want(t, http.StatusCreated, "")
	again := l.book(funding)
	again.want(t, http.StatusOK, "")
	same(t, "the second answer", string(again.body), string(first.body))

	// A repeat moves nothing, so what is on the account now does not matter to it.
	everything := transfer("everything", available, transit, 100)
	l.book(everything).want(t, http.StatusCreated, "")
	l.book(everything).want(t, http.StatusOK, "")
	same(t, "balances", l.balances(), map[string]int64{cash: -100, transit: 100})
	l.booksBalance()
}

func TestEntry_PostedConcurrentlyIsBookedOnce(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	var created, repeated atomic.Int64
	one := func() {
		switch a := l.book(transfer("funding", cash, available, 100)); a.status {
		case http.StatusCreated:
			created.Add(1)
		case http.StatusOK:
			repeated.Add(1)
		default:
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	atOnce(one, one, one, one, one, one, one, one)
	same(t, "booked, repeated", []int64{created.Load(), repeated.Load()}, []int64{1, 7})
	same(t, "balances", l.balances(), map[string]int64{cash: -100, available: 100})
}

func TestEntry_OtherContentUnderAUsedSourceIsRefused(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	l.book(transfer("funding", cash, available, 100)).want(t, http.StatusCreated, "")
	for name, change := range map[string]func(*newEntry){
		"amount":    func(n *newEntry) { n.Postings = transfer("", cash, available, 101).Postings },
		"account":   func(n *newEntry) { n.Postings = transfer("", cash, transit, 100).Postings },
		"reference": func(n *newEntry) { n.Reference = "pay_2" },
		"merchant":  func(n *newEntry) { n.MerchantID = other },
	} {
		changed := transfer("funding", cash, available, 100)
		change(&changed)
		t.Log(name)
		l.book(changed).want(t, http.StatusUnprocessableEntity, "entry-differs")
	}
	// The source is one half of its name only.
	l.book(newEntry{Kind: "another", Source: "funding", Reference: "pay_1", MerchantID: acme, Postings: transfer("", cash, available, 7).Postings}).
		want(t, http.StatusCreated, "")
	same(t, "balances", l.balances(), map[string]int64{cash: -107, available: 107})
}

func TestEntry_InvalidIsRefusedBeforeTheDatabase(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	for name, postings := range map[string][]wirePosting{
		"invalid-field": {{cash, gbp(1)}},
		"invalid-field: an account of another currency": {{cash, gbp(-1)}, {"cash:EUR", gbp(1)}},
		"invalid-field: an unknown account":             {{cash, gbp(-1)}, {"pocket:GBP", gbp(1)}},
		"invalid-field: no merchant":                    {{cash, gbp(-1)}, {"merchant_available:GBP", gbp(1)}},
		"invalid-field: nothing":                        {{cash, gbp(0)}, {available, gbp(0)}},
		"invalid-field: beyond 64 bits":                 {{cash, gbp(math.MaxInt64)}, {available, gbp(math.MaxInt64)}, {transit, gbp(2)}},
		"unbalanced-entry":                              {{cash, gbp(-1)}, {available, gbp(2)}},
		"unbalanced-entry: across currencies":           {{cash, gbp(-1)}, {"cash:EUR", money.Money{Minor: 1, Currency: "EUR"}}},
	} {
		slug := name
		if i := slices.Index([]byte(name), ':'); i > 0 {
			slug = name[:i]
		}
		n := transfer(name, cash, available, 1)
		n.Postings = postings
		t.Log(name)
		l.book(n).want(t, http.StatusUnprocessableEntity, slug)
	}
	same(t, "balances", l.balances(), map[string]int64{})
}

func TestEntry_OnlyOurOwnServicesMayPost(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	for _, key := range []string{"", "wrong", acmeKey} {
		l.call(http.MethodPost, "/v1/entries", key, transfer("theft", cash, available, 100)).want(t, http.StatusUnauthorized, "unauthenticated")
	}
	same(t, "balances", l.balances(), map[string]int64{})
}

func TestLedger_MerchantSeesItsOwnBooksOnly(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	sale := order(100_00)
	l.deliver(message(t, post, sale))
	type list struct {
		Data []struct{ ID, Source string } `json:"data"`
	}
	for key, want := range map[string]list{
		acmeKey:  {Data: []struct{ ID, Source string }{{Source: sale.OrderID}}},
		otherKey: {Data: []struct{ ID, Source string }{}},
	} {
		var entries, accounts list
		l.call(http.MethodGet, "/v1/entries?reference="+sale.PaymentID, key, nil).decode(t, &entries)
		for i := range entries.Data {
			entries.Data[i].ID = ""
		}
		same(t, key+": entries", entries, want)
		l.call(http.MethodGet, "/v1/accounts", key, nil).decode(t, &accounts)
		same(t, key+": accounts", len(accounts.Data), len(want.Data))
	}
	pending := "/v1/accounts/merchant_pending:mer_acme:GBP"
	l.call(http.MethodGet, pending, acmeKey, nil).want(t, http.StatusOK, "")
	l.call(http.MethodGet, pending, otherKey, nil).want(t, http.StatusNotFound, "no-such-account")
	l.call(http.MethodGet, "/v1/accounts/platform_fee:GBP", acmeKey, nil).want(t, http.StatusNotFound, "no-such-account")
}
