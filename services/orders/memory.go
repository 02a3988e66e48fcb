package main

import (
	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"example.com/failwell/shared/pattern/saga"
)

// memory is what this process has written lately of orders that are on their way.
type memory struct {
	orders *lru.Cache[uuid.UUID, inFlight]
}

type inFlight struct {
	order order
	row   saga.Row
}

const mostRemembered = 4_000

func newMemory() *memory {
	orders, _ := lru.New[uuid.UUID, inFlight](mostRemembered) // fails only for a size below one
	return &memory{orders: orders}
}

func (m *memory) order(id uuid.UUID) (order, saga.Row, bool) {
	f, ok := m.orders.Get(id)
	return f.order, f.row, ok
}

func (m *memory) rememberOrder(o order, row saga.Row) {
	if known, ok := m.orders.Peek(o.ID); ok && known.row.Version >= row.Version {
		return // an answer was handled before accept got here
	}
	m.orders.Add(o.ID, inFlight{order: o, row: row})
}

func (m *memory) forgetOrder(id uuid.UUID) { m.orders.Remove(id) }
