package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/uuid"

	"example.com/failwell/scripts/shop"
)

// screen prints the tour. Colours only for a person at a terminal.
type screen struct {
	w          io.Writer
	bold, grey string
	plain      string
	acts       *int
}

func newScreen(f *os.File) screen {
	s := screen{w: f, acts: new(int)}
	if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" {
		s.bold, s.grey, s.plain = "\033[1m", "\033[90m", "\033[0m"
	}
	return s
}

func (s screen) say(text string) { fmt.Fprintf(s.w, "\n%s%s%s\n", s.bold, text, s.plain) }

func (s screen) act(title, what string) {
	*s.acts++
	fmt.Fprintf(s.w, "\n%s%d. %s%s\n   %s%s%s\n", s.bold, *s.acts, title, s.plain, s.grey, what, s.plain)
}

func (s screen) event(who, what string) {
	fmt.Fprintf(s.w, "   %s%s%s  %-10s %s\n", s.grey, time.Now().Format("15:04:05.000"), s.plain, who, what)
}

// indented puts what others print under the tour's own lines.
type indented struct{ w io.Writer }

func (i indented) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		if _, err := fmt.Fprintf(i.w, "   %s", line); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// follow places an order and shows what happens to it, one line an event.
func (t *tour) follow(ctx context.Context, card string) (shop.Order, error) {
	token, err := t.shop.Token(ctx, card)
	if err != nil {
		return shop.Order{}, err
	}
	body := t.shop.Basket(token, shop.Item{SKU: "mug", Quantity: 2}, shop.Item{SKU: "shirt", Quantity: 1})
	answer, _, err := t.shop.Insist(ctx, "demo-"+uuid.NewString(), body, nil)
	if err != nil {
		return shop.Order{}, err
	}
	var o shop.Order
	if err := json.Unmarshal(answer.Body, &o); err != nil || o.ID == "" {
		return o, fmt.Errorf("the order was not accepted: status %d, %s", answer.Status, answer.Body)
	}
	t.out.event("client", fmt.Sprintf("POST /v1/orders with card …%s: %d, %s", card[12:], answer.Status, o.ID))
	return t.finish(ctx, o)
}

// finish shows each step of an order's saga until its end.
func (t *tour) finish(ctx context.Context, o shop.Order) (shop.Order, error) {
	last := ""
	for {
		var phase, step string
		err := t.truth.Orders.QueryRow(ctx, `
			SELECT phase, step
			  FROM sagas
			 WHERE 'ord_' || id = $1`, o.ID).Scan(&phase, &step)
		if err != nil {
			return o, err
		}
		if now := phase + step; now != last && step != "" {
			t.out.event("saga", fmt.Sprintf("%-12s command: %s", phase, step))
			last = now
		}
		if phase == "completed" || phase == "compensated" {
			break
		}
		if err := pause(ctx); err != nil {
			return o, err
		}
	}
	o, err := t.shop.Finished(ctx, o.ID)
	if err == nil {
		t.out.event("order", o.Status+map[bool]string{true: "", false: ": " + o.Reason}[o.Reason == ""])
	}
	return o, err
}

// pause is the time between two looks.
func pause(ctx context.Context) error {
	select {
	case <-time.After(2 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
