package main

import (
	"crypto/sha256"
	"math"
	"strings"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/saga"
	"example.com/failwell/shared/platform/money"
	"example.com/failwell/shared/platform/web"
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
	prices *lru.Cache[shelfKey, money.Money]
	orders *lru.Cache[uuid.UUID, inFlight]
	keys   *lru.Cache[sentKey, answered]
}

type shelfKey struct{ merchant, sku string }

// inFlight is an order with the saga that leads it.
type inFlight struct {
	order order
	row   saga.Row
}

// sentKey is an idempotency key as it was sent, quoted or not.
type sentKey struct{ merchant, header string }

// answered is a request that was answered, and the hash of its bytes.
type answered struct {
	request idempotency.Request
	bytes   [sha256.Size]byte
}

// mostRemembered bounds each kind; what was not used for longest is forgotten. It is ten
// seconds of what one machine completes: more would be looked at by the garbage
// collector far more often than by anybody else.
const mostRemembered = 4_000

func newMemory() *memory {
	return &memory{prices: remember[shelfKey, money.Money](), orders: remember[uuid.UUID, inFlight](), keys: remember[sentKey, answered]()}
}

func remember[K comparable, V any]() *lru.Cache[K, V] {
	cache, _ := lru.New[K, V](mostRemembered) // fails only for a size below one
	return cache
}

// shelf returns the products of a basket, if all their prices are remembered.
// How many are left is not: the write will tell.
func (m *memory) shelf(merchant string, skus []string) (map[string]product, bool) {
	shelf := make(map[string]product, len(skus))
	for _, sku := range skus {
		price, ok := m.prices.Get(shelfKey{merchant, sku})
		if !ok {
			return nil, false
		}
		shelf[sku] = product{SKU: sku, Price: price, Available: math.MaxInt64}
	}
	return shelf, true
}

func (m *memory) rememberShelf(merchant string, shelf map[string]product) {
	for sku, p := range shelf {
		m.prices.Add(shelfKey{merchant, sku}, p.Price)
	}
}

func (m *memory) forgetShelf(merchant string, skus []string) {
	for _, sku := range skus {
		m.prices.Remove(shelfKey{merchant, sku})
	}
}

// order returns an order that is on its way, and where its saga stood when this
// process last wrote it.
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

// sent is what a client has sent with a key: the key as it stands in the header, and
// the hash of the body.
func sent(c echo.Context, body []byte) (sentKey, [sha256.Size]byte) {
	return sentKey{web.MerchantID(c), strings.Join(c.Request().Header.Values(idempotency.HeaderKey), "\n")}, sha256.Sum256(body)
}

// again returns the request that this process has answered under this key. same tells
// that it was the very same bytes. Either way there is an answer, and it is cheaper to look
// for it than to try to write one.
func (m *memory) again(key sentKey, bytes [sha256.Size]byte) (request idempotency.Request, same, known bool) {
	a, known := m.keys.Get(key)
	return a.request, known && a.bytes == bytes, known
}

func (m *memory) rememberAnswered(key sentKey, bytes [sha256.Size]byte, r idempotency.Request) {
	m.keys.Add(key, answered{request: r, bytes: bytes})
}
