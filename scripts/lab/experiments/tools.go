package experiments

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/shared/platform/wait"
)

// What experiments need of the world. Each of these panics with broken when the
// machinery fails, so that a story is not interrupted by its stage hands.

// misbehave sets the rules of the outside world: [{"contract":…,"fault":…,"times":…}].
func (w *World) misbehave(ctx context.Context, rules string) {
	must(w.Shop.Misbehave(ctx, `{"rules":`+rules+`}`))
}

// asked is how many calls the first rule has met.
func (w *World) asked(ctx context.Context) int {
	var list struct{ Rules []struct{ Struck int } }
	must(json.Unmarshal(got(w.Shop.Get(ctx, w.Shop.Sandbox+"/faults")).Body, &list))
	if len(list.Rules) == 0 {
		panic(broken{errors.New("no server counts the calls")})
	}
	return list.Rules[0].Struck
}

// crashAt arms a SIGKILL at a fault point of a service, and returns a function that waits
// until the service has died there and been started again.
func (w *World) crashAt(ctx context.Context, service, point string) (died func()) {
	dead := got(w.CrashAt(ctx, service, point))
	return func() { must(dead(ctx)) }
}

// await polls until holds, or fails with what it was waiting for.
func await(ctx context.Context, what string, holds func() bool) {
	must(wait.Until(ctx, 10*time.Millisecond, what, func() (bool, error) { return holds(), nil }))
}

// together runs n at once and waits for all. What breaks in one breaks the story.
func together(n int, do func(i int)) {
	var all sync.WaitGroup
	broke := make(chan any, n)
	for i := range n {
		all.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					broke <- p
				}
			}()
			do(i)
		})
	}
	all.Wait()
	select {
	case p := <-broke:
		panic(p)
	default:
	}
}

// within waits until holds, but no longer than most: what is taken away never comes.
func (w *World) within(ctx context.Context, most time.Duration, holds func() bool) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for !holds() && wait.For(ctx, 20*time.Millisecond) {
	}
}

// armed tells whether a service has a fault point that is still to be reached.
func (w *World) armed(ctx context.Context, service string) bool {
	return bytes.Contains(got(w.Shop.Get(ctx, w.System.URL[service]+"/lab/faults")).Body, []byte(`"armed"`))
}

// orderIn is the order that an answer shows.
func orderIn(a shop.Answer) (o shop.Order) {
	_ = json.Unmarshal(a.Body, &o) // a refusal shows none
	return o
}

// newestOrder is the order that was written last.
func (w *World) newestOrder(ctx context.Context) (id string) {
	must(w.Truth.Orders.QueryRow(ctx, `SELECT 'ord_' || id FROM orders ORDER BY id DESC LIMIT 1`).Scan(&id))
	return id
}

// token is a fresh card token.
func (w *World) token(ctx context.Context, card string) string { return got(w.Shop.Token(ctx, card)) }

// order places an order, insisting until there is an answer, and waits for its end.
func (w *World) order(ctx context.Context, card string, items ...shop.Item) shop.Order {
	return got(w.Shop.Buy(ctx, card, items...))
}

// charges is how many charges the processor has for a reference.
func (w *World) charges(ctx context.Context, reference string) int {
	return w.truth(ctx, "sandbox", `SELECT count(*) FROM processor_charges WHERE reference = $1`, reference)
}

// truth reads one number from a database of the system, or of the outside world.
func (w *World) truth(ctx context.Context, database, sql string, args ...any) int {
	var n int
	must(w.Truth.Of(database).QueryRow(ctx, sql, args...).Scan(&n))
	return n
}

// name is a name that no run before has used.
func (w *World) name(prefix string) string {
	return fmt.Sprintf("%s-%d-%s", prefix, w.Number, uuid.NewString()[:8])
}
