package money_test

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"example.com/failwell/shared/platform/money"
)

func TestString_UsesTheExponentOfTheCurrency(t *testing.T) {
	t.Parallel()
	for want, m := range map[string]money.Money{
		"12.50 GBP":                 {Minor: 1250, Currency: "GBP"},
		"0.05 GBP":                  {Minor: 5, Currency: "GBP"},
		"-0.05 GBP":                 {Minor: -5, Currency: "GBP"},
		"1800 JPY":                  {Minor: 1800, Currency: "JPY"},
		"1.234 KWD":                 {Minor: 1234, Currency: "KWD"},
		"-92233720368547758.08 GBP": {Minor: math.MinInt64, Currency: "GBP"},
	} {
		if got := m.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestMoney_OverflowIsAnError(t *testing.T) {
	t.Parallel()
	most := money.Money{Minor: math.MaxInt64, Currency: "GBP"}
	if _, err := most.Add(money.Money{Minor: 1, Currency: "GBP"}); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("Add: got %v", err)
	}
	if _, err := most.Times(2); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("Times: got %v", err)
	}
	if _, err := (money.Money{Minor: 1 << 40, Currency: "GBP"}).Times(1 << 40); !errors.Is(err, money.ErrOverflow) {
		t.Errorf("Times beyond 64 bits: got %v", err)
	}
}

func TestAdd_RefusesTwoCurrencies(t *testing.T) {
	t.Parallel()
	_, err := money.Money{Minor: 1, Currency: "GBP"}.Add(money.Money{Minor: 1, Currency: "EUR"})
	if !errors.Is(err, money.ErrCurrencies) {
		t.Errorf("got %v", err)
	}
}

func TestValidate_RefusesUnknownCurrencies(t *testing.T) {
	t.Parallel()
	for _, currency := range []string{"", "gbp", "GB", "XXX", "POUND"} {
		if err := (money.Money{Currency: currency}).Validate(); err == nil {
			t.Errorf("%q was accepted", currency)
		}
	}
}

func TestAdd_IsExactOrAnError(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		sum, err := money.Money{Minor: a, Currency: "EUR"}.Add(money.Money{Minor: b, Currency: "EUR"})
		overflows := b > 0 && a > math.MaxInt64-b || b < 0 && a < math.MinInt64-b
		if overflows != (err != nil) {
			t.Fatalf("%d + %d: %v, %v", a, b, sum, err)
		}
		if err == nil && sum.Minor-b != a {
			t.Fatalf("%d + %d = %d", a, b, sum.Minor)
		}
	})
}
