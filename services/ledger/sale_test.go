package main

import (
	"context"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"
	"pgregory.net/rapid"

	"example.com/failwell/shared/pattern/reliableretries"
)

const (
	post    = "ledger.post-sale"
	reverse = "ledger.reverse-sale"
)

// Whatever the order in which a sale and its reversal arrive, and how often, the
// merchant is owed nothing in the end.
func TestSale_AndItsReversalInAnyOrderLeaveNothingOnTheBooks(t *testing.T) {
	t.Parallel()
	for _, steps := range [][]string{
		{post, post, reverse, reverse}, {post, reverse, post, reverse}, {post, reverse, reverse, post},
		{reverse, post, post, reverse}, {reverse, post, reverse, post}, {reverse, reverse, post, post},
	} {
		t.Run(strings.ReplaceAll(strings.Join(steps, " "), "ledger.", ""), func(t *testing.T) {
			t.Parallel()
			l := newLedger(t)
			sale := order(12_50)
			var replies []string
			overtaken := false
			for _, kind := range steps {
				l.deliver(message(t, kind, sale)) // a new message each time, with the same meaning
				switch {
				case kind == reverse:
					overtaken = true
					replies = append(replies, "reverse-sale done")
				case overtaken:
					replies = append(replies, "post-sale refused reversed")
				default:
					replies = append(replies, "post-sale done")
				}
				l.booksBalance()
			}
			slices.Sort(replies)
			same(t, "replies", l.replies(sale.OrderID), replies)
			same(t, "balances", l.balances(), map[string]int64{})
			same(t, "state", l.sales(), map[string]string{sale.OrderID: reversed})
			entries := map[string]int64{"sale": 1, "sale-reversal": 1}
			if steps[0] == reverse {
				entries = map[string]int64{} // a tombstone only
			}
			same(t, "entries", l.kinds(sale.OrderID), entries)
		})
	}
}

func (l *ledger) sales() map[string]string {
	l.t.Helper()
	return read[string](l.t, l.db, `SELECT 'ord_' || order_id, state FROM sales`)
}

func TestSale_AndItsReversalAtOnceLeaveNothingOnTheBooks(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	const orders = 15
	for range orders {
		sale := order(99_99)
		var work []func()
		for _, kind := range []string{post, reverse, post, reverse} {
			m := message(t, kind, sale)
			work = append(work, func() {
				if err := l.receive(t.Context(), m); err != nil {
					t.Errorf("%s: %v", m.Type(), err)
				}
			})
		}
		atOnce(work...)

		same(t, "balances", l.balances(), map[string]int64{})
		same(t, "state", l.sales()[sale.OrderID], reversed)
		// Either both entries or none: the sale came first, or was refused.
		if kinds := l.kinds(sale.OrderID); kinds["sale"] != kinds["sale-reversal"] || count(kinds) > 2 {
			t.Errorf("entries of one order: %v", kinds)
		}
		if got := l.replies(sale.OrderID); len(got) != 4 || !slices.Equal(got[2:], []string{"reverse-sale done", "reverse-sale done"}) {
			t.Errorf("replies: %v", got)
		}
	}
	l.booksBalance()
}

func TestSale_DeliveredAgainMakesOneEntryAndOneReply(t *testing.T) {
	t.Parallel()
	for name, deliver := range map[string]func(*ledger, event.Event){
		"one after the other": func(l *ledger, e event.Event) { l.deliver(e, e, e) },
		"at once": func(l *ledger, e event.Event) {
			one := func() {
				if err := l.receive(l.t.Context(), e); err != nil {
					l.t.Error(err)
				}
			}
			atOnce(one, one, one, one, one, one, one, one)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t)
			sale := order(100_00)
			deliver(l, message(t, post, sale))
			same(t, "replies to the sale", l.replies(sale.OrderID), []string{"post-sale done"})
			same(t, "balances", l.balances(), map[string]int64{
				"card_receivable:GBP": -100_00, "merchant_pending:mer_acme:GBP": 97_50, "platform_fee:GBP": 2_50,
			})
			deliver(l, message(t, reverse, sale))
			same(t, "replies", l.replies(sale.OrderID), []string{"post-sale done", "reverse-sale done"})
			same(t, "entries", l.kinds(sale.OrderID), map[string]int64{"sale": 1, "sale-reversal": 1})
			same(t, "balances after the reversal", l.balances(), map[string]int64{})
			l.booksBalance()
		})
	}
}

// The fee may be changed between a sale and its reversal. What is taken back is
// what was booked.
func TestReverseSale_TakesBackWhatWasBookedWhenTheFeeHasChanged(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	sale := order(100_00)
	l.deliver(message(t, post, sale))
	l.cfg.FeeBasisPoints = 400
	l.deliver(message(t, reverse, sale))
	same(t, "balances", l.balances(), map[string]int64{})
	l.booksBalance()
}

func TestPostSale_OnAClosedAccountIsRefusedAndAReversalIsNot(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	before, after := order(10_00), order(20_00)
	l.deliver(message(t, post, before))
	if _, err := l.db.Exec(t.Context(), `UPDATE accounts SET closed = true WHERE id = 'merchant_pending:mer_acme:GBP'`); err != nil {
		t.Fatal(err)
	}
	l.deliver(message(t, post, after), message(t, reverse, before))
	same(t, "replies to the late sale", l.replies(after.OrderID), []string{"post-sale refused account_closed"})
	same(t, "replies to the earlier one", l.replies(before.OrderID), []string{"post-sale done", "reverse-sale done"})
	same(t, "balances", l.balances(), map[string]int64{})
}

// The account is closed between the sale's read and its write. The sale waits for the
// account's row and is refused once that is closed, with nothing on the books.
func TestPostSale_OnAnAccountThatIsClosedMeanwhileIsRefused(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	l.deliver(message(t, post, order(10_00)))
	closing, err := l.db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer closing.Rollback(context.WithoutCancel(t.Context())) //nolint:errcheck // committed below; here when the test has failed
	if _, err := closing.Exec(t.Context(), `UPDATE accounts SET closed = true WHERE id = $1`, pending); err != nil {
		t.Fatal(err)
	}
	late := order(20_00)
	m := message(t, post, late)
	handled := make(chan struct{})
	go func() {
		defer close(handled)
		for l.receive(t.Context(), m) != nil && t.Context().Err() == nil {
			continue // it does not wait for long: the message comes again
		}
	}()
	eventually(t, "the sale waits for the account", func() bool { return l.waiting() == 1 })
	if err := closing.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-handled
	same(t, "replies", l.replies(late.OrderID), []string{"post-sale refused account_closed"})
	same(t, "entries", l.kinds(late.OrderID), map[string]int64{})
	same(t, "balances", l.balances(), map[string]int64{
		"card_receivable:GBP": -10_00, pending: 9_75, "platform_fee:GBP": 25,
	})
}

// No retry makes these any better.
func TestReceive_ACommandThatMakesNoSenseIsAPermanentError(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	for name, spoil := range map[string]func(*command){
		"no order":         func(c *command) { c.OrderID = "ord_x" },
		"no payment":       func(c *command) { c.PaymentID = "" },
		"no merchant":      func(c *command) { c.MerchantID = "" },
		"nothing":          func(c *command) { c.Amount.Minor = 0 },
		"below zero":       func(c *command) { c.Amount.Minor = -1 },
		"unknown currency": func(c *command) { c.Amount.Currency = "XXX" },
	} {
		sale := order(1)
		spoil(&sale)
		err := l.receive(t.Context(), message(t, post, sale))
		if !reliableretries.IsPermanent(err) {
			t.Errorf("%s: %v, want a permanent error", name, err)
		}
	}
	same(t, "balances", l.balances(), map[string]int64{})
}

func TestSalePostings_AddUpExactlyForEveryAmount(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// All of int64, and often the small amounts where rounding shows.
		amount := rapid.OneOf(rapid.Int64Range(1, 1000), rapid.Int64Range(1, math.MaxInt64)).Draw(t, "amount")
		basisPoints := rapid.Int64Range(0, 9_999).Draw(t, "basis points")
		sale := order(amount)

		split := map[string]int64{}
		sum := new(big.Int)
		for _, p := range salePostings(sale, basisPoints) {
			if p.Amount == 0 {
				t.Errorf("a posting of nothing on %s", p.Account)
			}
			split[kindOf(p.Account)] += p.Amount
			sum.Add(sum, big.NewInt(p.Amount))
		}
		if sum.Sign() != 0 {
			t.Errorf("sums to %s: %v", sum, split)
		}
		// floor(amount × basis points / 10000), without a limit on the size.
		fee := new(big.Int).Mul(big.NewInt(amount), big.NewInt(basisPoints))
		fee.Div(fee, big.NewInt(10_000))
		if split["platform_fee"] != fee.Int64() || split["card_receivable"] != -amount || split["merchant_pending"] != amount-fee.Int64() {
			t.Errorf("%d at %d basis points: %v, want a fee of %s", amount, basisPoints, split, fee)
		}
	})
}

// The smallest fee and none: the database refuses a posting of nothing.
func TestPostSale_TooSmallForAFeeIsBooked(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	for _, amount := range []int64{1, 39, 40, 41} {
		l.deliver(message(t, post, order(amount)))
	}
	same(t, "balances", l.balances(), map[string]int64{
		"card_receivable:GBP": -121, "merchant_pending:mer_acme:GBP": 119, "platform_fee:GBP": 2,
	})
	l.booksBalance()
}
