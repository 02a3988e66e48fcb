package experiments

import "testing"

func TestMasked_HidesOnlyWhatDiffersFromRunToRun(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"POST again: 202, Location: /v1/orders/ord_01a20e07-488e-7de5-93e0-d13043e1c1fe", "POST again: 202, Location: /v1/orders/ord_*"},
		{"BEGIN; POST /v1/charges: ch_01a20e…; INSERT", "BEGIN; POST /v1/charges: *; INSERT"},
		{"since 2026-11-24T16:54:10.5Z, at 13:19:39.447", "since *, at *"},
		{"finished it, 4.2 s after the restart", "finished it, * after the restart"},
		{"POST: 202, 378 bytes", "POST: 202, *"},
		{"again with the same key: 202 (3 tries)", "again with the same key: 202 *"},
		{"padded  ", "padded"},

		// These are what the experiments show.
		{"Idempotency-Key: 2211871b…: no answer (true)", "Idempotency-Key: 2211871b…: no answer (true)"},
		{"4 tries, 4 with a valid signature", "4 tries, 4 with a valid signature"},
		{"the poison: parked after 5 tries", "the poison: parked after 5 tries"},
		{"2 sold, the balance moved by 75.00 instead of 50.00", "2 sold, the balance moved by 75.00 instead of 50.00"},
		{"27000 rows that are not needed", "27000 rows that are not needed"},
		{"two at once, for one order: 201, 409", "two at once, for one order: 201, 409"},
		{"stock reserved → authorised", "stock reserved → authorised"},
	} {
		if got := Masked(c.line); got != c.want {
			t.Errorf("%q becomes %q, want %q", c.line, got, c.want)
		}
	}
}
