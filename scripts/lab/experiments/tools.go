package experiments

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/scripts/stack"
)

// What experiments need of the world. Each of these panics with broken when the
// machinery fails, so that a story is not interrupted by its stage hands.

// misbehave sets the rules of the outside world: [{"contract":…,"fault":…,"times":…}].
func (w *World) misbehave(ctx context.Context, rules string) {
	must(w.Shop.Misbehave(ctx, `{"rules":`+rules+`}`))
}

// behave takes all faults back: those of the outside world, and the armed points.
func (w *World) behave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, service := range stack.Services {
		for {
			_, err := w.call(ctx, http.MethodDelete, w.System.URL[service]+"/lab/faults", nil, nil, nil)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return err
			}
			time.Sleep(50 * time.Millisecond) // it is just being started again
		}
	}
	return w.Shop.Misbehave(ctx, `{"rules":[]}`)
}

// asked is how many calls the first rule has met.
func (w *World) asked(ctx context.Context) int {
	var list struct{ Rules []struct{ Struck int } }
	_, err := w.call(ctx, http.MethodGet, w.System.URL[stack.Sandbox]+"/faults", nil, nil, &list)
	must(err)
	if len(list.Rules) == 0 {
		panic(broken{errors.New("no server counts the calls")})
	}
	return list.Rules[0].Struck
}

// crashAt arms a SIGKILL at a fault point of a service, and returns a function that waits
// until the service has died there and been started again.
func (w *World) crashAt(ctx context.Context, service, point string) (died func()) {
	before, _ := w.System.Starts(service)
	must(w.Shop.Arm(ctx, w.System.URL[service], point, "crash", 1))
	return func() {
		await(ctx, "the death of "+service+" at "+point, func() bool { now, _ := w.System.Starts(service); return now > before })
		await(ctx, service+" to be ready", func() bool { return w.ready(ctx, service) })
	}
}

func (w *World) ready(ctx context.Context, service string) bool {
	a, err := w.Shop.Get(ctx, w.System.URL[service]+"/readyz")
	return err == nil && a.Status == http.StatusOK
}

// await polls until holds, or fails with what it was waiting for.
func await(ctx context.Context, what string, holds func() bool) {
	for !holds() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			panic(broken{fmt.Errorf("time-out while waiting for %s: %w", what, ctx.Err())})
		}
	}
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
	for end := time.Now().Add(most); !holds() && time.Now().Before(end) && ctx.Err() == nil; {
		time.Sleep(20 * time.Millisecond)
	}
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

// call makes an HTTP call with JSON both ways. Empty headers are left out.
func (w *World) call(ctx context.Context, method, url string, headers map[string]string, in, out any) (status int, err error) {
	var body io.Reader
	if in != nil {
		body = bytes.NewReader(got(json.Marshal(in)))
	}
	request := got(http.NewRequestWithContext(ctx, method, url, body))
	for name, value := range headers {
		if value != "" {
			request.Header.Set(name, value)
		}
	}
	if in != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	// A connection of its own for each call: an idle one that was closed would be
	// retried by the transport, and the call would not be one call.
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	if w.Hear != nil {
		client.Transport = w.Hear(client.Transport)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close() //nolint:errcheck // nothing was written to it
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if out != nil && len(answer) > 0 {
		_ = json.Unmarshal(answer, out) // a refusal has another shape
	}
	return response.StatusCode, nil
}

// charges is how many charges the processor has for a reference.
func (w *World) charges(ctx context.Context, reference string) int {
	return w.truth(ctx, "sandbox", `SELECT count(*) FROM processor_charges WHERE reference = $1`, reference)
}

// truth reads one number from a database of the system, or of the outside world.
func (w *World) truth(ctx context.Context, database, sql string, args ...any) int {
	db := w.Truth.Sandbox
	switch database {
	case stack.Orders:
		db = w.Truth.Orders
	case stack.Payments:
		db = w.Truth.Payments
	case stack.Ledger:
		db = w.Truth.Ledger
	}
	var n int
	must(db.QueryRow(ctx, sql, args...).Scan(&n))
	return n
}

// name is a name that no run before has used.
func (w *World) name(prefix string) string {
	return fmt.Sprintf("%s-%d-%s", prefix, w.Number, uuid.NewString()[:8])
}
