package experiments

import (
	"slices"
	"testing"

	"github.com/google/uuid"
)

// drawn are the dice of all experiments under one seed, and a name of each.
func drawn(seed uint64, order []Experiment) (dice map[string]Dice, keys map[string]string) {
	dice, keys = map[string]Dice{}, map[string]string{}
	w := &World{Seed: seed}
	for _, e := range order {
		w.begin(e.ID, "with")
		dice[e.ID], keys[e.ID] = w.Dice, uuid.NewString()
	}
	return dice, keys
}

// The same seed is the same run, also of one experiment alone or in another order.
func TestDice_TheSameSeedIsTheSameRun(t *testing.T) {
	backwards := slices.Clone(All)
	slices.Reverse(backwards)
	dice, keys := drawn(1, All)
	diceAgain, keysAgain := drawn(1, backwards)
	different, known := 0, map[string]bool{}
	otherDice, otherKeys := drawn(2, All)
	for _, e := range All {
		if dice[e.ID] != diceAgain[e.ID] || keys[e.ID] != keysAgain[e.ID] {
			t.Errorf("%s: %+v %s, then %+v %s", e.ID, dice[e.ID], keys[e.ID], diceAgain[e.ID], keysAgain[e.ID])
		}
		if keys[e.ID] == otherKeys[e.ID] || known[keys[e.ID]] {
			t.Errorf("%s: %s is drawn twice", e.ID, keys[e.ID])
		}
		known[keys[e.ID]] = true
		if dice[e.ID] != otherDice[e.ID] {
			different++
		}
	}
	if different != len(All) {
		t.Errorf("another seed is another throw for %d of %d", different, len(All))
	}
}

// Both versions meet the same fault on the same amounts, and share no names.
func TestDice_AreTheSameForBothVersions(t *testing.T) {
	w := &World{Seed: 7}
	w.begin("saga", "without")
	dice, key := w.Dice, uuid.NewString()
	w.begin("saga", "with")
	if w.Dice != dice || uuid.NewString() == key {
		t.Errorf("%+v, then %+v; %s", dice, w.Dice, key)
	}
}
