package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"example.com/failwell/scripts/shop"
	"example.com/failwell/shared/platform/wait"
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
	o, err := t.Shop.Checkout(ctx, card, shop.Item{SKU: "mug", Quantity: 2}, shop.Item{SKU: "shirt", Quantity: 1})
	if err != nil {
		return o, err
	}
	t.out.event("client", fmt.Sprintf("POST /v1/orders with card …%s: 202, %s", card[12:], o.ID))
	return t.finish(ctx, o)
}

// finish shows each step of an order's saga until its end.
func (t *tour) finish(ctx context.Context, o shop.Order) (shop.Order, error) {
	last := ""
	for {
		var phase, step string
		err := t.Truth.Orders.QueryRow(ctx, `
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
		if !wait.For(ctx, look) {
			return o, ctx.Err()
		}
	}
	o, err := t.Shop.Finished(ctx, o.ID)
	if err == nil {
		t.out.event("order", o.Status+map[bool]string{true: "", false: ": " + o.Reason}[o.Reason == ""])
	}
	return o, err
}

// look is the time between two looks.
const look = 2 * time.Millisecond
