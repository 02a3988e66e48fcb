// Package money holds amounts of money as whole minor units. There are no
// floats: 0.1 has no binary fraction, and books that are off by a penny are wrong.
package money

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// Money is an amount in one currency.
type Money struct {
	// Minor is the amount in the currency's smallest unit: pence, yen, fils.
	Minor int64 `json:"minor"`

	// Currency is an ISO 4217 code in capitals.
	Currency string `json:"currency"`
}

var (
	// ErrOverflow means: the result does not fit 64 bits.
	ErrOverflow = errors.New("money: overflow")

	// ErrCurrencies means: amounts of two currencies cannot be added.
	ErrCurrencies = errors.New("money: different currencies")
)

// exponents, the numbers of decimal places, of the currencies that do not have two, and of
// the common ones that do. What is not listed is not accepted: guessing an exponent is off
// by a factor of ten or a hundred.
var exponents = map[string]int{
	"AED": 2, "AUD": 2, "BHD": 3, "BRL": 2, "CAD": 2, "CHF": 2, "CLP": 0, "CNY": 2, "COP": 2, "CZK": 2,
	"DKK": 2, "EGP": 2, "EUR": 2, "GBP": 2, "HKD": 2, "HUF": 2, "IDR": 2, "ILS": 2, "INR": 2, "IQD": 3,
	"ISK": 0, "JOD": 3, "JPY": 0, "KES": 2, "KRW": 0, "KWD": 3, "LYD": 3, "MAD": 2, "MXN": 2, "MYR": 2,
	"NGN": 2, "NOK": 2, "NZD": 2, "OMR": 3, "PEN": 2, "PHP": 2, "PKR": 2, "PLN": 2, "PYG": 0, "QAR": 2,
	"RON": 2, "RSD": 2, "SAR": 2, "SEK": 2, "SGD": 2, "THB": 2, "TND": 3, "TRY": 2, "TWD": 2, "UAH": 2,
	"UGX": 0, "USD": 2, "VND": 0, "XAF": 0, "XOF": 0, "ZAR": 2,
}

// Validate checks the currency. The sign is the caller's business.
func (m Money) Validate() error {
	if _, ok := exponents[m.Currency]; !ok {
		return fmt.Errorf("currency %q is not an ISO 4217 code that is accepted here", m.Currency)
	}
	return nil
}

// Add returns m + n.
func (m Money) Add(n Money) (Money, error) {
	if m.Currency != n.Currency {
		return Money{}, fmt.Errorf("%w: %s and %s", ErrCurrencies, m.Currency, n.Currency)
	}
	sum := m.Minor + n.Minor
	if (sum > m.Minor) != (n.Minor > 0) && n.Minor != 0 {
		return Money{}, ErrOverflow
	}
	return Money{Minor: sum, Currency: m.Currency}, nil
}

// Times returns m × n, for amounts and counts that are not negative.
func (m Money) Times(n int64) (Money, error) {
	if m.Minor < 0 || n < 0 {
		return Money{}, fmt.Errorf("money: %d × %d: negative", m.Minor, n)
	}
	high, low := bits.Mul64(uint64(m.Minor), uint64(n))
	if high != 0 || low > math.MaxInt64 {
		return Money{}, ErrOverflow
	}
	return Money{Minor: int64(low), Currency: m.Currency}, nil
}

// String shows the amount for people: "12.50 GBP", "1800 JPY".
func (m Money) String() string {
	exponent, sign, minor := exponents[m.Currency], "", uint64(m.Minor)
	if m.Minor < 0 {
		sign, minor = "-", -minor // unsigned, because the smallest int64 has no positive twin
	}
	digits := fmt.Sprintf("%0*d", exponent+1, minor)
	if whole := len(digits) - exponent; exponent > 0 {
		digits = digits[:whole] + "." + digits[whole:]
	}
	return sign + digits + " " + m.Currency
}
