package main

import (
	"math"
	"sync"

	"github.com/google/uuid"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/money"
)

// memory is what this process has read and written lately. It saves the round trip
// of reading it again, and nothing is decided by it alone:
//
//   - What is written on the strength of it is written on condition that it is
//     still so. If it is not, the whole transaction fails, and the database is asked.
//   - What would be refused, or dropped, is looked up first.
//
// So it may be wrong, in every replica in its own way, and it may forget anything at
// any time. docs/decisions/0012-remembered-but-not-believed.md.
type memory struct {
	mu     sync.Mutex
	prices map[shelfKey]money.Money
	orders map[uuid.UUID]inFlight
	keys   map[answeredKey]struct{}
}

type shelfKey struct{ merchant, sku string }

// inFlight is an order with the saga that leads it.
type inFlight struct {
	order order
	row   saga.Row
}

type answeredKey struct{ merchant, operation, key string }

// mostRemembered bounds each kind; one more, and it begins anew.
const mostRemembered = 10_000

func newMemory() *memory {
	return &memory{prices: map[shelfKey]money.Money{}, orders: map[uuid.UUID]inFlight{}, keys: map[answeredKey]struct{}{}}
}

// shelf returns the products of a basket, if all their prices are remembered.
// How many are left is not: the write will tell.
func (m *memory) shelf(merchant string, skus []string) (map[string]product, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	shelf := make(map[string]product, len(skus))
	for _, sku := range skus {
		price, ok := m.prices[shelfKey{merchant, sku}]
		if !ok {
			return nil, false
		}
		shelf[sku] = product{SKU: sku, Price: price, Available: math.MaxInt64}
	}
	return shelf, true
}

func (m *memory) rememberShelf(merchant string, shelf map[string]product) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.prices) > mostRemembered {
		clear(m.prices)
	}
	for sku, p := range shelf {
		m.prices[shelfKey{merchant, sku}] = p.Price
	}
}

func (m *memory) forgetShelf(merchant string, skus []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, sku := range skus {
		delete(m.prices, shelfKey{merchant, sku})
	}
}

// order returns an order that is on its way, and where its saga stood when this
// process last wrote it.
func (m *memory) order(id uuid.UUID) (order, saga.Row, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, ok := m.orders[id]
	return f.order, f.row, ok
}

func (m *memory) rememberOrder(o order, row saga.Row) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.orders) > mostRemembered {
		clear(m.orders)
	}
	if m.orders[o.ID].row.Version < row.Version { // an answer may be handled before accept gets here
		m.orders[o.ID] = inFlight{order: o, row: row}
	}
}

func (m *memory) forgetOrder(id uuid.UUID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.orders, id)
}

// answered tells whether this process has answered a request with this key: then
// it is cheaper to look for the answer than to try to write one.
func (m *memory) answered(r idempotency.Request) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.keys[answeredKey{r.Merchant, r.Operation, r.Key}]
	return ok
}

func (m *memory) rememberAnswered(r idempotency.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.keys) > mostRemembered {
		clear(m.keys)
	}
	m.keys[answeredKey{r.Merchant, r.Operation, r.Key}] = struct{}{}
}
