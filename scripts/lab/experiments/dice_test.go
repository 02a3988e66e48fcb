package experiments

import "testing"

// The same seed is the same run, of one experiment alone and of all.
func TestDice_TheSameSeedIsTheSameRun(t *testing.T) {
	for _, e := range All {
		if again := throw(7, e.ID); throw(7, e.ID) != again || throw(8, e.ID) == again {
			t.Errorf("%s: %+v and %+v", e.ID, throw(7, e.ID), throw(8, e.ID))
		}
	}
}

// What the pages tell is one mug for 12.50, everywhere.
func TestDice_TheBookHasFixedNumbers(t *testing.T) {
	for _, e := range All {
		if d := throw(bookSeed, e.ID); d.Quantity != 1 || (&World{Dice: d}).price() != 1250 {
			t.Errorf("%s: %+v", e.ID, d)
		}
	}
}
