package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// What clients see of a merchant's money must be explainable as if one thing had
// happened after the other, at some moment between each question and its answer.
// The history of postings and reads that many clients make at once is recorded,
// and a checker looks for such an order.

const pending = "merchant_pending:mer_acme:GBP"

// question is a posting from pending to available (or back), or a read of both.
type question struct {
	read   bool
	amount int64 // above zero: to available
}

// seen is its answer: whether the posting was booked, or both balances.
type seen struct {
	booked             bool
	available, pending int64
}

type balances struct{ available, pending int64 }

// bookkeeping is the ledger as it should be: one thing after the other.
var bookkeeping = porcupine.Model{
	Init: func() any { return balances{available: 100} },
	Step: func(state, input, output any) (bool, any) {
		now, q, a := state.(balances), input.(question), output.(seen)
		if q.read {
			return a.available == now.available && a.pending == now.pending, now
		}
		next := balances{now.available + q.amount, now.pending - q.amount}
		if next.available < 0 {
			return !a.booked, now
		}
		return a.booked, next
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v → %+v", input, output) },
}

func TestEntry_PostingsAndReadsAreLinearizable(t *testing.T) {
	t.Parallel()
	l := newLedger(t)
	l.book(transfer("funding", cash, available, 100)).want(t, http.StatusCreated, "")
	l.book(transfer("opening", available, pending, 1)).want(t, http.StatusCreated, "")
	l.book(transfer("opening back", pending, available, 1)).want(t, http.StatusCreated, "")

	const clients, each = 8, 60
	var mu sync.Mutex
	var history []porcupine.Operation
	begun := time.Now()
	var work []func()
	for client := range clients {
		dice := rand.New(rand.NewPCG(1, uint64(client)))
		work = append(work, func() {
			for n := range each {
				q := question{read: dice.IntN(3) == 0, amount: dice.Int64N(80) - 45}
				if q.amount == 0 {
					q.amount = 1
				}
				call := time.Since(begun)
				a := l.ask(q, fmt.Sprintf("client %d, %d", client, n))
				mu.Lock()
				history = append(history, porcupine.Operation{
					ClientId: client, Input: q, Call: int64(call), Output: a, Return: int64(time.Since(begun)),
				})
				mu.Unlock()
			}
		})
	}
	atOnce(work...)
	refused := 0
	for _, op := range history {
		if !op.Input.(question).read && !op.Output.(seen).booked {
			refused++
		}
	}
	if result := porcupine.CheckOperationsTimeout(bookkeeping, history, time.Minute); result != porcupine.Ok {
		t.Errorf("%d operations of %d clients: %s", len(history), clients, result)
	}
	if refused == 0 {
		t.Error("no posting was refused, so the floor was not tested")
	}
	t.Logf("%d operations, %d postings refused", len(history), refused)
	l.booksBalance()
}

// ask puts a question to the service as it runs.
func (l *ledger) ask(q question, source string) seen {
	if !q.read {
		from, to, amount := pending, available, q.amount
		if amount < 0 {
			from, to, amount = available, pending, -amount
		}
		a := l.book(transfer(source, from, to, amount))
		if a.status != http.StatusCreated && a.status != http.StatusUnprocessableEntity {
			l.t.Errorf("%s: %d %s", source, a.status, a.body)
		}
		return seen{booked: a.status == http.StatusCreated}
	}
	var page struct{ Data []accountView }
	l.call(http.MethodGet, "/v1/accounts", acmeKey, nil).decode(l.t, &page)
	var s seen
	for _, account := range page.Data {
		switch account.ID {
		case available:
			s.available = account.Balance.Minor
		case pending:
			s.pending = account.Balance.Minor
		}
	}
	return s
}
