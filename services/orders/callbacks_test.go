package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/failwell/shared/platform/money"
)

// An endpoint may take no more than 20 kB, and would refuse a larger callback forever.
func TestNotify_OfTheLargestOrderIsBelow20KB(t *testing.T) {
	t.Parallel()
	now := time.Now()
	o := order{Status: "confirmed", FinishedAt: &now, CallbackURL: "https://shop.example/" + strings.Repeat("a", maxURL-21)}
	for range maxItems {
		price := money.Money{Minor: 1_000_000_000_000_000, Currency: "GBP"}
		o.Lines = append(o.Lines, priced{SKU: strings.Repeat("&", maxText), Quantity: maxQuantity, UnitPrice: price})
	}
	d, err := notify(t.Context(), o)
	if err != nil || len(d.Payload) > 20_000 {
		t.Errorf("%d bytes, %v", len(d.Payload), err)
	}
}

func TestAccept_RefusesACallbackThatWouldNotBeSent(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	for _, url := range []string{"http://shop.example/hooks", "https://shop.example:22/", "https://u:p@shop.example/", "https://" + strings.Repeat("a", maxURL)} {
		err := b.s.checkCallback(url)
		if err == nil || !strings.Contains(err.Error(), "callback_url") && !strings.Contains(err.Error(), "field") {
			t.Errorf("%.40s: %v", url, err)
		}
	}
	if r := b.place("key"); r.Code != http.StatusAccepted {
		t.Errorf("an https URL: %d %s", r.Code, r.Body)
	}
}
